package bridge

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"telemetryhub/bridge/maps"
	"telemetryhub/devices"
	"telemetryhub/devices/state"
	"telemetryhub/wire"
)

// message is one PUBLISH on its way in.
type message struct {
	topic    string
	payload  []byte
	qos      byte
	retained bool
	at       time.Time // of its receipt from the external broker; zero: the broker had it before, nobody knows since when
	packetID uint16    // of the embedded broker, with QoS 1 and 2
	extras   *extras   // nil: none
}

// extras are the properties of an MQTT 5 message that go with it to other devices (section 3.3.2.3). They make no
// reading: what a message says to the hub is its payload.
type extras struct {
	expiry      time.Duration // 0: none
	text        bool          // the payload is UTF-8
	contentType string
	response    string
	correlation []byte
	user        []userProperty
}

type userProperty struct{ key, value string }

// scratch is what decoding one message needs; it is kept and used again.
type scratch struct {
	decoder   wire.Decoder
	telemetry wire.Telemetry
	maps      maps.Scratch
}

// scratches keeps scratch for goroutines that decode now and then.
type scratches struct{ pool sync.Pool }

func (s *scratches) get() *scratch {
	if kept, ok := s.pool.Get().(*scratch); ok {
		return kept
	}
	return new(scratch)
}

func (s *scratches) put(kept *scratch) { s.pool.Put(kept) }

// refusal says why a message is not taken.
type refusal struct {
	reason  string // for counters
	message string // for people
	code    reasonCode
	unacked bool  // MQTT 3.1.1 is told by no acknowledgement: the device is to send the message again, on another connection
	limit   int64 // that was passed; 0: none
	value   int64 // what was measured against it
}

// event is how the device's flight recorder has it.
func (r *refusal) event() devices.Event {
	e := devices.Event{Kind: devices.EventUnusable, Reason: r.reason, Message: r.message, Limit: r.limit, Value: r.value}
	if r.limit > 0 {
		e.Kind = devices.EventLimit
	}
	return e
}

func (r *refusal) Error() string { return r.reason + ": " + r.message }

// checkSize refuses a payload that is too large before it is looked at.
func checkSize(size, limit int64) *refusal {
	if size <= limit {
		return nil
	}
	return &refusal{
		reason: wire.ReasonTooLarge, code: codePacketTooLarge, limit: limit, value: size,
		message: fmt.Sprintf("the payload has %d bytes; the limit is %d", size, limit),
	}
}

// decode reads a telemetry or event payload of device into s.telemetry, in whatever dialect it is: 3.1.1 has no word for
// that, and the first byte tells. A retained message is not new: a reading in it needs a time of its own, of the kind
// that clockOK accepts.
func (s *scratch) decode(device string, about subject, m message, clockOK func(wire.Clock) bool) *refusal {
	var err error
	dialect := wire.DialectOfPayload(m.payload)
	if about == subjectEvent {
		err = s.decoder.DecodeEventAs(m.payload, dialect, &s.telemetry)
	} else {
		err = s.decoder.DecodePayloadAs(m.payload, dialect, device, &s.telemetry)
	}
	if err != nil {
		return unusable(err)
	}
	if !m.retained {
		return nil
	}
	return withoutTime(&s.telemetry, clockOK)
}

// withoutTime refuses telemetry of a retained message that has a reading without a time that clockOK accepts.
func withoutTime(t *wire.Telemetry, clockOK func(wire.Clock) bool) *refusal {
	for i := range t.Readings {
		if r := &t.Readings[i]; r.Flaw == "" && !clockOK(r.Clock) {
			return &refusal{
				reason: ReasonRetained, code: codePayloadFormat,
				message: "a retained message may be old, and this one bears no time of its own (ts)",
			}
		}
	}
	return nil
}

// journalRefusal turns the error of the journal, or of the devices' states, into a refusal where it is about the message
// and not about them: sent again, it would be refused again.
func journalRefusal(err error) error {
	if errors.Is(err, state.ErrNoDevice) {
		return &refusal{reason: ReasonUnknownDevice, message: "the device was deleted meanwhile"}
	}
	if _, ok := errors.AsType[*wire.Error](err); ok {
		return unusable(err)
	}
	return err
}

// unusable turns a decoder's error into a refusal.
func unusable(err error) *refusal {
	r := &refusal{reason: wire.ReasonBadFrame, message: err.Error(), code: codePayloadFormat}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		r.reason, r.limit, r.value = e.Reason, e.Limit, e.Value
	}
	return r
}
