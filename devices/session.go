package devices

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"telemetryhub/wire"
)

// Transports, as presence shows them. A device behind an external broker has "bridge:" and the broker's name.
const (
	TransportWSS  = "wss"
	TransportMQTT = "mqtt"

	transportBridge = "bridge:"
)

// Link is how a session's device is reached. No method blocks. An error of Send or Cancel means that surely nothing was
// sent; of Send a *wire.Error says that this device never takes the command, any other that the connection does not take
// it now. Desire tells of the desired state, once the device is ready; of several only the newest need be told. Close takes a WebSocket close code; other transports translate it.
type Link interface {
	Send(cmd wire.Command) error
	Cancel(id string) error // asks the device to give up a command
	Desire(s wire.State)
	Close(code int, reason string)
}

// Attachment is a connection whose device has proved who it is.
type Attachment struct {
	Device    string
	Transport string
	Remote    string // address of the other end
	Proof     Proof  // of a session: when it began; see Session.Proved
	Link      Link
}

// Session is one connection of one device. Its methods may be called by any goroutine, also after it has ended.
type Session struct {
	Attachment
	id        uint64
	sessions  *Sessions
	connected time.Time
	before    Presence     // of the device's last session before this one
	seen      atomic.Int64 // last sign of life, Unix ms
	heard     atomic.Int64 // last frame of its program, Unix ms; its beginning before the first
	probed    atomic.Bool  // a probe waits for such a frame
	saved     int64        // seen as it was last written; guarded by sessions.mu
	version   uint64       // of its last presence change; guarded by sessions.mu

	proof Proof // guarded by sessions.mu

	// From hello; guarded by sessions.mu.
	boot            string // or from the first reading that names one
	firmware, model string
	methods         []string // until this session's hello, what an earlier one announced
	clock           Clock    // likewise

	aside   bool    // it may only renew its credentials: it is not the device's session, and presence knows nothing of it
	silence Silence // guarded by sessions.mu

	telling sync.Mutex // held while the session's state is told, so that its end comes last
	over    bool       // its end was told
}

// bridged reports whether the device is behind an external broker, so that its session is no connection of its own.
func (s *Session) bridged() bool { return strings.HasPrefix(s.Transport, transportBridge) }

// ID is unique among all sessions of the hub's life and larger than those before it.
func (s *Session) ID() uint64 { return s.id }

// Touch notes a sign of life, and the silence that it ended.
func (s *Session) Touch() { s.touch(time.Now()) }

func (s *Session) touch(now time.Time) {
	ms := now.UnixMilli()
	if silent := time.Duration(ms-s.seen.Swap(ms)) * time.Millisecond; silent >= leastSilence {
		s.survived(silent)
	}
}

// Hold lets the session's liveness stand still: it is the hub that does not read.
func (s *Session) Hold() { s.seen.Store(time.Now().UnixMilli()) }

// Seen returns the time of the last sign of life.
func (s *Session) Seen() time.Time { return time.UnixMilli(s.seen.Load()) }

// Describe notes what the device said of itself.
func (s *Session) Describe(firmware, model string) {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	s.firmware, s.model = firmware, model
	s.sessions.dirty[s.Device] = true
}

// Announced methods are kept up to these bounds: presence is written in shards, each one message of NATS.
const (
	maxMethods     = 64
	maxMethodBytes = 2 << 10 // of all their names
)

// Announce notes which methods the device says it has. What is no name of a method, and what is beyond the bounds, is
// left out.
func (s *Session) Announce(methods []string) {
	var kept []string
	size := 0
	for _, name := range methods {
		if name == "" || len(name) > wire.MaxMethod || hasControl(name) || strings.HasPrefix(name, "hub.") || slices.Contains(kept, name) {
			continue
		}
		if size += len(name); size > maxMethodBytes || len(kept) == maxMethods {
			break
		}
		kept = append(kept, name)
	}
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	s.methods = kept
	s.sessions.dirty[s.Device] = true
}

// LearnClock notes what the device's clock showed, Unix ms, when its hello came.
func (s *Session) LearnClock(showed int64) {
	const most = 1 << 53 // what any encoder of JSON can bear
	now := time.Now()
	showed = min(max(showed, -most), most)
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	s.clock = s.clock.learn(showed-now.UnixMilli(), now)
	s.sessions.dirty[s.Device] = true
}

// Ready says that the device can be sent commands. Once the session's end is told it says nothing.
func (s *Session) Ready() {
	s.telling.Lock()
	defer s.telling.Unlock()
	if !s.aside && !s.over {
		s.sessions.answers.SessionReady(s.Device, s.id)
	}
}

// tellEnd is called once, when the session has left its device's place.
func (s *Session) tellEnd() {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.over = true
	s.sessions.endAsked(s)
	s.sessions.answers.SessionEnded(s.Device, s.id)
}

// Answer passes on the device's answer to a command, or to a request of the hub's own.
func (s *Session) Answer(a wire.Answer) {
	if strings.HasPrefix(a.ID, askedPrefix) {
		s.sessions.answered(s, a)
		return
	}
	if a.ID != wire.ProbeID { // that it came was all
		s.sessions.answers.Answered(s.Device, s.id, a)
	}
}

// Renews reports whether the session may renew its credentials and do nothing else.
func (s *Session) Renews() bool { return s.aside }

// Proved returns what the session rests on: what it began with, or the newer credentials that the device has confirmed.
func (s *Session) Proved() Proof {
	s.sessions.mu.RLock()
	defer s.sessions.mu.RUnlock()
	return s.proof
}

// prove lets the session rest on p.
func (s *Session) prove(p Proof) {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	if s.proof.ID != p.ID {
		s.sessions.noteUse(s.Device, use{s.proof.ID, s.Seen()})
	}
	s.proof = p
	s.sessions.dirty[s.Device] = true
}

// Pending returns how many commands wait for the device.
func (s *Session) Pending() int { return s.sessions.answers.Pending(s.Device) }

// Progress passes on what the device says of a command that it works on.
func (s *Session) Progress(p wire.Progress) { s.sessions.answers.Progressed(s.Device, s.id, p) }

// end closes the session's connection from the hub's side.
func (s *Session) end(code int, reason string) {
	s.Link.Close(code, reason)
	s.Detach(reason)
}

// Detach ends the session with its cause in words. Only the first call counts, and none once a newer session of the
// device has taken its place.
func (s *Session) Detach(cause string) { s.sessions.detach(s, cause) }
