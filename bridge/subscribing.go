package bridge

import (
	"fmt"
	"strings"
)

// subscribing implements rules.
func (b *Broker) subscribing(c *client, filter string) *refusal {
	r := b.judgeFilter(c, filter)
	if r != nil {
		b.noteSubscription(c, r)
	}
	return r
}

// tooMany implements rules.
func (b *Broker) tooMany(c *client, filter string) *refusal {
	r := &refusal{
		reason: ReasonSubscriptions, code: codeQuotaExceeded, limit: int64(b.cfg.MaxSubscriptions), value: int64(b.cfg.MaxSubscriptions) + 1,
		message: fmt.Sprintf("subscription to %s: a session holds at most %d", filter, b.cfg.MaxSubscriptions),
	}
	b.noteSubscription(c, r)
	return r
}

// noteSubscription counts a refusal, and tells the device's flight recorder.
func (b *Broker) noteSubscription(c *client, r *refusal) {
	b.metrics.subscriptions.WithLabelValues(r.reason).Inc()
	b.hub.Sessions.Note(c.device, r.event())
}

// judgeFilter says whether c's device may subscribe to a topic filter: to what the hub says to it, and to what one grant
// covers whole. A filter that spans more is refused and not narrowed, for the device would wait for the rest for ever.
func (b *Broker) judgeFilter(c *client, filter string) *refusal {
	if err := checkTopic(filter, true); err != nil {
		return &refusal{reason: ReasonSubscription, code: codeTopicFilter, message: "subscription: " + err.Error()}
	}
	if strings.HasPrefix(filter, "$share/") {
		return &refusal{reason: ReasonSubscription, code: codeSharedSub, message: "shared subscriptions are not supported"}
	}
	if filterAllowed(c.device, filter) {
		return nil
	}
	if b.hears(c, filter) {
		return nil
	}
	if device, ok := b.hub.Registry.Get(c.device); ok && b.exchange.grants.maySubscribe(&device, filter) {
		return nil
	}
	text := "subscription to " + filter + ": a device subscribes to " + joinTopic(ownPrefix, c.device, "{command, desired, issued}")
	if len(b.cfg.Grants) > 0 {
		text += ", and to what one entry of mqtt.grants covers whole"
	}
	return &refusal{reason: ReasonSubscription, code: codeNotAuthorized, message: text}
}

// granted implements rules. What is published from now on comes once: what is retained is taken now and follows SUBACK.
func (b *Broker) granted(c *client, all []subscription) {
	for _, s := range all {
		if ownTopic(s.filter) || !b.talks(c, s.filter) {
			continue
		}
		b.exchange.subscribe(c.mailbox, s)
		if !s.withoutRetained {
			c.stored = append(c.stored, b.exchange.retained.matching(s)...)
		}
	}
}

// subscribed implements rules.
func (b *Broker) subscribed(c *client) {
	c.ready()
	b.heard(c)
	if c.session != nil && !c.session.Renews() {
		c.tellState()
	}
	if len(c.stored) > 0 {
		b.exchange.putStored(c.mailbox, c.stored)
		c.stored = nil
		c.link.deliver()
	}
}

// talks reports whether a filter is one of what devices say to each other, and not of commands by maps alone.
func (b *Broker) talks(c *client, filter string) bool {
	if b.maps == nil {
		return true
	}
	device, ok := b.hub.Registry.Get(c.device)
	return ok && b.exchange.grants.maySubscribe(&device, filter)
}

// unsubscribed implements rules.
func (b *Broker) unsubscribed(id string, filters []string) { b.exchange.unsubscribe(id, filters) }
