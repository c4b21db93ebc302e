package bridge

import (
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// postpone refuses a CONNECT whose device is to come later. MQTT has no member for a time: the reason string of MQTT 5 is
// the same JSON as the reason of a close frame. MQTT 3.1.1 has one code for all of them, and no text.
func (b *Broker) postpone(c *client, device string, later *devices.NotNow) *refusal {
	r := &refusal{reason: later.Reason, code: codeUnavailable, message: later.CloseReason()}
	switch later.Reason {
	case wire.ReasonHerd:
		r.code = codeRateExceeded
	case wire.ReasonFull:
		r.code = codeQuotaExceeded
	}
	b.noteLater(c, device, int(r.code), later)
	c.conn.sayWhy(wire.CloseOverloaded, r.message)
	return r
}

// noteLater counts the refusal, and tells the device's flight recorder of it.
func (b *Broker) noteLater(c *client, device string, status int, later *devices.NotNow) {
	b.metrics.connects.WithLabelValues(later.Reason).Inc()
	b.hub.Sessions.Note(device, devices.Event{
		Kind: devices.EventRefused, Reason: later.Reason, Message: later.Message, Remote: c.origin.Remote, Status: status,
		Limit: later.Limit, Value: later.Value, RetryAfter: later.After.Milliseconds(),
	})
	b.log.Debug("mqtt connection postponed", "device", device, "remote", c.origin.Remote, "reason", later.Reason, "after", later.After)
}

func (b *Broker) isOnline(device string) bool {
	_, online := b.hub.Sessions.Online(device)
	return online
}

// shutCause is the end of a session that the hub closed, in the words of its presence.
func shutCause(code int, reason string) string {
	switch code {
	case wire.CloseRestart:
		return "the hub stopped"
	case wire.CloseOverloaded:
		return "the hub takes no more connections"
	}
	return reason
}
