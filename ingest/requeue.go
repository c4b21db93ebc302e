package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"telemetryhub/wire"
)

// Reasons why a retry cannot begin.
var (
	errNoFrame   = errors.New("there is no frame to retry: the reading was in a damaged envelope")
	errFrameCut  = errors.New("only the beginning of its line was kept")
	errTimeLost  = errors.New("its time stood in the frame around it, which was not kept")
	errNoReading = errors.New("the frame is not a reading")
)

func appendSettlement(dst []byte, kind byte, prior uint64, q *Quarantined, t *wire.Telemetry) []byte {
	from := len(dst)
	dst = openEntry(dst, kind)
	dst = appendText(dst, q.Device)
	dst = binary.AppendUvarint(dst, prior)
	dst = binary.AppendUvarint(dst, q.ID)
	dst = binary.AppendUvarint(dst, q.at.sequence)
	dst = binary.AppendUvarint(dst, q.at.reading)
	received := q.Received.UnixMilli()
	if kind == entryDrop {
		dst = binary.AppendVarint(dst, received)
		dst = binary.AppendUvarint(dst, q.Count)
		closeEntry(dst, from)
		return dst
	}
	dst = appendText(dst, q.Boot)
	dst = appendText(dst, t.Measurement)
	dst = binary.AppendUvarint(dst, q.Seq)
	dst = binary.AppendVarint(dst, received)
	dst = appendReading(dst, &t.Readings[0], received)
	closeEntry(dst, from)
	return dst
}

// settlement reads what appendSettlement wrote after device and prior.
func (e *entry) settlement(s *source) {
	e.settles = s.uvarint()
	e.place = asideKey{sequence: s.uvarint(), reading: s.uvarint()}
	if e.kind == entryDrop {
		e.received, e.count = s.varint(), s.uvarint()
		return
	}
	e.boot, e.measurement = s.text(), s.text()
	e.seq, e.received, e.count = s.uvarint(), s.varint(), 1
	e.readings = *s
}

// telemetry decodes the frame anew, with the time that it had or was received at. What is still wrong with it is its
// flaw. The error says why it cannot be tried.
func (q *Quarantined) telemetry(limits TimeLimits) (*wire.Telemetry, error) {
	if q.Reason == reasonDamaged && q.Frame == "" {
		return nil, errNoFrame
	}
	received := q.Received.UnixMilli()
	if q.Frame == "" || q.Frame[0] != '{' {
		return parseLine([]byte(q.Frame))
	}
	if q.Reason == wire.ReasonNoValues {
		return nil, errNoReading // alone, it would pass for bare values
	}
	var d wire.Decoder
	t := &wire.Telemetry{}
	decode := d.DecodePayload
	if q.Measurement == wire.EventMeasurement && bytes.Contains([]byte(q.Frame), []byte(`"name"`)) {
		decode = d.DecodeEvent
	}
	if err := decode([]byte(q.Frame), t); err != nil {
		return nil, fmt.Errorf("decode the frame: %w", err)
	}
	if len(t.Readings) != 1 {
		return nil, errNoReading
	}
	t.Measurement = []byte(q.Measurement)
	r := &t.Readings[0]
	timed := q.Reason == wire.ReasonTimePast || q.Reason == wire.ReasonTimeFuture
	switch {
	case r.Flaw != "":
		return t, nil
	case r.Clock == wire.ClockNone && timed:
		return nil, errTimeLost
	case r.Clock == wire.ClockNone:
		r.Time = received
	case r.Clock == wire.ClockAge:
		r.Time = received - r.Time
	}
	r.Clock = wire.ClockGiven
	r.Flaw = limits.flaw(r.Time, received)
	return t, nil
}

// flaw returns what is wrong with a time, "" if nothing is.
func (l TimeLimits) flaw(at, received int64) string {
	switch {
	case at < l.Past.UnixMilli():
		return wire.ReasonTimePast
	case at > received+l.Future.Milliseconds():
		return wire.ReasonTimeFuture
	}
	return ""
}

// parseLine reads back a line that appendLine wrote: one point of one device, its time in ms.
func parseLine(line []byte) (*wire.Telemetry, error) {
	p := lineParser{rest: line}
	t := &wire.Telemetry{Measurement: p.name(", ")}
	p.skip(',')
	for p.name("=") != nil && !p.failed { // tags
		p.skip('=')
		p.name(", ")
		if !p.skips(',') {
			break
		}
	}
	p.skip(' ')
	r := wire.Reading{Clock: wire.ClockGiven}
	for !p.failed {
		f := wire.Field{Name: p.name("=")}
		p.skip('=')
		p.value(&f)
		r.Fields = append(r.Fields, f)
		if !p.skips(',') {
			break
		}
	}
	p.skip(' ')
	var err error
	if r.Time, err = strconv.ParseInt(string(bytes.TrimRight(p.rest, "\n")), 10, 64); err != nil || p.failed {
		return nil, errFrameCut
	}
	t.Readings = []wire.Reading{r}
	return t, nil
}

// lineParser reads line protocol from left to right.
type lineParser struct {
	rest   []byte
	failed bool
}

// name reads up to one of ends, without the backslashes that escape.
func (p *lineParser) name(ends string) []byte {
	var name []byte
	for i := 0; i < len(p.rest); i++ {
		c := p.rest[i]
		if c == '\\' && i+1 < len(p.rest) && (p.rest[i+1] == ',' || p.rest[i+1] == '=' || p.rest[i+1] == ' ') {
			i++
			name = append(name, p.rest[i])
			continue
		}
		if bytes.IndexByte([]byte(ends), c) >= 0 {
			p.rest = p.rest[i:]
			p.failed = p.failed || len(name) == 0
			return name
		}
		name = append(name, c)
	}
	p.failed = true
	return nil
}

func (p *lineParser) skips(c byte) bool {
	if len(p.rest) > 0 && p.rest[0] == c {
		p.rest = p.rest[1:]
		return true
	}
	return false
}

func (p *lineParser) skip(c byte) { p.failed = !p.skips(c) || p.failed }

// value reads a field's value: a number (the mark of an integer is passed over), a text, true or false.
func (p *lineParser) value(f *wire.Field) {
	if p.skips('"') {
		f.Kind, f.Text = wire.String, []byte{}
		for i := 0; i < len(p.rest); i++ {
			switch c := p.rest[i]; {
			case c == '\\' && i+1 < len(p.rest) && (p.rest[i+1] == '"' || p.rest[i+1] == '\\'):
				i++
				f.Text = append(f.Text, p.rest[i])
			case c == '"':
				p.rest = p.rest[i+1:]
				return
			default:
				f.Text = append(f.Text, c)
			}
		}
		p.failed = true
		return
	}
	end := bytes.IndexAny(p.rest, ", ")
	if end < 0 {
		p.failed = true
		return
	}
	text := string(p.rest[:end])
	p.rest = p.rest[end:]
	switch text {
	case "true":
		f.Kind = wire.True
	case "false":
		f.Kind = wire.False
	default:
		if text != "" && text[len(text)-1] == 'i' {
			text = text[:len(text)-1]
		}
		number, err := strconv.ParseFloat(text, 64)
		f.Kind, f.Number, p.failed = wire.Float, number, p.failed || err != nil
	}
}
