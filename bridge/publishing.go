package bridge

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// published implements rules.
func (b *Broker) published(c *client, m message) (acknowledged bool) {
	r := c.acks.open(m)
	if r == nil {
		return false
	}
	if c.session != nil {
		c.session.Heard()
	}
	hold := b.count(c, m)
	if hold.Wait > 0 && hold.Tell && c.v5 {
		r.reason = wire.ReasonRateLimited + ": " + hold.Notice().Message
	}
	if r.before != nil {
		c.acks.repeated(r)
	} else {
		b.publish(c, m, r)
	}
	if hold.Wait > 0 {
		b.hub.Throttle.Wait(hold, c.conn.hurried.Load)
		if c.session != nil {
			c.session.Hold()
		}
	}
	return true
}

// publish takes one message, and lets its claim know; nil: nobody waits for that.
func (b *Broker) publish(c *client, m message, r *claim) {
	b.metrics.received.Inc()
	b.metrics.traffic.counted(time.Now())
	later, err := b.take(c, m, r)
	refused, ok := errors.AsType[*refusal](err)
	if ok {
		b.metrics.refused.count(refused.reason)
		b.example(m, c.device, refused)
		b.hub.refused(c.device, refused)
	}
	switch {
	case r == nil && err != nil && !ok:
		b.metrics.unacked.Inc() // a will that the journal did not take
	case r == nil || later:
	case err != nil && !ok:
		c.acks.fail(err, func(failed *claim) bool { return failed == r })
	default:
		c.acks.settle(r, refused)
	}
}

// aim is what a message of a device is about.
type aim struct {
	about   subject // of its own topic; "": of a granted one
	granted bool
	mapped  bool // of the device's own words
}

// ownTopic reports whether a topic is one of those between a device and the hub.
func ownTopic(topic string) bool { return strings.HasPrefix(topic, ownPrefix+"/") }

// judge says what a message of c's device is about, and refuses it where the device has no business with its topic. It
// is the one place that does; wills are judged here too.
func (b *Broker) judge(c *client, m message) (aim, *refusal) {
	if device, about, ok := splitTopic(ownPrefix, m.topic); ok && device == c.device && (about.fromDevice() || about == subjectCredentials) {
		return aim{about: about}, nil
	}
	if err := checkTopic(m.topic, false); err != nil {
		return aim{}, &refusal{reason: ReasonTopic, code: codeTopicName, message: "the topic: " + err.Error()}
	}
	if !ownTopic(m.topic) && b.mapsTopic(m.topic) {
		return aim{mapped: true}, nil
	}
	if len(b.cfg.Grants) > 0 && !ownTopic(m.topic) && m.topic[0] != '$' {
		device, ok := b.hub.Registry.Get(c.device)
		may, retain := b.exchange.grants.mayPublish(&device, m.topic)
		switch {
		case !ok || !may:
		case m.retained && !retain:
			return aim{}, &refusal{reason: ReasonRetainNotGranted, code: codeNotAuthorized, message: "what it publishes on this topic may not be retained (retain in mqtt.grants)"}
		default:
			return aim{granted: true}, nil
		}
	}
	text := "a device publishes on " + joinTopic(ownPrefix, c.device, "{telemetry, event, state, response, credentials}") + " only"
	if len(b.cfg.Grants) > 0 {
		text += ", and on topics that mqtt.grants gives it"
	}
	return aim{}, &refusal{reason: ReasonTopic, code: codeNotAuthorized, message: text}
}

// take deals with one message. With later, its claim is settled by whom it was given to.
func (b *Broker) take(c *client, m message, r *claim) (later bool, err error) {
	to, refused := b.judge(c, m)
	if refused != nil {
		return false, refused
	}
	if c.proof.Renewal && to.about != subjectCredentials {
		return false, expired()
	}
	if refused := checkSize(sizeBefore(m.payload, b.mark), c.profile().Limits.MaxFrame); refused != nil {
		b.hub.Throttle.Passed(devices.LimitMaxFrame, c.profile(), 1)
		return false, refused
	}
	s := b.scratches.get()
	defer b.scratches.put(s)
	switch {
	case c.unconfirmed != nil:
		return false, b.confirming(c, to.about, s, m)
	case to.granted:
		return false, b.handOn(c, m, r)
	case to.mapped:
		return b.takeMapped(c, s, m, r)
	}
	switch to.about {
	case subjectCredentials:
		return false, b.renew(c, s, m)
	case subjectState:
		return b.takeState(c, s, m, r)
	case subjectResponse:
		answer, err := s.response(m.payload)
		if err != nil {
			return false, unusable(err)
		}
		if c.session != nil { // nil: the last will of a connection that did not get as far
			answer.tell(c.session)
		}
		return false, nil
	}
	return b.takeReadings(c, to.about, s, m, r)
}

// takeReadings gives telemetry or an event to the journal.
func (b *Broker) takeReadings(c *client, about subject, s *scratch, m message, r *claim) (later bool, err error) {
	// Here the device is the other end: what it marks as retained is as new as any other message, so its age counts.
	if refused := s.decode(c.device, about, m, func(k wire.Clock) bool { return k != wire.ClockNone }); refused != nil {
		return false, refused
	}
	if r != nil {
		c.learn(&s.telemetry)
		r.readings = len(s.telemetry.Readings)
	}
	var w wire.Waiter = &c.acks
	if r == nil {
		w = &unheard{metrics: b.metrics, readings: len(s.telemetry.Readings)}
	}
	if _, err := b.hub.Sink.AppendWithin(b.commits, c.device, &s.telemetry, time.Now().UnixMilli(), w); err != nil {
		return false, journalRefusal(err)
	}
	return true, nil
}

// unheard waits for a will's commit in nobody's name.
type unheard struct {
	metrics  *brokerMetrics
	readings int
}

// Join implements wire.Waiter.
func (u *unheard) Join(uint64) (first bool) { return true }

// Committed implements wire.Waiter.
func (u *unheard) Committed(_ uint64, err error) {
	if err != nil {
		u.metrics.unacked.Inc()
		return
	}
	u.metrics.traffic.readings.Add(uint64(u.readings))
}

// handOn gives a message on a granted topic to those who subscribe. One that nobody has is acknowledged as MQTT 5 says.
func (b *Broker) handOn(c *client, m message, r *claim) error {
	sessions, err := b.exchange.publish(c.mailbox, m)
	if err != nil {
		return fmt.Errorf("hand on a message: %w", err)
	}
	if sessions == 0 && r != nil && c.v5 {
		r.code = codeNoSubscribers
	}
	return nil
}
