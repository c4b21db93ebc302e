package wire

import (
	"math"
	"strconv"
	"time"
)

// Clock says what a reading's Time is.
type Clock uint8

// The three clocks of a reading.
const (
	ClockNone  Clock = iota // no time: it gets the time of its receipt
	ClockGiven              // Time is ms since the Unix epoch
	ClockAge                // Time is its age in ms when it was sent
)

// FieldKind is the type of a field's value.
type FieldKind uint8

// The types of a field's value. They stand in envelopes as these numbers.
const (
	Float  FieldKind = 1
	String FieldKind = 2
	True   FieldKind = 3
	False  FieldKind = 4
)

// Field is one named value. Text is the value of a String and Number that of a Float.
type Field struct {
	Name   []byte
	Text   []byte
	Number float64
	Kind   FieldKind
}

// Reading is what a device measured at one time: a set of fields that is stored whole or quarantined whole.
type Reading struct {
	Fields []Field
	Raw    []byte // its text: JSON as received, or what was received rewritten
	Flaw   string // the reason why it cannot be stored, "" when it can
	Time   int64
	Clock  Clock
}

// Unit says in which unit (RFC 8428 section 12.1) the values of a field are.
type Unit struct{ Field, Symbol []byte }

// Telemetry is the content of one telemetry message. Its byte slices are views that live until the decoder's next
// call. Reading number i has the number Seq+i; Seq is 0 where the device numbers nothing.
type Telemetry struct {
	Measurement []byte // nil: DefaultMeasurement
	Boot        []byte // nil: what hello said
	Seq         uint64
	Readings    []Reading
	Units       []Unit // what the frame says of its fields' units

	fields []Field
	text   []byte
	nested bool // the reading at hand has an object within its values,
	dotted bool // and a name with a dot
}

// Reset empties t and keeps its memory.
func (t *Telemetry) Reset() {
	t.Measurement, t.Boot, t.Seq, t.Units = nil, nil, 0, t.Units[:0]
	t.Readings, t.fields, t.text = t.Readings[:0], t.fields[:0], t.text[:0]
}

// DecodePayload decodes one telemetry object of JSON, as [Decoder.DecodePayloadAs] does.
func (d *Decoder) DecodePayload(data []byte, t *Telemetry) error {
	return d.DecodePayloadAs(data, Dialect{}, "", t)
}

// DecodePayloadAs decodes one telemetry object as MQTT and HTTP bear it: with values or readings it is a telemetry's
// params, else it is the values themselves; or a SenML pack of device. The error is of type [*Error].
func (d *Decoder) DecodePayloadAs(data []byte, as Dialect, device string, t *Telemetry) error {
	text, e := d.open(data, as)
	switch {
	case e != nil:
		return e
	case text[0] == '{':
		return d.DecodeBare(text, t)
	case text[0] == '[' && as.SenML:
		return d.DecodePack(text, device, t)
	}
	return badFrame("telemetry is an object of values, or of readings[]")
}

// DecodeBare decodes an object that a decoder has passed: a telemetry's params or the values themselves.
func (d *Decoder) DecodeBare(text []byte, t *Telemetry) error {
	if len(text) == 0 {
		return badFrame("telemetry is an object of values, or of readings[]")
	}
	if t.hasReadings(text) {
		return d.DecodeTelemetry(text, t)
	}
	t.Reset()
	t.add(text, text, ClockNone, 0, "")
	return nil
}

func (t *Telemetry) hasReadings(object []byte) bool {
	c := cursor{text: object}
	for c.enter(); c.more(); c.value() {
		var name []byte
		name, t.text = unquote(t.text[:0], c.quoted())
		switch string(name) {
		case "values", "readings":
			return true
		}
	}
	return false
}

// DecodeTelemetry decodes the params of a telemetry frame. The error is of type [*Error] and means that the frame
// cannot be used; what is wrong with a single reading is its Flaw.
func (d *Decoder) DecodeTelemetry(params []byte, t *Telemetry) error {
	t.Reset()
	if len(params) == 0 || params[0] != '{' {
		return badParams("telemetry needs params{} with values{} or readings[]")
	}
	var values, readings []byte
	clock, at, flaw := ClockNone, int64(0), ""
	c := cursor{text: params}
	for c.enter(); c.more(); {
		var name []byte
		name, t.text = unquote(t.text, c.quoted())
		value := c.value()
		switch string(name) {
		case "values":
			values = value
		case "readings":
			readings = value
		case "ts", "age_ms":
			clock, at, flaw = decodeTime(name, value, clock, at, flaw)
		case "seq":
			n, err := strconv.ParseUint(string(value), 10, 64)
			if err != nil || n == 0 || n > MaxSeq {
				return badParams("seq is %s; it is a whole number from 1 to %d", clip(value), MaxSeq)
			}
			t.Seq = n
		case "boot", "measurement":
			if e := t.name(name, value); e != nil {
				return e
			}
		}
	}
	switch {
	case values != nil && readings != nil:
		return badParams("telemetry has values{} or readings[], not both")
	case values != nil:
		t.add(values, params, clock, at, flaw)
	case readings != nil:
		if e := t.addAll(readings, clock, at, flaw); e != nil {
			return e
		}
	default:
		return badParams("telemetry needs values{} or readings[]")
	}
	if t.Seq > MaxSeq-uint64(len(t.Readings))+1 {
		return badParams("seq is %d and %d readings follow; the last would be over %d", t.Seq, len(t.Readings), MaxSeq)
	}
	return nil
}

// name takes boot and measurement.
func (t *Telemetry) name(member, value []byte) error {
	if value[0] != '"' {
		return badParams("%s is a text", member)
	}
	var text []byte
	text, t.text = unquote(t.text, value)
	if string(member) == "boot" {
		if len(text) == 0 || len(text) > MaxBoot || !printable(text) {
			return badParams("boot has %d bytes; it is a text of 1 to %d bytes without control characters", len(text), MaxBoot)
		}
		t.Boot = text
		return nil
	}
	if !IsMeasurement(text) {
		return badParams("measurement %q: it is a text of 1 to %d bytes without control characters and backslashes, and not # first", clip(text), MaxMeasurement)
	}
	t.Measurement = text
	return nil
}

func (t *Telemetry) addAll(readings []byte, clock Clock, at int64, flaw string) error {
	if readings[0] != '[' {
		return badParams("readings is a list of {ts or age_ms, values{}}")
	}
	c := cursor{text: readings}
	for c.enter(); c.more(); {
		if len(t.Readings) == MaxReadings {
			return &Error{Code: CodeInvalidParams, Reason: ReasonBadParams, Message: "too many readings in one frame", Limit: MaxReadings}
		}
		t.addOne(c.value(), clock, at, flaw)
	}
	if len(t.Readings) == 0 {
		return badParams("readings is empty")
	}
	return nil
}

// addOne takes one element of readings; clock and at are those of the frame.
func (t *Telemetry) addOne(reading []byte, clock Clock, at int64, flaw string) {
	if reading[0] != '{' {
		t.Readings = append(t.Readings, Reading{Raw: reading, Flaw: ReasonBadReading})
		return
	}
	var values []byte
	c := cursor{text: reading}
	own := false
	for c.enter(); c.more(); {
		var name []byte
		name, t.text = unquote(t.text, c.quoted())
		value := c.value()
		switch string(name) {
		case "values":
			values = value
		case "ts", "age_ms":
			if !own {
				clock, at, flaw, own = ClockNone, 0, "", true
			}
			clock, at, flaw = decodeTime(name, value, clock, at, flaw)
		}
	}
	if values == nil {
		t.Readings = append(t.Readings, Reading{Raw: reading, Flaw: ReasonNoValues})
		return
	}
	t.add(values, reading, clock, at, flaw)
}

// add appends one reading.
func (t *Telemetry) add(values, raw []byte, clock Clock, at int64, flaw string) {
	r := Reading{Raw: raw, Clock: clock, Time: at, Flaw: flaw}
	if r.Flaw == "" {
		from := len(t.fields)
		r.Flaw = t.decodeValues(values)
		r.Fields = t.fields[from:len(t.fields):len(t.fields)]
	}
	t.Readings = append(t.Readings, r)
}

// farTime bounds what is called a time at all: some 31,000 years in ms.
const farTime = 1e15

// decodeTime reads ts and age_ms; where a reading has both, ts wins, whichever comes first and whatever age_ms holds.
func decodeTime(name, value []byte, clock Clock, at int64, flaw string) (Clock, int64, string) {
	if string(name) == "age_ms" {
		age, err := strconv.ParseFloat(string(value), 64)
		switch {
		case clock == ClockGiven:
		case err != nil || !(age >= 0 && age <= farTime): // NaN is neither
			flaw = ReasonBadTime
		default:
			clock, at = ClockAge, int64(math.Round(age))
		}
		return clock, at, flaw
	}
	if value[0] == '"' {
		text, _ := unquote(nil, value)
		when, err := time.Parse(time.RFC3339Nano, string(text))
		if err != nil {
			return clock, at, ReasonBadTime
		}
		return ClockGiven, when.UnixMilli(), ""
	}
	ms, err := strconv.ParseFloat(string(value), 64)
	if err != nil || !(math.Abs(ms) <= farTime) {
		return clock, at, ReasonBadTime
	}
	return ClockGiven, int64(math.Round(ms)), ""
}
