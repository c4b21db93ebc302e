package devices

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"telemetryhub/wire"
)

// postpone answers a request whose device is not let in now. Retry-After has whole seconds (RFC 9110 section 10.2.3);
// the body says the ms, for those that can read it.
func (c *Connector) postpone(w http.ResponseWriter, r *http.Request, device string, later *NotNow) {
	c.noteLater(device, r.RemoteAddr, http.StatusServiceUnavailable, later)
	body := map[string]any{
		"type": "about:blank", "title": http.StatusText(http.StatusServiceUnavailable), "status": http.StatusServiceUnavailable,
		"reason": later.Reason, "detail": later.Message, "retry_after_ms": later.After.Milliseconds(),
	}
	if later.Limit > 0 {
		body["limit"] = later.Limit
	}
	if later.Value > 0 {
		body["value"] = later.Value
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(later.After.Seconds()))))
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Connection", "close") // it comes back later: until then the socket is of no use to anybody
	w.WriteHeader(http.StatusServiceUnavailable)
	_ = json.NewEncoder(w).Encode(body) // an error means that the client has gone
}

// turnAway ends a connection that was let in and found all places taken meanwhile.
func (c *Connector) turnAway(n *conn, remote string, later *NotNow) {
	defer c.running.Done()
	c.noteLater(n.device, remote, wire.CloseOverloaded, later)
	n.out.frame(func(dst []byte) []byte { return wire.AppendNotice(dst, later.notice()) })
	n.Close(wire.CloseOverloaded, later.CloseReason())
	n.out.dismiss()
}

// noteLater counts the refusal, and tells the device's flight recorder of it.
func (c *Connector) noteLater(device, remote string, status int, later *NotNow) {
	c.countRefused(later.Reason)
	c.sessions.Note(device, Event{
		Kind: EventRefused, Reason: later.Reason, Message: later.Message, Remote: remote, Status: status,
		Limit: later.Limit, Value: later.Value, RetryAfter: later.After.Milliseconds(),
	})
	c.log.Debug("connection postponed", "device", device, "remote", remote, "reason", later.Reason, "after", later.After)
}

func (c *Connector) isOnline(device string) bool {
	_, online := c.sessions.Online(device)
	return online
}
