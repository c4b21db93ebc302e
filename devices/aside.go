package devices

import (
	"time"

	"telemetryhub/wire"
)

// A connection that may only renew its credentials stands aside: it is not its device's session, displaces none, is no
// presence, and gets no commands. A device has one at most, the newest.

// renewalPatience is for how long a connection may stay that does nothing but renew. A device that does not know how is
// told so by its end.
const renewalPatience = time.Minute

const causeRenewal = "only to renew its credentials"

func (s *Sessions) attachAside(n *Session) {
	s.mu.Lock()
	s.lastID++
	n.id = s.lastID
	old := s.aside[n.Device]
	s.aside[n.Device] = n
	s.mu.Unlock()
	s.Note(n.Device, Event{Kind: EventConnect, Reason: n.Transport, Message: causeRenewal, Remote: n.Remote})
	s.log.Info("device connected to renew its credentials", "device", n.Device, "session", n.id, "transport", n.Transport, "remote", n.Remote)
	if old != nil {
		old.end(wire.CloseReplaced, CauseReplaced)
	}
	for _, told := range s.followers {
		told(n)
	}
}

func (s *Sessions) detachAside(n *Session, cause string) {
	s.mu.Lock()
	ours := s.aside[n.Device] == n
	if ours {
		delete(s.aside, n.Device)
	}
	over := n.over
	n.over = true
	s.mu.Unlock()
	if over {
		return
	}
	s.Note(n.Device, Event{Kind: EventClose, Reason: "renewal", Message: cause, Remote: n.Remote})
	s.log.Info("device disconnected", "device", n.Device, "session", n.id, "cause", cause, "duration", time.Since(n.connected).Round(time.Millisecond))
}
