package devices

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"telemetryhub/feed"
	"telemetryhub/wire"
)

// Answers is told what devices say of their commands, and of sessions that can take or no longer take any. Its
// methods do not wait for the network.
type Answers interface {
	Answered(device string, session uint64, a wire.Answer)
	Progressed(device string, session uint64, p wire.Progress)
	Pending(device string) int // commands that wait for the device
	SessionReady(device string, session uint64)
	SessionEnded(device string, session uint64)
}

// Sessions is who is connected: at most one session a device, the newest.
type Sessions struct {
	answers Answers
	life    Life
	log     *slog.Logger

	recorder recorder

	// Set before the first Attach.
	followers []func(*Session)                              // told of each session that has begun
	late      func(s *Session, token string, a wire.Answer) // takes answers to the hub's own requests that nobody waits for

	asking sync.Mutex
	asked  map[string]asked // by the request's id

	mu       sync.RWMutex
	byDevice map[string]*Session
	aside    map[string]*Session // those that may only renew
	last     map[string]Presence // of devices that are not connected
	lastID   uint64
	units    map[string]map[string]string // of devices, by field; one that is there is not changed but replaced
	uses     map[string][]use             // of credentials that the device does not use now
	dirty    map[string]bool              // devices whose presence is not yet written
	version  uint64                       // of the last presence change
	written  atomic.Uint64                // of the last one that is in the bucket, with all before it
	feeds    feed.Feeds[PresenceChange]
	contests map[string]*contest
	frozen   map[string]*Freeze // one that is there is not changed
	probes   map[string]*probe  // that were not answered yet
	troubles Troubles

	lastProbes time.Time // when devices to be probed were looked for; owned by the sweeper
}

// Life is what an operator can set of how connections live.
type Life struct {
	Clones Clones
	Probes Probes
}

// NewSessions returns an empty Sessions. Bind must be called before the first Attach.
func NewSessions(life Life, log *slog.Logger) *Sessions {
	first := uint64(time.Now().UnixMilli()) * 1000 // larger than every number of an earlier run, and far below 2^53
	return &Sessions{
		life: life, log: log, lastID: first, version: first,
		byDevice: map[string]*Session{}, aside: map[string]*Session{}, uses: map[string][]use{}, asked: map[string]asked{}, last: map[string]Presence{}, units: map[string]map[string]string{}, dirty: map[string]bool{},
		contests: map[string]*contest{}, frozen: map[string]*Freeze{}, probes: map[string]*probe{},
	}
}

// Bind names who is told of answers. Sessions routes commands for the ledger, which needs it to be made first.
func (s *Sessions) Bind(a Answers) { s.answers = a }

// follow names one more who is told of each session that has begun, without a lock of the sessions held.
func (s *Sessions) follow(told func(*Session)) { s.followers = append(s.followers, told) }

// CauseReplaced is the end of a session whose device has a newer connection.
const CauseReplaced = "replaced by a newer connection"

// Attach makes a the device's session. An older one is closed with code 4001; it has ended when Attach returns. Where the
// two are those of clones, or the device is frozen already, both are closed with code 4004, and the session returned has
// ended.
func (s *Sessions) Attach(a Attachment) *Session {
	n, _ := s.attach(a, false)
	return n
}

// AttachIfAbsent makes a the device's session unless it has one or is frozen.
func (s *Sessions) AttachIfAbsent(a Attachment) (n *Session, attached bool) { return s.attach(a, true) }

func (s *Sessions) attach(a Attachment, yields bool) (_ *Session, attached bool) {
	now := time.Now()
	n := &Session{Attachment: a, sessions: s, connected: now, proof: a.Proof, aside: a.Proof.Renewal}
	n.seen.Store(now.UnixMilli())
	n.heard.Store(now.UnixMilli())
	if n.aside {
		s.attachAside(n)
		return n, true
	}
	s.mu.Lock()
	old, frozen := s.byDevice[a.Device], s.frozen[a.Device]
	if yields && (old != nil || frozen.lasts(now)) {
		s.mu.Unlock()
		return nil, false
	}
	s.lastID++
	n.id = s.lastID
	if frozen.lasts(now) { // since it was let in
		n.over = true
		s.mu.Unlock()
		a.Link.Close(wire.CloseFrozen, frozen.Cause())
		return n, false
	}
	if n.before = s.last[a.Device]; old != nil {
		n.before.DisconnectedAt, n.before.Cause, n.before.Clock, n.before.Methods = now, CauseReplaced, old.clock, old.methods
	}
	n.clock, n.methods = n.before.Clock, n.before.Methods
	n.inherit(old)
	if old != nil {
		s.dropProbe(old, ProbeGone)
		n.before.Credential, n.before.LastSeen = old.proof.ID, old.Seen()
	}
	s.noteChange(n)
	s.byDevice[a.Device] = n
	clones := s.contend(old, n)
	s.change(a.Device, ChangeConnected, n.presence())
	s.mu.Unlock()

	s.Note(a.Device, Event{Kind: EventConnect, Reason: a.Transport, Remote: a.Remote})
	s.log.Info("device connected", "device", a.Device, "session", n.id, "transport", a.Transport, "remote", a.Remote)
	if old != nil {
		s.log.Info("device replaced its connection", "device", a.Device, "session", old.id, "duration", now.Sub(old.connected).Round(time.Millisecond))
		s.Note(a.Device, Event{Kind: EventClose, Reason: "replaced", Message: CauseReplaced + ", from " + a.Remote, Remote: old.Remote, Status: wire.CloseReplaced})
		if clones != nil && s.life.Clones.Policy == ClonesFreeze {
			old.Link.Close(wire.CloseFrozen, clones.Cause())
		} else {
			old.Link.Close(wire.CloseReplaced, CauseReplaced)
		}
		old.tellEnd()
	}
	for _, told := range s.followers {
		told(n)
	}
	if clones != nil {
		s.tellClones(n, clones)
	}
	return n, true
}

func (s *Sessions) detach(n *Session, cause string) {
	if n.aside {
		s.detachAside(n, cause)
		return
	}
	s.mu.Lock()
	if s.byDevice[n.Device] != n {
		s.mu.Unlock()
		return
	}
	s.dropProbe(n, ProbeGone)
	delete(s.byDevice, n.Device)
	if cause == CauseReplaced {
		s.yield(n)
	}
	p := n.presence()
	p.Online, p.DisconnectedAt, p.Cause = false, time.Now(), cause
	s.last[n.Device] = p
	if p.Frozen != nil {
		s.change(n.Device, ChangeFrozen, p)
	} else {
		s.change(n.Device, ChangeDisconnected, p)
	}
	s.mu.Unlock()

	s.Note(n.Device, Event{Kind: EventClose, Message: cause, Remote: n.Remote})
	s.log.Info("device disconnected", "device", n.Device, "session", n.id, "cause", cause, "duration", p.DisconnectedAt.Sub(p.ConnectedAt).Round(time.Millisecond))
	n.tellEnd()
}

// Online returns the device's session, if it has one.
func (s *Sessions) Online(device string) (session uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n, ok := s.byDevice[device]
	if !ok {
		return 0, false
	}
	return n.id, true
}

// Send gives a command to that session of the device. An error means that surely nothing was sent.
func (s *Sessions) Send(device string, session uint64, cmd wire.Command) error {
	s.mu.RLock()
	n, ok := s.byDevice[device]
	s.mu.RUnlock()
	if !ok || n.id != session {
		return errSessionOver
	}
	return n.Link.Send(cmd)
}

// Cancel asks the device, on that session, to give up a command. An error means that it was surely not asked.
func (s *Sessions) Cancel(device string, session uint64, id string) error {
	s.mu.RLock()
	n, ok := s.byDevice[device]
	s.mu.RUnlock()
	if !ok || n.id != session {
		return errSessionOver
	}
	return n.Link.Cancel(id)
}

// Ended tells the link of that session that a command has its outcome, where the link keeps what it was given.
func (s *Sessions) Ended(device string, session uint64, id string) {
	s.mu.RLock()
	n, ok := s.byDevice[device]
	s.mu.RUnlock()
	if !ok || n.id != session {
		return
	}
	if keeper, ok := n.Link.(interface{ Ended(id string) }); ok {
		keeper.Ended(id)
	}
}

// Kick ends the device's session and reports whether it had one.
func (s *Sessions) Kick(device string, code int, reason string) bool {
	n := s.session(device)
	if n != nil {
		n.end(code, reason)
	}
	return n != nil
}

// session returns the device's session, nil if it has none.
func (s *Sessions) session(device string) *Session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byDevice[device]
}

// all returns the device's session, and the one that stands aside, as far as there are any.
func (s *Sessions) all(device string) (all []*Session) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, n := range []*Session{s.byDevice[device], s.aside[device]} {
		if n != nil {
			all = append(all, n)
		}
	}
	return all
}

// connected returns the devices that have a session; one that has another aside may be there twice.
func (s *Sessions) connected() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.AppendSeq(slices.Collect(maps.Keys(s.byDevice)), maps.Keys(s.aside))
}

// Count returns how many sessions there are by transport.
func (s *Sessions) Count() map[string]int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	count := map[string]int{}
	for _, n := range s.byDevice {
		count[n.Transport]++
	}
	return count
}
