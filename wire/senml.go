package wire

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// senMLVersion is the version of SenML that RFC 8428 defines (section 4.4); what is not newer is understood.
const senMLVersion = 10

// relativeBelow divides SenML's times (section 4.5.3), in seconds: from it on they are since the epoch, below it they
// are relative to now.
const relativeBelow = 1 << 28

// labelOf returns the label that a number stands for in CBOR (table 6), "" where there is none. A negative one is
// -1-n.
func labelOf(negative bool, n uint64) string {
	base := [...]string{"bver", "bn", "bt", "bu", "bv", "bs"}
	regular := [...]string{"n", "u", "v", "vs", "vb", "s", "t", "ut", "vd"}
	switch {
	case negative && n < uint64(len(base)):
		return base[n]
	case !negative && n < uint64(len(regular)):
		return regular[n]
	}
	return ""
}

// pack is what resolving a SenML pack needs (section 4.6). Its records become readings as the hub's own model writes
// them, and are decoded from there: the limits and flaws are the same, and a reading in the quarantine can be retried.
type pack struct {
	device   string
	count    int // of the records so far
	name     []byte
	unit     []byte
	time     float64
	value    base
	sum      base
	version  float64 // 0: none was given
	resolved []record
	taken    [][]byte // names of the fields of the reading at hand
	text     []byte   // names and numbers that were put together
	out      []byte   // the readings
}

// base is a base value or a base sum.
type base struct {
	number float64
	given  bool
}

// record is a resolved record: the values of one field at one time. The values are JSON text, nil where there is none.
type record struct {
	name  []byte // of the field
	unit  []byte
	value []byte
	sum   []byte
	clock Clock
	at    int64 // ms, as in Reading.Time; before now where a relative time lies ahead
}

// entry is what a record says of itself: texts without their quotes, the others as JSON text, nil where absent.
type entry struct {
	name, unit                   []byte
	number, text, truth, content []byte // v, vs, vb, vd: at most one of them
	sum                          []byte
	time                         float64
	any                          bool // it is not of base fields only
	bad                          bool // a field is of the wrong type
}

const packBegins = `{"readings":[`

// maxFullName bounds a name with its base name, from which the device's own id is still to be cut, in bytes.
const maxFullName = MaxFieldName + MaxDeviceID + 32

// keptPack bounds the text that is kept for the next pack, in bytes.
const keptPack = 1 << 20

// DecodePack decodes a SenML pack (RFC 8428) of device, which a decoder has passed. Records of one time are one
// reading, one after the other in time; a record that cannot be used is a reading with a flaw. The error is of type
// [*Error] and means that the whole pack cannot be used.
func (d *Decoder) DecodePack(text []byte, device string, t *Telemetry) error {
	p := &d.pack
	if cap(p.out)+cap(p.text) > keptPack {
		*p = pack{}
	}
	*p = pack{device: device, resolved: p.resolved[:0], taken: p.taken[:0], text: p.text[:0], out: append(p.out[:0], packBegins...)}
	t.Reset()
	c := cursor{text: text}
	for c.enter(); c.more(); {
		p.count++
		if e := p.add(c.value()); e != nil {
			return e
		}
	}
	p.write()
	if len(p.out) == len(packBegins) {
		return badSenML("no record of the pack has a value")
	}
	p.out = append(p.out[:len(p.out)-1], "]}"...)
	if err := d.DecodeTelemetry(p.out, t); err != nil {
		return err
	}
	for _, r := range p.resolved {
		t.learnUnit(r)
	}
	return nil
}

func badSenML(format string, args ...any) *Error {
	return &Error{Code: CodeInvalidParams, Reason: ReasonBadSenML, Message: fmt.Sprintf(format, args...)}
}

// learnUnit notes the unit of a record's field, but not of one whose name is its unit.
func (t *Telemetry) learnUnit(r record) {
	if len(r.unit) == 0 || len(r.unit) > MaxUnit || r.value == nil || bytes.Equal(r.unit, r.name) || checkFieldName(r.name) != "" || !printable(r.unit) {
		return
	}
	t.Units = append(t.Units, Unit{Field: r.name, Symbol: r.unit})
}

// add resolves one record. One that cannot be used becomes an element of readings that is no reading, so that it is
// kept, as it stands, in the quarantine.
func (p *pack) add(text []byte) *Error {
	if text[0] != '{' {
		return badSenML("record %d is %s; a SenML pack is a list of objects", p.count, clip(text))
	}
	entry, e := p.read(text)
	if e != nil || !entry.any {
		return e
	}
	r, ok := p.resolve(&entry)
	if !ok {
		p.setAside(text)
		return nil
	}
	p.resolved = append(p.resolved, r)
	return nil
}

// setAside keeps a record as a pack of its own, behind the base fields that held for it.
func (p *pack) setAside(text []byte) {
	p.out = append(p.out, '[')
	from := len(p.out)
	if len(p.name) > 0 && joins(p.name, nil) {
		p.out = append(p.out, `,"bn":`...)
		p.out = appendText(p.out, p.name)
	}
	if len(p.unit) > 0 && joins(p.unit, nil) {
		p.out = append(p.out, `,"bu":`...)
		p.out = appendText(p.out, p.unit)
	}
	for _, number := range [...]struct {
		member string
		base   base
	}{{`,"bt":`, base{p.time, p.time != 0}}, {`,"bv":`, p.value}, {`,"bs":`, p.sum}} {
		if number.base.given {
			p.out = append(p.out, number.member...)
			p.out = appendNumber(p.out, number.base.number, 64)
		}
	}
	if len(p.out) > from {
		p.out[from] = '{' // where the first comma is
		p.out = append(p.out, "},"...)
	}
	p.out = append(p.out, text...)
	p.out = append(p.out, "],"...)
}

// joins reports whether a base name and a name can stand in a reading: many small records may share a base name, and a
// long one would make gigabytes of a frame.
func joins(base, own []byte) bool {
	return len(base)+len(own) <= maxFullName && writable(base) && writable(own)
}

// read takes the fields of a record (sections 4.1 to 4.4). A base field that is wrong costs the pack, since it holds
// for the records that follow.
func (p *pack) read(text []byte) (n entry, e *Error) {
	c := cursor{text: text}
	for c.enter(); c.more() && e == nil; {
		var label []byte
		label, p.text = unquote(p.text, c.quoted())
		value := c.value()
		switch string(label) {
		case "bn", "bu", "bt", "bv", "bs", "bver":
			e = p.setBase(label, value)
			continue
		case "n":
			n.name = p.string(value, &n.bad)
		case "u":
			n.unit = p.string(value, &n.bad)
		case "v":
			n.number = value
			n.bad = n.bad || !isNumber(value)
		case "vs":
			n.text = value
			n.bad = n.bad || value[0] != '"'
		case "vb":
			n.truth = value
			n.bad = n.bad || value[0] != 't' && value[0] != 'f'
		case "vd":
			n.content = p.base64url(value, &n.bad)
		case "s":
			n.sum = value
			n.bad = n.bad || !isNumber(value)
		case "t":
			n.time = finite(value, &n.bad)
		case "ut":
			finite(value, &n.bad) // when the next one comes at the latest: checked, not kept
		default:
			if bytes.HasSuffix(label, []byte("_")) {
				e = badSenML("record %d has the field %q, which must be understood and is not (RFC 8428 section 4.4)", p.count, clip(label))
			}
			continue
		}
		n.any = true
	}
	return n, e
}

func (p *pack) setBase(label, value []byte) *Error {
	bad := false
	switch string(label) {
	case "bn":
		p.name = p.string(value, &bad)
	case "bu":
		p.unit = p.string(value, &bad)
	case "bt":
		p.time = finite(value, &bad)
	case "bv":
		p.value = base{finite(value, &bad), true}
	case "bs":
		p.sum = base{finite(value, &bad), true}
	case "bver":
		version := finite(value, &bad)
		switch {
		case bad || version < 1 || version != math.Trunc(version):
			bad = true
		case version > senMLVersion:
			return badSenML("record %d: bver is %v; the hub understands SenML up to %d", p.count, version, senMLVersion)
		case p.version != 0 && p.version != version:
			return badSenML("record %d: bver is %v, and was %v; a pack has one version", p.count, version, p.version)
		}
		p.version = version
	}
	if bad {
		return badSenML("record %d: %s is %s, which is of the wrong type or out of range", p.count, label, clip(value))
	}
	return nil
}

// resolve applies the base fields (section 4.5). It fails where the record has not exactly one value, or a sum alone.
func (p *pack) resolve(n *entry) (r record, ok bool) {
	var values int
	for _, value := range [...][]byte{n.number, n.text, n.truth, n.content} {
		if value != nil {
			r.value = value
			values++
		}
	}
	if n.bad || values > 1 || !joins(p.name, n.name) || !joins(p.unit, n.unit) {
		return r, false
	}
	numeric := values == 0 || n.number != nil
	switch {
	case n.number != nil:
		r.value = p.plus(n.number, p.value)
	case values == 0 && n.sum == nil && p.value.given:
		r.value = p.plus([]byte("0"), p.value)
	}
	switch {
	case n.sum != nil:
		r.sum = p.plus(n.sum, p.sum)
	case numeric && p.sum.given:
		r.sum = p.plus([]byte("0"), p.sum)
	}
	if r.unit = n.unit; r.unit == nil {
		r.unit = p.unit
	}
	r.name = p.field(n.name, r.unit)
	r.clock, r.at = senMLTime(p.time + n.time)
	return r, r.value != nil || r.sum != nil
}

// senMLTime returns what seconds mean (section 4.5.3). What lies ahead of now is told as a negative age, which is none.
func senMLTime(seconds float64) (Clock, int64) {
	ms := math.Round(min(max(seconds*1000, -2*farTime), 2*farTime))
	switch {
	case seconds >= relativeBelow:
		return ClockGiven, int64(ms)
	case ms == 0:
		return ClockNone, 0
	}
	return ClockAge, -int64(ms)
}

// plus returns the text of a number and a base together. Where the sum of two decimals is not whole it has 15 digits,
// which a double always holds: 0.1 and 0.2 are 0.3 and not 0.30000000000000004.
func (p *pack) plus(number []byte, b base) []byte {
	f, err := strconv.ParseFloat(string(number), 64)
	if !b.given || err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return number // if it is none, that is a flaw of the reading
	}
	from := len(p.text)
	switch f += b.number; {
	case math.IsInf(f, 0):
		return []byte("1e999")
	case f == math.Trunc(f):
		p.text = appendNumber(p.text, f, 64)
	default:
		p.text = strconv.AppendFloat(p.text, f, 'g', 15, 64)
	}
	return p.text[from:len(p.text):len(p.text)]
}

// field returns the name of the field that a record's name stands for (section 4.5.1): what is left when the device's
// own id is cut off. Where nothing is left it is the unit, as in a pack that tells lon and lat of a device by their
// units alone, or "value".
func (p *pack) field(name, unit []byte) []byte {
	full := name
	if len(p.name) > 0 {
		from := len(p.text)
		p.text = append(p.text, p.name...)
		p.text = append(p.text, name...)
		full = p.text[from:len(p.text):len(p.text)]
	}
	switch own := cutDevice(full, p.device); {
	case len(own) > 0:
		return own
	case len(unit) > 0:
		return unit
	}
	return []byte("value")
}

// cutDevice cuts off the device's id from the beginning of a name, or a URN that ends with it, as in
// urn:dev:ow:10e2073a01080063:temp of the device 10e2073a01080063, and the separator that follows.
func cutDevice(name []byte, device string) []byte {
	if device == "" {
		return name
	}
	isURN := len(name) > 4 && strings.EqualFold(string(name[:4]), "urn:")
	for from := 0; from >= 0 && from+len(device) <= len(name); {
		end := from + len(device)
		separated := end == len(name) || bytes.IndexByte([]byte(":/_"), name[end]) >= 0
		if separated && strings.EqualFold(string(name[from:end]), device) {
			return name[min(end+1, len(name)):]
		}
		next := bytes.IndexByte(name[from:], ':') + 1
		if !isURN || next == 0 {
			break
		}
		from += next
	}
	return name
}
