package bridge

import (
	"fmt"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// checkPace refuses a device that opens connections faster than it may. MQTT has no word for when to come back but the
// text of the refusal.
func (b *Broker) checkPace(c *client, device string) *refusal {
	h := b.hub.Throttle.Connect(device, b.hub.Profiles.Of(device))
	if h.Wait == 0 {
		return nil
	}
	b.metrics.connects.WithLabelValues(wire.ReasonConnects).Inc()
	b.hub.Sessions.Note(device, h.Refused(c.origin.Remote, int(codeQuotaExceeded)))
	c.conn.sayWhy(wire.CloseOverloaded, fmt.Sprintf(`{"retry_after_ms":%d}`, h.Wait.Milliseconds()))
	return &refusal{
		reason: wire.ReasonConnects, code: codeQuotaExceeded,
		message: fmt.Sprintf("%s; come back in %s", h.Refusal(), h.Wait.Round(time.Second)),
	}
}

// count holds a device to its rates. What it has sent is taken and acknowledged; what it sends next is read later.
func (b *Broker) count(c *client, m message) devices.Hold {
	return b.hub.Throttle.Take(c.device, c.profile(), sizeBefore(m.payload, b.mark))
}
