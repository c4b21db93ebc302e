package bridge

import (
	"bytes"

	"telemetryhub/bridge/maps"
	"telemetryhub/wire"
)

// Trial is what a message would become.
type Trial struct {
	Outcomes []TriedOutcome
	Passed   bool // a map is for it and passes it over
	Reason   string
	Message  string // why it would be refused; "": it would not
}

// TriedOutcome is one outcome, and what would stand in its way.
type TriedOutcome struct {
	maps.Shown
	Registered bool   // the device is
	Reason     string // "": nothing
	Message    string
}

// ownMap names the hub's own topics where maps are named.
const ownMap = "hub"

// Try says what a message that the broker sent would become. It changes nothing, and nobody is told.
func (e *External) Try(m maps.Message) Trial {
	if err := CheckTopic(m.Topic); err != nil {
		return Trial{Reason: ReasonBadTopic, Message: err.Error()}
	}
	if r := checkSize(int64(len(m.Payload)), int64(e.cfg.Window.MaxPayload)); r != nil {
		return Trial{Reason: r.reason, Message: r.message}
	}
	var s scratch
	device, about, ok := splitTopic(e.cfg.Prefix, m.Topic)
	if ok && about.fromDevice() && !e.cfg.Foreign {
		return e.hub.judge(m, s.tryOwn(device, about, m))
	}
	if e.maps == nil {
		return Trial{Reason: ReasonTopic, Message: "not a topic of a device: those are " + joinTopic(e.cfg.Prefix, "{device}", subjectTelemetry) + ", event, state and response"}
	}
	return e.hub.tryMaps(&s, e.maps, m)
}

func (h Hub) tryMaps(s *scratch, by *maps.Set, m maps.Message) Trial {
	outcomes, err := by.Up(&s.maps, m)
	if err != nil {
		r := mapRefusal(err)
		return Trial{Reason: r.reason, Message: r.message}
	}
	if len(outcomes) == 0 {
		return Trial{Passed: true}
	}
	return h.judge(m, trial{outcomes: outcomes})
}

// trial is what a message is, before it is asked whose.
type trial struct {
	outcomes []maps.Outcome
	refused  *refusal
}

// tryOwn reads a message of the hub's own topics.
func (s *scratch) tryOwn(device string, about subject, m maps.Message) trial {
	o := maps.Outcome{Map: ownMap, Device: device}
	in := message{topic: m.Topic, payload: m.Payload}
	switch about {
	case subjectState:
		reported, err := s.decoder.DecodeStatePayload(m.Payload, wire.DialectOfPayload(m.Payload))
		if err != nil {
			return trial{refused: unusable(err)}
		}
		o.What, o.State = maps.State, reported
	case subjectResponse:
		said, err := s.response(m.Payload)
		if err != nil {
			return trial{refused: unusable(err)}
		}
		o.What, o.Reply = maps.Answered, &maps.Reply{Correlation: said.answer.ID, Result: said.answer.Result, Fault: said.answer.Fault, Progress: said.progress != nil}
		if said.progress != nil {
			o.Reply.Correlation = said.progress.ID
		}
	default:
		if r := s.decode(device, about, in, nil); r != nil {
			return trial{refused: r}
		}
		o.What, o.Telemetry = maps.Telemetry, &s.telemetry
		if about == subjectEvent {
			o.What = maps.Event
		}
	}
	return trial{outcomes: []maps.Outcome{o}}
}

// judge says of each outcome what would stand in its way.
func (h Hub) judge(m maps.Message, of trial) Trial {
	if of.refused != nil {
		return Trial{Reason: of.refused.reason, Message: of.refused.message}
	}
	var t Trial
	for i := range of.outcomes {
		o := &of.outcomes[i]
		d, registered := h.Registry.Get(o.Device)
		var r *refusal
		switch {
		case !registered && o.What != maps.Announce:
			r = &refusal{reason: ReasonUnknownDevice, message: "no such device is registered; it would be seen and wait for its admission"}
		case registered && !d.Enabled:
			r = &refusal{reason: ReasonDisabled, message: "the device is disabled"}
		case m.Retained:
			r = retainedOutcome(o)
		}
		if r == nil && registered && o.What != maps.Announce {
			r = checkSize(int64(len(m.Payload)/len(of.outcomes)), h.Profiles.Of(o.Device).Limits.MaxFrame)
		}
		for _, shown := range maps.Show(of.outcomes[i : i+1]) {
			shown.State, shown.Result, shown.Error = bytes.Clone(shown.State), bytes.Clone(shown.Result), bytes.Clone(shown.Error)
			one := TriedOutcome{Shown: shown, Registered: registered}
			if r != nil {
				one.Reason, one.Message = r.reason, r.message
			}
			t.Outcomes = append(t.Outcomes, one)
		}
	}
	return t
}

// Try says what a message of a device of the embedded broker would become, if that device has sent it.
func (b *Broker) Try(m maps.Message) Trial {
	m.Retained = false // the device is the other end
	var s scratch
	device, about, ok := splitTopic(ownPrefix, m.Topic)
	if !ok && b.maps != nil {
		return b.hub.tryMaps(&s, b.maps, m)
	}
	if !ok || !about.fromDevice() {
		return Trial{Reason: ReasonTopic, Message: "not a topic of a device: those are " + joinTopic(ownPrefix, "{device}", subjectTelemetry) + ", event, state and response"}
	}
	return b.hub.judge(m, s.tryOwn(device, about, m))
}
