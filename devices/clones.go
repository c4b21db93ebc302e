package devices

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"telemetryhub/wire"
)

// Clones is what is done about two devices that use one identity and displace each other.
//
// A displacement counts if it goes back and forth between two sides: between two addresses, of which one comes back
// after the other had taken its place, or between two boots likewise. So a device on a bad network that displaces its own
// half-open connection does not count, nor one whose carrier gives it another address each time, nor one that restarts in
// a loop and has a new boot each time: what was displaced there never comes back. Only the identity is frozen, never an
// address: many devices may be behind one.
//
// Two devices behind one address that name no boot look like one on a bad network; they are told of, and not frozen.
type Clones struct {
	Policy string        // ClonesFreeze or ClonesNewest
	Count  int           // displacements within Window that make a clone; 0: never
	Window time.Duration //
	Freeze time.Duration // how long the identity is frozen; 0: until an operator ends it
}

// Policies of Clones.
const (
	ClonesFreeze = "freeze" // nobody gets in by this identity for a time
	ClonesNewest = "newest" // the newest connection wins each time; it is only told
)

// Bounds of Clones.
const (
	FewestClones  = 2 // below it nothing goes back and forth
	MostClones    = 30
	keptSides     = 2 * MostClones
	keptFreeze    = 4                // sides that a Freeze shows
	yieldedWithin = 10 * time.Second // between the end of the old connection and the beginning of the new
)

// Side is one of those that displaced each other.
type Side struct {
	Remote      string    `json:"remote"`
	Boot        string    `json:"boot,omitempty"` // as hello or the first reading named it; empty if none did
	Transport   string    `json:"transport"`
	Session     uint64    `json:"session"`
	ConnectedAt time.Time `json:"connected_at"`

	displaced bool      // it took the place of the one before it in the contest
	yielded   time.Time // when its transport ended it for a newer connection, which has not come yet
}

// Freeze says that an identity was found in use by several devices, and that nobody gets in by it.
type Freeze struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"` // zero: until an operator ends it
	Count int       `json:"count"`          // displacements that counted
	Sides []Side    `json:"sides"`          // the newest connection first
}

// ReasonFrozen is why a connection is refused, in answers, events and metrics.
const ReasonFrozen = "frozen"

// lasts reports whether nobody gets in at that time.
func (f *Freeze) lasts(now time.Time) bool {
	return f != nil && (f.Until.IsZero() || now.Before(f.Until))
}

// Cause is the end of a session that was frozen. It fits into a close frame.
func (f *Freeze) Cause() string {
	if f.Until.IsZero() {
		return "frozen as a clone until an operator ends it"
	}
	return "frozen as a clone until " + f.Until.UTC().Format(time.RFC3339)
}

// Describe says who displaced whom.
func (f *Freeze) Describe() string {
	sides := make([]string, len(f.Sides))
	for i, s := range f.Sides {
		sides[i] = s.Remote + " by " + s.Transport
		if s.Boot != "" {
			sides[i] += ", boot " + s.Boot
		}
	}
	return fmt.Sprintf("connections of this identity displaced each other %d times within a short time: %s", f.Count, strings.Join(sides, "; "))
}

// contest is the connections of a device of which one displaced another, the oldest first. Only a device that was
// displaced within the window has one.
type contest struct{ sides []Side }

// sideOf needs sessions.mu.
func sideOf(n *Session) Side {
	return Side{Remote: n.Remote, Boot: n.boot, Transport: n.Transport, Session: n.id, ConnectedAt: n.connected}
}

// displace notes that now took the place of old, which may have ended just before.
func (c *contest) displace(old *Session, now Side) {
	if last := len(c.sides) - 1; old != nil && (last < 0 || c.sides[last].Session != old.id) {
		c.sides = append(c.sides, sideOf(old))
	}
	now.displaced = len(c.sides) > 0
	c.sides = append(c.sides, now)
	if over := len(c.sides) - keptSides; over > 0 {
		c.sides = slices.Delete(c.sides, 0, over)
	}
}

// newest is when something last happened in it.
func (c *contest) newest() time.Time {
	last := c.sides[len(c.sides)-1]
	if last.yielded.After(last.ConnectedAt) {
		return last.yielded
	}
	return last.ConnectedAt
}

// forget drops what is older than since, but for the one that the first displacement was of.
func (c *contest) forget(since time.Time) {
	for len(c.sides) > 1 && c.sides[1].ConnectedAt.Before(since) {
		c.sides = slices.Delete(c.sides, 0, 1)
	}
}

// count returns how many of the displacements went back and forth between two addresses or two boots.
func (c *contest) count() int {
	address := func(s Side) string { return hostOf(s.Remote) }
	boot := func(s Side) string { return s.Boot }
	n := 0
	for i := range c.sides {
		if c.sides[i].displaced && i > 0 && (c.alternates(i, address) || c.alternates(i, boot)) {
			n++
		}
	}
	return n
}

// alternates reports whether the sides before and at i differ by key, and one of them was there before or came back.
func (c *contest) alternates(i int, key func(Side) string) bool {
	from, to := key(c.sides[i-1]), key(c.sides[i])
	if from == "" || to == "" || from == to {
		return false
	}
	is := func(k string) func(Side) bool { return func(s Side) bool { return key(s) == k } }
	return slices.ContainsFunc(c.sides[:i-1], is(to)) || slices.ContainsFunc(c.sides[i+1:], is(from))
}

// shown returns the sides that differ, the newest first. One whose boot is not known yet, as it was displaced at once, is
// shown by an older connection from its address.
func (c *contest) shown() (sides []Side) {
	for _, s := range slices.Backward(c.sides) {
		same := func(o Side) bool {
			return hostOf(o.Remote) == hostOf(s.Remote) && (o.Boot == s.Boot || o.Boot == "" || s.Boot == "")
		}
		switch k := slices.IndexFunc(sides, same); {
		case k < 0 && len(sides) < keptFreeze:
			sides = append(sides, s)
		case k >= 0 && sides[k].Boot == "":
			sides[k] = s
		}
	}
	return sides
}

// contend notes that n took old's place, or that of one which its transport has just ended for it. It returns what is to
// be done where this is a clone, nil otherwise. It needs mu.
func (s *Sessions) contend(old, n *Session) *Freeze {
	if s.life.Clones.Count == 0 || old != nil && old.bridged() {
		return nil
	}
	c := s.contests[n.Device]
	if old == nil && (c == nil || n.connected.Sub(c.sides[len(c.sides)-1].yielded) > yieldedWithin) {
		return nil
	}
	if c == nil {
		c = &contest{}
		s.contests[n.Device] = c
	}
	c.displace(old, sideOf(n))
	return s.judge(n.Device, n.connected)
}

// yield notes that n's transport ends it for a newer connection, before that one is attached. It needs mu.
func (s *Sessions) yield(n *Session) {
	if s.life.Clones.Count == 0 {
		return
	}
	c := s.contests[n.Device]
	if c == nil {
		c = &contest{}
		s.contests[n.Device] = c
	}
	if last := len(c.sides) - 1; last < 0 || c.sides[last].Session != n.id {
		c.sides = append(c.sides, sideOf(n))
	}
	c.sides[len(c.sides)-1].yielded = time.Now()
}

// judge decides whether the device's connections are those of clones, and freezes it where that is the policy. It needs
// mu.
func (s *Sessions) judge(device string, now time.Time) *Freeze {
	c := s.contests[device]
	c.forget(now.Add(-s.life.Clones.Window))
	count := c.count()
	if count < s.life.Clones.Count {
		return nil
	}
	f := &Freeze{Since: now, Count: count, Sides: c.shown()}
	delete(s.contests, device)
	s.troubles.Clones++
	if s.life.Clones.Policy == ClonesFreeze {
		if s.life.Clones.Freeze > 0 {
			f.Until = now.Add(s.life.Clones.Freeze)
		}
		s.frozen[device] = f
	}
	return f
}

// tellClones says what was found, and ends n where the identity is frozen.
func (s *Sessions) tellClones(n *Session, f *Freeze) {
	what := f.Describe()
	if s.life.Clones.Policy != ClonesFreeze {
		s.Note(n.Device, Event{Kind: EventClone, Reason: "contested", Message: what, Remote: n.Remote})
		s.log.Warn("several devices use one identity", "device", n.Device, "what", what)
		return
	}
	s.Note(n.Device, Event{Kind: EventClone, Reason: ReasonFrozen, Message: what, Remote: n.Remote, Status: wire.CloseFrozen, RetryAfter: s.life.Clones.Freeze.Milliseconds()})
	s.log.Warn("device frozen: several use its identity", "device", n.Device, "until", f.Until, "what", what)
	n.end(wire.CloseFrozen, f.Cause())
}

// NoteBoot notes the first boot that the session named.
func (s *Session) NoteBoot(boot string) {
	s.sessions.mu.Lock()
	s.boot = boot
	var found *Freeze
	if c := s.sessions.contests[s.Device]; c != nil {
		for i := range c.sides {
			if c.sides[i].Session == s.id {
				c.sides[i].Boot = boot
			}
		}
		if s.sessions.byDevice[s.Device] == s {
			found = s.sessions.judge(s.Device, time.Now())
		}
	}
	s.sessions.mu.Unlock()
	if found != nil {
		s.sessions.tellClones(s, found)
	}
}

// Frozen returns why nobody gets in by the device's identity; nil if it is not frozen.
func (s *Sessions) Frozen(device string) *Freeze {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if f := s.frozen[device]; f.lasts(time.Now()) {
		return f
	}
	return nil
}

// checkFrozen refuses a device that is frozen. It has proved who it is: nobody else learns of it, or can bring it about.
func (c *Connector) checkFrozen(w http.ResponseWriter, device string) *refusal {
	f := c.sessions.Frozen(device)
	if f == nil {
		return nil
	}
	detail := f.Cause() + ": several devices use this identity; see `hubctl why " + device + "`"
	if f.Until.IsZero() {
		return &refusal{http.StatusForbidden, ReasonFrozen, detail}
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(time.Until(f.Until).Seconds()))))
	return &refusal{http.StatusTooManyRequests, ReasonFrozen, detail}
}

// Unfreeze lets the device in again; by says who does. false: it was not frozen.
func (s *Sessions) Unfreeze(device, by string) bool {
	s.mu.Lock()
	ended := s.unfreeze(device)
	s.mu.Unlock()
	if ended {
		s.Note(device, Event{Kind: EventClone, Reason: "unfrozen", Message: "let in again by " + by})
		s.log.Info("device unfrozen", "device", device, "by", by)
	}
	return ended
}

// unfreeze needs mu.
func (s *Sessions) unfreeze(device string) bool {
	if s.frozen[device] == nil {
		return false
	}
	delete(s.frozen, device)
	delete(s.contests, device)
	s.change(device, ChangeUnfrozen, s.present(device))
	return true
}

// look does what is due at that time. The sweeper calls it once in sweepEvery.
func (s *Sessions) look(now time.Time) {
	s.thaw(now)
	s.judgeProbes(now)
	if now.Sub(s.lastProbes) >= probesEvery {
		s.lastProbes = now
		s.sendProbes(now)
	}
}

// thaw ends what is over: freezes, and contests in which nothing happens any more.
func (s *Sessions) thaw(now time.Time) {
	var over []string
	s.mu.Lock()
	for device, f := range s.frozen {
		if !f.lasts(now) {
			s.unfreeze(device)
			over = append(over, device)
		}
	}
	for device, c := range s.contests {
		if now.Sub(c.newest()) > max(s.life.Clones.Window, yieldedWithin) {
			delete(s.contests, device)
		}
	}
	s.mu.Unlock()
	for _, device := range over {
		s.Note(device, Event{Kind: EventClone, Reason: "unfrozen", Message: "let in again as its time was over"})
		s.log.Info("device unfrozen", "device", device, "by", "time")
	}
}

// Troubles counts what is wrong with connections.
type Troubles struct {
	Frozen           int    // identities that are frozen
	Clones           uint64 // times that several devices were found to use one identity
	Unresponsive     int    // devices that are
	ProbesAnswered   uint64
	ProbesUnanswered uint64
}

// Troubles returns the counts of this moment.
func (s *Sessions) Troubles() Troubles {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.troubles
	t.Frozen = len(s.frozen)
	for _, p := range s.probes {
		if !p.since.IsZero() {
			t.Unresponsive++
		}
	}
	return t
}
