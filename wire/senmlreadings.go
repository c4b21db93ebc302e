package wire

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"strings"
)

// byTime compares the times of two records: those that are given, and then those that are relative to now.
func byTime(one, other record) int {
	given, otherGiven := one.clock == ClockGiven, other.clock == ClockGiven
	switch {
	case given && otherGiven:
		return cmp.Compare(one.at, other.at)
	case given:
		return -1
	case otherGiven:
		return 1
	}
	return cmp.Compare(other.at, one.at) // ages, 0 where the time is now
}

// write appends the resolved records as readings, in order of their times.
func (p *pack) write() {
	if !slices.IsSortedFunc(p.resolved, byTime) {
		slices.SortStableFunc(p.resolved, byTime)
	}
	for i := range p.resolved {
		r := &p.resolved[i]
		sum := p.sumName(r)
		if i == 0 || byTime(p.resolved[i-1], *r) != 0 || p.isTaken(r.name) || p.isTaken(sum) {
			p.end(i > 0)
			p.begin(r)
		}
		if r.value != nil {
			p.writeField(r.name, r.value)
		}
		if r.sum != nil {
			p.writeField(sum, r.sum)
		}
	}
	p.end(len(p.resolved) > 0)
}

func (p *pack) begin(r *record) {
	p.taken = p.taken[:0]
	p.out = append(p.out, '{')
	switch r.clock {
	case ClockGiven:
		p.out = append(p.out, `"ts":`...)
		p.out = strconv.AppendInt(p.out, r.at, 10)
		p.out = append(p.out, ',')
	case ClockAge:
		p.out = append(p.out, `"age_ms":`...)
		p.out = strconv.AppendInt(p.out, r.at, 10)
		p.out = append(p.out, ',')
	}
	p.out = append(p.out, `"values":{`...)
}

func (p *pack) end(begun bool) {
	if begun {
		p.out = append(p.out, "}},"...)
	}
}

func (p *pack) writeField(name, value []byte) {
	if len(p.taken) > 0 {
		p.out = append(p.out, ',')
	}
	p.taken = append(p.taken, name)
	p.out = appendText(p.out, name)
	p.out = append(p.out, ':')
	p.out = append(p.out, value...)
}

func (p *pack) sumName(r *record) []byte {
	if r.sum == nil {
		return nil
	}
	from := len(p.text)
	p.text = append(p.text, r.name...)
	p.text = append(p.text, "_sum"...)
	return p.text[from:len(p.text):len(p.text)]
}

// isTaken reports whether the reading at hand has the field. Of one with too many fields nobody cares.
func (p *pack) isTaken(name []byte) bool {
	if name == nil || len(p.taken) > MaxFields {
		return false
	}
	return slices.ContainsFunc(p.taken, func(taken []byte) bool { return bytes.Equal(taken, name) })
}

// string returns a text without its quotes.
func (p *pack) string(value []byte, bad *bool) (text []byte) {
	if value[0] != '"' {
		*bad = true
		return nil
	}
	text, p.text = unquote(p.text, value)
	return text
}

// base64url returns binary data as a JSON string: as JSON bears it, and CBOR's bytes as JSON would.
func (p *pack) base64url(value []byte, bad *bool) []byte {
	if value[0] == '"' {
		text, _ := unquote(nil, value)
		if _, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(string(text), "=")); err != nil {
			*bad = true
		}
		return value
	}
	if value[0] != 'h' {
		*bad = true
		return value
	}
	from := len(p.text)
	content, _ := hex.DecodeString(string(value[2 : len(value)-1])) // written by the transcoder
	p.text = append(p.text, '"')
	p.text = base64.RawURLEncoding.AppendEncode(p.text, content)
	p.text = append(p.text, '"')
	return p.text[from:len(p.text):len(p.text)]
}

// isNumber also takes what only CBOR has words for: that is a flaw of the reading, which its reason tells.
func isNumber(value []byte) bool {
	return value[0] == '-' || value[0] >= '0' && value[0] <= '9' || value[0] == 'N' || value[0] == 'I'
}

// finite returns a number.
func finite(value []byte, bad *bool) float64 {
	f, err := strconv.ParseFloat(string(value), 64)
	if !isNumber(value) || err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		*bad = true
		return 0
	}
	return f
}
