package devices

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"telemetryhub/wire"
)

// AdmissionConfig bounds how fast devices come in, and how many are there.
type AdmissionConfig struct {
	Rate        float64 // devices let in a second, over all transports
	Connections int     // of devices at a time, over all transports
}

const (
	// unusedKept is for how long slots that nobody took are kept: so many devices may come at one moment.
	unusedKept = 500 * time.Millisecond
	// patience is how far ahead a slot may be that is waited for on the spot. A device that is told to come later makes a
	// second TLS handshake, which costs it and the hub more than waiting does; it is well below the time that clients
	// give a handshake, 10 s in most libraries.
	patience = 3 * time.Second
	// placeKept is how long after its slot a device that was told to come later finds its place: its pauses are in whole
	// seconds, and so is Retry-After.
	placeKept = time.Minute
	// placesMost and aheadMost bound the places that are remembered. Who comes beyond is told a time and has no place.
	placesMost = 100_000
	aheadMost  = 5 * time.Minute

	// Of a planned stop: the first slot is when a hub that is started again at once may serve; the slots come a little
	// slower than devices are let in, so that there is room for those that came too early; and none is later than the last.
	firstReturn  = 2 * time.Second
	leastReturn  = time.Second
	returnShare  = 0.8
	latestReturn = 5 * time.Minute

	// fullPause is the shortest pause while all connections are taken: nobody knows when one becomes free.
	fullPause = 30 * time.Second
)

// NotNow is why a device is not let in now, and when to come again.
type NotNow struct {
	Reason       string // for programs: wire.ReasonHerd, wire.ReasonFull or wire.ReasonStopping
	Message      string
	After        time.Duration
	Limit, Value int64 // what was passed, if something was
}

// CloseReason is what a close frame says, or an MQTT packet's reason string: at most 123 bytes (RFC 6455 section 5.5).
func (n *NotNow) CloseReason() string {
	return fmt.Sprintf(`{"retry_after_ms":%d}`, n.After.Milliseconds())
}

func (n *NotNow) notice() wire.Notice {
	return wire.Notice{Code: n.Reason, Message: n.Message, RetryAfter: n.After}
}

// Admission sets the pace at which devices come in. After an outage all of a fleet comes at once; each device that cannot
// be let in is told a slot of its own, one after the other at the hub's rate, and finds its place when it comes then: who
// obeys is told so once. It is a leaky bucket in the form of a schedule (the virtual scheduling of ITU-T I.371).
//
// A place belongs to the device, not to its address: many devices share one. Who comes before its slot keeps it, so that
// hammering gains nothing.
type Admission struct {
	every time.Duration // between two slots
	rate  float64       // slots a second
	most  int           // connections

	mu          sync.Mutex
	next        time.Time            // the first slot that nobody has
	places      map[string]time.Time // slots of devices that were told to come later
	order       []place              // the same by slot; those that are void as well
	connections int
	waiting     int // on the spot
	stats       AdmissionStats
	stopping    chan struct{} // closed by Stop
	stopped     bool
	last        time.Duration // Return
}

type place struct {
	device string
	slot   time.Time
}

// AdmissionStats is what an Admission has done.
type AdmissionStats struct {
	Admitted    uint64
	Waited      uint64            // of them, who waited for the slot on the spot
	WaitSeconds float64           // their waits
	Refused     map[string]uint64 // by reason
	Early       uint64            // of the refused, who came before its slot although it had been told
	Forgotten   uint64            // places whose devices did not come

	Connections, MostConnections int
	Places, Waiting              int
	Ahead                        time.Duration // from now to the first slot that nobody has
	Return                       time.Duration // once stopped: over which all that were connected come back
	Rate                         float64
}

// NewAdmission returns an Admission that lets devices in. Both members of cfg are above 0.
func NewAdmission(cfg AdmissionConfig) *Admission {
	return &Admission{
		every: time.Duration(float64(time.Second) / cfg.Rate), rate: cfg.Rate, most: cfg.Connections,
		places: map[string]time.Time{}, stats: AdmissionStats{Refused: map[string]uint64{}}, stopping: make(chan struct{}),
	}
}

// Admit returns nil when the device, which has proved who it is, may come in; it may wait a few seconds for that. One
// that is online replaces its own connection, and so needs no other. ctx ends the wait of a device that has gone.
func (a *Admission) Admit(ctx context.Context, device string, online bool) *NotNow {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if a.stopped {
		return a.refuse(a.leave(now))
	}
	if a.connections >= a.most && !online {
		return a.refuse(a.full())
	}
	wait, early := a.slot(device, now)
	if wait > patience {
		if early {
			a.stats.Early++
		}
		return a.refuse(a.busy(wait))
	}
	if wait > 0 && !a.wait(ctx, wait) {
		return a.refuse(a.leave(time.Now()))
	}
	a.stats.Admitted++
	return nil
}

// wait waits for a slot on the spot; false says that the hub stops. It needs mu, and gives it up meanwhile.
func (a *Admission) wait(ctx context.Context, wait time.Duration) bool {
	a.waiting++
	a.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	going := true
	select {
	case <-timer.C:
	case <-ctx.Done(): // it has gone: whatever is answered, nobody reads it
	case <-a.stopping:
		going = false
	}
	a.mu.Lock()
	a.waiting--
	a.stats.Waited++
	a.stats.WaitSeconds += wait.Seconds()
	return going
}

// slot returns how long the device has to wait for its slot, 0 if it may come in; early says that it had been told. It
// needs mu.
func (a *Admission) slot(device string, now time.Time) (wait time.Duration, early bool) {
	a.forget(now)
	if slot, told := a.places[device]; told {
		if wait = slot.Sub(now); wait <= patience {
			delete(a.places, device)
		}
		return max(0, wait), true
	}
	if oldest := now.Add(-unusedKept); a.next.Before(oldest) {
		a.next = oldest
	}
	slot := a.next
	wait = slot.Sub(now)
	if wait > aheadMost || len(a.places) >= placesMost {
		return wait + rand.N(max(wait/4, time.Second)), false // no place: spread at least
	}
	a.next = slot.Add(a.every)
	if wait > patience {
		a.places[device] = slot
		a.order = append(a.order, place{device, slot})
	}
	return max(0, wait), false
}

// forget gives up the places of devices that did not come. It needs mu.
func (a *Admission) forget(now time.Time) {
	void := 0
	for _, p := range a.order {
		if now.Before(p.slot.Add(placeKept)) {
			break
		}
		void++
		if a.places[p.device].Equal(p.slot) {
			delete(a.places, p.device)
			a.stats.Forgotten++
		}
	}
	a.order = a.order[void:]
	if len(a.order) == 0 {
		a.order = nil
	}
}

// refuse counts a refusal. It needs mu.
func (a *Admission) refuse(no *NotNow) *NotNow {
	a.stats.Refused[no.Reason]++
	return no
}

func (a *Admission) busy(wait time.Duration) *NotNow {
	return &NotNow{
		Reason: wire.ReasonHerd, After: wait, Limit: int64(max(1, a.rate)),
		Message: fmt.Sprintf("devices come faster than %.4g a second; this one's turn is in %s, and is kept for it", a.rate, wait.Round(time.Millisecond)),
	}
}

func (a *Admission) full() *NotNow {
	return &NotNow{
		Reason: wire.ReasonFull, After: fullPause + rand.N(fullPause), Limit: int64(a.most), Value: int64(a.connections),
		Message: fmt.Sprintf("all %d connections for devices are taken", a.most),
	}
}

// leave gives the next slot of those in which devices come back after the stop. It needs mu.
func (a *Admission) leave(now time.Time) *NotNow {
	if first := now.Add(leastReturn); a.next.Before(first) {
		a.next = first
	}
	slot := a.next
	a.next = slot.Add(a.every)
	return &NotNow{Reason: wire.ReasonStopping, Message: "the hub stops or restarts", After: slot.Sub(now)}
}

// Leave gives a connection its slot after the stop.
func (a *Admission) Leave() *NotNow {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.leave(time.Now())
}

// Stop lets nobody in any more. From now on there are slots for coming back, each for one device, over the time that a
// hub needs to let all in that are connected.
func (a *Admission) Stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return
	}
	a.stopped = true
	close(a.stopping)
	a.every = time.Duration(float64(a.every) / returnShare)
	if all := a.every * time.Duration(a.connections); all > latestReturn {
		a.every = latestReturn / time.Duration(a.connections)
	}
	a.next = time.Now().Add(firstReturn)
	a.last = firstReturn + a.every*time.Duration(a.connections)
}

// Enter counts a connection that was let in, when it is ready; Exit must follow if it is nil. Between Admit and Enter
// others may have taken the last ones.
func (a *Admission) Enter(online bool) *NotNow {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.connections >= a.most && !online {
		return a.refuse(a.full())
	}
	a.connections++
	return nil
}

// Exit counts the end of a connection that entered.
func (a *Admission) Exit() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.connections--
}

// Stats returns what the Admission has done, and where it stands.
func (a *Admission) Stats() AdmissionStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.forget(now)
	s := a.stats
	s.Refused = maps.Clone(s.Refused)
	s.Connections, s.MostConnections, s.Places, s.Waiting, s.Rate = a.connections, a.most, len(a.places), a.waiting, a.rate
	s.Return = a.last
	s.Ahead = max(0, a.next.Sub(now))
	return s
}
