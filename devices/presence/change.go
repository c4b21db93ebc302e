package presence

import (
	"strconv"
	"time"

	"telemetryhub/devices"
)

// Change is one device that came or went, was frozen or let in again.
type Change struct {
	Device      string    `json:"device"`
	Online      bool      `json:"online"`
	Version     uint64    `json:"version"` // grows with each change of the device, over restarts too
	Time        time.Time `json:"time"`    // when it came or went; of a device whose hub was killed: its last sign of life
	Transport   string    `json:"transport,omitempty"`
	Remote      string    `json:"remote,omitempty"`
	Cause       string    `json:"cause,omitempty"`   // why it went
	Session     string    `json:"session,omitempty"` // of the connection; a number of more than 32 bits, as text
	ConnectedAt time.Time `json:"connected_at,omitzero"`
	DurationMs  int64     `json:"duration_ms,omitempty"` // of the connection that ended
	Frozen      bool      `json:"frozen,omitempty"`      // as several devices use its identity

	// It shows signs of life, and its program says nothing.
	Unresponsive bool `json:"unresponsive,omitempty"`

	at time.Time // of the change itself
}

// changeOf is a change as those who are told see it.
func changeOf(device string, at time.Time, p devices.Presence) Change {
	c := Change{
		Device: device, Online: p.Online, Version: p.Version, Transport: p.Transport, Remote: p.Remote, ConnectedAt: p.ConnectedAt.UTC(),
		Frozen: p.Frozen != nil, Unresponsive: p.Unresponsive != 0, at: at,
	}
	if p.Session > 0 {
		c.Session = strconv.FormatUint(p.Session, 10)
	}
	if c.Time = p.ConnectedAt; !p.Online {
		c.Time, c.Cause = p.DisconnectedAt, p.Cause
		if !p.ConnectedAt.IsZero() && p.DisconnectedAt.After(p.ConnectedAt) {
			c.DurationMs = p.DisconnectedAt.Sub(p.ConnectedAt).Milliseconds()
		}
	}
	if c.Time.IsZero() { // of a device that was never connected: frozen, or let in again
		c.Time = at
	}
	c.Time = c.Time.UTC().Truncate(time.Millisecond)
	// The last sign of life may be the connection itself: an end is after its beginning, also where times are in ms.
	if began := p.ConnectedAt.UTC().Truncate(time.Millisecond); !p.Online && !c.Time.After(began) {
		c.Time = began.Add(time.Millisecond)
	}
	return c
}
