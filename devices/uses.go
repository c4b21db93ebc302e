package devices

import (
	"slices"
	"time"
)

// use is when a device last proved itself with a credential that its connection does not rest on. A device that keeps to
// one credential on its connections costs no memory here: what its presence says is enough.
type use struct {
	Credential string    `json:"credential"`
	At         time.Time `json:"at"`
}

const (
	keptUses = maxTokens
	useEvery = time.Minute // a device without a connection uses its credential often
)

// Used notes that the device proved itself without a connection, as for one HTTP request.
func (s *Sessions) Used(device, credential string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.uses[device] {
		if u.Credential == credential && now.Sub(u.At) < useEvery {
			return
		}
	}
	s.noteUse(device, use{credential, now})
}

// noteUse replaces the list: one that was given out is being written. It needs mu.
func (s *Sessions) noteUse(device string, u use) {
	kept := slices.DeleteFunc(slices.Clone(s.uses[device]), func(old use) bool { return old.Credential == u.Credential })
	if len(kept) >= keptUses {
		kept = slices.Delete(kept, 0, 1)
	}
	s.uses[device] = append(kept, u)
	s.dirty[device] = true
}

// noteChange keeps when the credential of the session before n was last used, if n has another. It needs mu.
func (s *Sessions) noteChange(n *Session) {
	if before := n.before; before.Credential != "" && before.Credential != n.proof.ID {
		s.noteUse(n.Device, use{before.Credential, before.LastSeen})
	}
}

// used returns when the device last used that credential, and whether its connection rests on it.
func (s *Sessions) used(device, credential string) (last time.Time, inUse bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, u := range s.uses[device] {
		if u.Credential == credential {
			last = u.At
		}
	}
	for _, n := range []*Session{s.byDevice[device], s.aside[device]} {
		if n != nil && n.proof.ID == credential {
			return n.Seen(), true
		}
	}
	if p, ok := s.last[device]; ok && p.Credential == credential && p.LastSeen.After(last) {
		last = p.LastSeen
	}
	return last, false
}
