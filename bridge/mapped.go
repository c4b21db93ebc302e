package bridge

import (
	"errors"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"telemetryhub/bridge/maps"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// takeMapped deals with one message by the bridge's maps. It is acknowledged once all that it has become is durable; what
// cannot be used of it is refused, and is no reason to send it again.
func (l *line) takeMapped(s *scratch, in paho.Message, m message) error {
	e := l.external
	owner := e.maps.Owner(m.topic)
	if owner != "" {
		if _, known := e.hub.Registry.Get(owner); !known {
			owner = ""
		}
	}
	if r := checkSize(sizeBefore(m.payload, e.mark), int64(e.cfg.Window.MaxPayload)); r != nil {
		return l.refuse(in, owner, r)
	}
	outcomes, err := e.maps.Up(&s.maps, maps.Message{Topic: m.topic, Payload: m.payload, Retained: m.retained})
	if err != nil {
		return l.refuse(in, owner, mapRefusal(err))
	}
	if len(outcomes) == 0 {
		e.metrics.passed.Inc()
		l.settle(in)
		return nil
	}
	p := &parts{line: l, open: 1, held: l.hold(in)}
	for i := range outcomes {
		r, err := l.takeOutcome(p, m, &outcomes[i], len(outcomes))
		if err != nil {
			return err // the hub stops: the message stays held
		}
		if r != nil {
			e.example(in, outcomes[i].Device, r)
			e.metrics.refused.count(r.reason)
		} else if outcomes[i].Telemetry != nil {
			addReadings(in, outcomes[i].Telemetry.Readings)
		}
	}
	p.done()
	return nil
}

// mapRefusal turns a map's refusal into ours.
func mapRefusal(err error) *refusal {
	r := &refusal{reason: wire.ReasonBadFrame, message: err.Error(), code: codePayloadFormat}
	if of, ok := errors.AsType[*maps.Refusal](err); ok {
		r.reason = of.Reason
	}
	return r
}

// takeOutcome deals with one of the outcomes of a message. r says why it is not taken, err that nothing can be.
func (l *line) takeOutcome(p *parts, m message, o *maps.Outcome, among int) (r *refusal, err error) {
	hub := l.external.hub
	seen := l.external.sighting(o.Device, m)
	seen.Announced, seen.Type, seen.Name, seen.Model, seen.Firmware = o.What == maps.Announce, o.Type, o.Label, o.Model, o.Firmware
	d, ok := hub.find(seen)
	switch {
	case !ok && o.What == maps.Announce: // that was all there is to do
		return nil, nil //nolint:nilnil // taken
	case !ok:
		hub.Sink.Refuse("", ReasonUnknownDevice)
		return &refusal{reason: ReasonUnknownDevice, message: "no such device"}, nil
	case o.What == maps.Announce && o.State == nil:
		return nil, nil //nolint:nilnil // taken
	case !d.Enabled:
		r = &refusal{reason: ReasonDisabled, message: "the device is disabled"}
	case m.retained:
		r = retainedOutcome(o)
	}
	if r == nil {
		profile := hub.Profiles.Of(o.Device)
		size := int64(len(m.payload) / among)
		hub.Throttle.Overrun(o.Device, profile, size)
		if r = checkSize(size, profile.Limits.MaxFrame); r != nil {
			hub.Throttle.Passed(devices.LimitMaxFrame, profile, 1)
		}
	}
	switch {
	case r != nil:
	case o.What == maps.Announce: // it says what the device is, and is no sign of its life
		r, err = l.giveState(p, o)
	default:
		r, err = l.give(p, m, o, &d)
	}
	if r != nil {
		hub.refused(o.Device, r)
	}
	return r, err
}

// retainedOutcome says why what the broker had kept is not taken, if it is not: a reading needs a time of its own, a
// state and an answer may be older than what came since, and presence is retained so that it is known.
func retainedOutcome(o *maps.Outcome) *refusal {
	switch o.What {
	case maps.Telemetry, maps.Event:
		return withoutTime(o.Telemetry, func(c wire.Clock) bool { return c == wire.ClockGiven })
	case maps.State:
		return &refusal{reason: ReasonRetained, message: "a retained state may be older than what the device reported since"}
	case maps.Answered:
		return &refusal{reason: ReasonRetained, message: "an answer is not retained"}
	}
	return nil
}

// give hands an outcome of a registered device on.
func (l *line) give(p *parts, m message, o *maps.Outcome, d *devices.Device) (*refusal, error) {
	if o.What == maps.Presence {
		l.devices.present(o, d, m.at)
		return nil, nil //nolint:nilnil // taken
	}
	var session *devices.Session
	if !m.retained { // a retained message is no sign of life
		session = l.devices.seenBy(o.Device, &mapping{group: o.Group, vars: o.Vars, model: o.Model, kind: d.Type})
		l.devices.settleOrders(o, m.at)
	}
	switch o.What {
	case maps.Answered:
		if session == nil {
			return &refusal{reason: ReasonNoSession, message: "the device is connected in another way and answers there"}, nil
		}
	case maps.State:
		return l.giveState(p, o)
	default:
		if session != nil {
			session.LearnUnits(o.Telemetry.Units)
		}
		_, err := l.external.hub.Sink.AppendWithin(l.external.harder, o.Device, o.Telemetry, time.Now().UnixMilli(), p)
		if r, ok := errors.AsType[*refusal](journalRefusal(err)); ok {
			return r, nil
		}
		return nil, err
	}
	return nil, nil //nolint:nilnil // taken
}

// giveState reports what a map takes as state.
func (l *line) giveState(p *parts, o *maps.Outcome) (*refusal, error) {
	device := o.Device
	n, known := l.devices.giving(device, o.State)
	if known {
		return nil, nil //nolint:nilnil // it is known
	}
	patch := append([]byte(nil), o.State...) // the outcome does not live so long
	p.add()
	err := l.external.hub.States.Report(device, patch, func(_ uint64, err error) {
		if r, refused := errors.AsType[*refusal](journalRefusal(err)); refused {
			l.external.metrics.refused.count(r.reason)
			l.external.hub.refused(device, r)
		} else if err != nil { // the hub stops, say: not acknowledged, so the broker sends it again
			l.failJournal(err)
			return
		} else {
			l.devices.reported(device, patch, n)
		}
		p.done()
	})
	if r, refused := errors.AsType[*refusal](journalRefusal(err)); refused {
		p.done()
		return r, nil
	}
	return nil, err
}

// parts are what one message has become, each of which becomes durable by itself. It implements wire.Waiter.
type parts struct {
	line *line
	held *bool

	mu     sync.Mutex
	open   int
	joined uint64
}

func (p *parts) add() {
	p.mu.Lock()
	p.open++
	p.mu.Unlock()
}

// done lets the message be acknowledged when it was the last.
func (p *parts) done() {
	p.mu.Lock()
	p.open--
	last := p.open == 0
	p.mu.Unlock()
	if last {
		p.line.release(p.held)
	}
}

// Join implements wire.Waiter.
func (p *parts) Join(gen uint64) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if first = p.joined != gen; first {
		p.joined = gen
		p.open++
	}
	return first
}

// Committed implements wire.Waiter.
func (p *parts) Committed(_ uint64, err error) {
	if err != nil {
		p.line.failJournal(err)
		return
	}
	p.done()
}

// addReadings counts readings that are a part of a message.
func addReadings(in paho.Message, readings []wire.Reading) {
	if a, ok := in.(*arrival); ok {
		a.readings += len(readings)
	}
}
