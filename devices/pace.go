package devices

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"telemetryhub/wire"
)

// slowDown holds the reader of a device that brings more than it may: what it has brought is taken, and will be acked.
func (n *conn) slowDown(size int64) {
	h := n.hub.throttle.Take(n.device, n.profile(), size)
	if h.Wait == 0 {
		return
	}
	if h.Tell {
		n.notice(h.Notice())
	}
	n.paused.Store(true)
	n.hub.throttle.Wait(h, n.out.over)
	n.session.Hold()
	n.paused.Store(false)
}

// refuseHurried answers a device that opens connections faster than it may, and says when to come back; false: it may.
func (c *Connector) refuseHurried(w http.ResponseWriter, r *http.Request, device string) bool {
	h := c.throttle.Connect(device, c.profiles.Of(device))
	if h.Wait == 0 {
		return false
	}
	c.countRefused(wire.ReasonConnects)
	c.sessions.Note(device, h.Refused(r.RemoteAddr, http.StatusTooManyRequests))
	w.Header().Set("Retry-After", strconv.FormatInt(int64((h.Wait+time.Second-1)/time.Second), 10))
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusTooManyRequests)
	_ = json.NewEncoder(w).Encode(map[string]any{ // an error: the client has gone
		"type": "about:blank", "title": http.StatusText(http.StatusTooManyRequests), "status": http.StatusTooManyRequests,
		"reason": wire.ReasonConnects, "detail": h.Refusal(), "limit": h.Bound, "value": h.Value, "retry_after_ms": h.Wait.Milliseconds(),
	})
	return true
}
