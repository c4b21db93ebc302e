package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	jsonv2 "github.com/go-json-experiment/json"
)

// unmarshal decodes an object whose members are known by their exact names; encoding/json would take BOOT for boot. It
// returns what is wrong, for the device's eyes: "" when nothing is.
func unmarshal(data []byte, v any) (fault string) {
	err := jsonv2.Unmarshal(data, v)
	var semantic *jsonv2.SemanticError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &semantic) && semantic.JSONPointer != "":
		return fmt.Sprintf("%s is of the wrong type or out of range", clip([]byte(semantic.JSONPointer)))
	}
	return "it is an object"
}

// Hello is what a device says of itself in its first frame. All members are optional.
type Hello struct {
	Boot       string         `json:"boot"`
	Time       int64          `json:"time"` // the device's clock, ms since the epoch
	Firmware   string         `json:"firmware"`
	Model      string         `json:"model"`
	Attributes map[string]any `json:"attributes"`
	Methods    []string       `json:"methods"`
	KeepaliveS int            `json:"keepalive_s"`
	MaxFrame   int            `json:"max_frame"` // bytes of the largest frame that it takes; 0: as large as the hub's
	Ack        bool           `json:"ack"`       // wants hub.ack{count} for frames without seq
}

// Welcome answers hello.
type Welcome struct {
	Device     string `json:"device"`
	Session    uint64 `json:"session"`
	Time       int64  `json:"time"`          // the hub's clock, ms since the epoch
	Ack        uint64 `json:"ack,omitempty"` // last durable seq of this boot
	KeepaliveS int    `json:"keepalive_s"`
	MaxFrame   int    `json:"max_frame"`
	Pending    int    `json:"pending"` // commands that wait for the device
	State
}

// DecodeHello decodes hello's params; absent params are an empty hello. The error is of type [*Error].
func DecodeHello(params []byte) (Hello, error) {
	if len(params) == 0 {
		return Hello{}, nil
	}
	var p struct {
		Hello
		Time float64 `json:"time"` // a clock may have a fraction, as in ts
	}
	if fault := unmarshal(params, &p); fault != "" {
		return Hello{}, badParams("hello: %s", fault)
	}
	h := p.Hello
	h.Time = int64(math.Round(p.Time))
	if math.Abs(p.Time) > farTime {
		return h, badParams("hello: time is ms since 1970")
	}
	if len(h.Boot) > MaxBoot || !printable([]byte(h.Boot)) {
		return h, badParams("hello: boot has %d bytes; it is a text of at most %d bytes without control characters", len(h.Boot), MaxBoot)
	}
	const longest = 256
	if len(h.Firmware) > longest || len(h.Model) > longest {
		return h, badParams("hello: firmware and model have at most %d bytes", longest)
	}
	if h.KeepaliveS < 0 || h.MaxFrame < 0 {
		return h, badParams("hello: keepalive_s and max_frame are not negative")
	}
	return h, nil
}

// EventMeasurement is where events are stored.
const EventMeasurement = "event"

// DecodeEvent decodes an event of JSON that came by itself, as [Decoder.DecodeEventParams] does.
func (d *Decoder) DecodeEvent(data []byte, t *Telemetry) error {
	return d.DecodeEventAs(data, Dialect{}, t)
}

// DecodeEventAs decodes an event that came by itself, as MQTT bears it. The error is of type [*Error].
func (d *Decoder) DecodeEventAs(data []byte, as Dialect, t *Telemetry) error {
	if len(data) == 0 {
		return d.DecodeEventParams(nil, t)
	}
	params, e := d.open(data, as)
	if e != nil {
		return e
	}
	return d.DecodeEventParams(params, t)
}

// DecodeEventParams decodes an event's params, which a decoder has passed, into one reading of the measurement "event"
// with the fields name, severity and data.*. The error is of type [*Error].
func (d *Decoder) DecodeEventParams(params []byte, t *Telemetry) error {
	t.Reset()
	if len(params) == 0 || params[0] != '{' {
		return badParams("event needs params{} with name")
	}
	var name, severity, content []byte
	clock, at, flaw := ClockNone, int64(0), ""
	c := cursor{text: params}
	for c.enter(); c.more(); {
		var member []byte
		member, t.text = unquote(t.text, c.quoted())
		value := c.value()
		switch string(member) {
		case "name":
			name = value
		case "severity":
			severity = value
		case "data":
			content = value
		case "ts", "age_ms":
			clock, at, flaw = decodeTime(member, value, clock, at, flaw)
		}
	}
	if len(name) < 3 || name[0] != '"' {
		return badParams("event needs a name")
	}
	if severity == nil || severity[0] == 'n' {
		severity = []byte(`"info"`)
	}
	if content == nil || content[0] == 'n' {
		content = []byte(`{}`)
	}
	// A store fixes a field's type by its first value: of another type it would spoil the events that follow.
	if severity[0] != '"' || content[0] != '{' {
		return badParams("event: severity is a text and data an object")
	}
	values := fmt.Appendf(nil, `{"name":%s,"severity":%s,"data":%s}`, name, severity, content)
	t.Measurement = []byte(EventMeasurement)
	t.add(values, params, clock, at, flaw)
	return nil
}

// Answer is a device's answer to a command: exactly one of Result and Fault is there. Session fencing and the
// command's state are the ledger's.
type Answer struct {
	ID     string
	Result json.RawMessage // JSON text
	Fault  json.RawMessage // the error member, JSON text
	Code   int             // the error's code
}

// Answer turns a frame of [KindAnswer] into an answer that outlives the frame. The error is of type [*Error].
func (f Frame) Answer() (Answer, error) {
	a := Answer{Result: append(json.RawMessage(nil), f.Result...), Fault: append(json.RawMessage(nil), f.Fault...)}
	if fault := unmarshal(f.ID, &a.ID); fault != "" {
		return a, badFrame("the answer's id is %s; it is the command's id, a text", clip(f.ID))
	}
	if f.Fault != nil {
		var fault struct {
			Code    *int   `json:"code"`
			Message string `json:"message"`
		}
		if unmarshal(f.Fault, &fault) != "" || fault.Code == nil {
			return a, badFrame("the answer's error is an object with code and message")
		}
		a.Code = *fault.Code
	}
	return a, nil
}

// DecodeAnswer decodes an answer of JSON that came by itself, as [Decoder.DecodeAnswerAs] does.
func (d *Decoder) DecodeAnswer(data []byte) (Answer, error) { return d.DecodeAnswerAs(data, Dialect{}) }

// DecodeAnswerAs decodes an answer that came by itself, as MQTT bears it. The error is of type [*Error].
func (d *Decoder) DecodeAnswerAs(data []byte, as Dialect) (Answer, error) {
	f, err := d.Decode(data, as)
	if err != nil {
		return Answer{}, err
	}
	if f.Kind != KindAnswer {
		return Answer{}, badFrame("an answer is an object with the command's id and a result or an error")
	}
	return f.Answer()
}

// The two words of progress.
const (
	ProgressReceived = "received"
	ProgressRunning  = "running"
)

// Progress is what a device says of a command while it works on it.
type Progress struct {
	ID      string  `json:"id"`
	Status  string  `json:"status"`  // ProgressReceived or ProgressRunning
	Percent float64 `json:"percent"` // 0 to 100
	Message string  `json:"message"`
}

// DecodeProgress decodes progress's params. The error is of type [*Error].
func DecodeProgress(params []byte) (Progress, error) {
	var p Progress
	if len(params) == 0 || unmarshal(params, &p) != "" || p.ID == "" {
		return p, badParams("progress needs params{} with the command's id, and status, percent, message")
	}
	if p.Status == "" {
		p.Status = ProgressRunning
	}
	if p.Status != ProgressReceived && p.Status != ProgressRunning {
		return p, badParams("progress: status is %q; it is received or running", clip([]byte(p.Status)))
	}
	if p.Percent < 0 || p.Percent > 100 {
		return p, badParams("progress: percent is %v; it is from 0 to 100", p.Percent)
	}
	return p, nil
}
