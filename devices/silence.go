package devices

import (
	"time"
)

// Silence is what was learned about how long a device may be silent, from one sign of life to the next, on the network that
// it comes by. NATs and proxies forget connections that are silent for too long, and tell nobody.
type Silence struct {
	Survived int32 `json:"survived_s,omitempty"` // seconds of the longest after which the connection was still alive
	Lost     int32 `json:"lost_s,omitempty"`     // seconds of the shortest after which it was lost, among the losses that count
	Losses   int32 `json:"losses,omitempty"`     // that count: in a row, without a silence as long as Lost that was survived
	LostAt   int64 `json:"lost_at,omitempty"`    // of the last of them, Unix s
}

// A silence below leastSilence tells nothing. One loss may be a device without power; believedLosses in a row are the
// network's doing: the device is pinged after half of that silence from then on, and what was survived once, elsewhere, is
// forgotten. After believedFor without another it is tried again whether the network lets it be silent for longer.
const (
	leastSilence   = 10 * time.Second
	believedLosses = 3
	believedFor    = 7 * 24 * time.Hour
)

// survive returns what is known after a silence that the connection survived.
func (s Silence) survive(silent time.Duration) Silence {
	seconds := int32(silent / time.Second)
	s.Survived = max(s.Survived, seconds)
	if seconds >= s.Lost {
		s.Lost, s.Losses, s.LostAt = 0, 0, 0
	}
	return s
}

// lose returns what is known after a silence in which the connection was lost.
func (s Silence) lose(silent time.Duration, now time.Time) Silence {
	seconds := int32(silent / time.Second)
	s.Losses++
	s.LostAt = now.Unix()
	if s.Lost == 0 || seconds < s.Lost {
		s.Lost = seconds
	}
	if s.Losses >= believedLosses && s.Survived >= s.Lost {
		s.Survived = 0
	}
	return s
}

// longest returns how long the device may be silent at now; 0: as long as it likes, as far as is known.
func (s Silence) longest(now time.Time) time.Duration {
	if s.Losses < believedLosses || now.Sub(time.Unix(s.LostAt, 0)) > believedFor {
		return 0
	}
	return time.Duration(s.Lost) * time.Second / 2
}

// survived notes that the session goes on after a silence.
func (s *Session) survived(silent time.Duration) {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	s.silence = s.silence.survive(silent) // written with the signs of life
}

// Lost notes that the connection is gone without a word, after a silence of most at most: then it was found out.
func (s *Session) Lost(most time.Duration) {
	silent := min(time.Since(s.Seen()), most)
	if silent < leastSilence {
		return
	}
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	if s.sessions.byDevice[s.Device] == s {
		s.silence = s.silence.lose(silent, time.Now())
	}
}

// noticed is after how long a silence at most the connection was tried: by then it was lost.
func (n *conn) noticed() time.Duration {
	if pinged := n.pinged.Load(); pinged > 0 {
		return time.Duration(pinged) * time.Second
	}
	return time.Duration(n.keepalive.Load())
}

// inherit takes over what is known from old, whose place s takes, or from the device's last session. Where the device comes
// from the same address, the old connection, if it was silent, was lost, and the device found it out first. It needs
// sessions.mu.
func (s *Session) inherit(old *Session) {
	s.silence = s.before.Silence
	if old == nil {
		return
	}
	s.silence = old.silence
	if silent := s.connected.Sub(old.Seen()); silent >= leastSilence && hostOf(old.Remote) == hostOf(s.Remote) && !old.bridged() {
		s.silence = s.silence.lose(silent, s.connected)
	}
}

// longestSilence is after how long the device is to be pinged, as far as is known; 0: nothing is.
func (s *Session) longestSilence() time.Duration {
	s.sessions.mu.RLock()
	defer s.sessions.mu.RUnlock()
	return s.silence.longest(time.Now())
}

// agree sets the interval for a device that asked for one, 0 if it did not: what its network lets it be silent for bounds it,
// but not below what the operator allows.
func (n *conn) agree(asked time.Duration) {
	k := n.profile().Keepalive
	interval := k.Agree(asked)
	if longest := n.session.longestSilence(); longest > 0 && longest < interval {
		interval = min(interval, max(longest, k.Min))
	}
	n.keepalive.Store(int64(interval))
}
