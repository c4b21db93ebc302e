package devices

import (
	"context"
	"errors"
	"sync"
	"time"

	"telemetryhub/wire"
)

// Guard is the one place that ends sessions whose credential is void. Whatever changes a record of the registry, here or
// on another hub, its device's sessions are checked at once: not enabled any more, or its proof not valid, they end with
// close code 4003. Proofs that expire are looked at when they do.
type Guard struct {
	registry *Registry
	sessions *Sessions
	leaving  Leaving

	mu   sync.Mutex
	soon map[string]bool // devices with a session that may end before the next look at all
}

// Leaving is told that a device's session is about to end because it was deleted or disabled. It does not wait. ctx is
// that of who changed the device, where that was on this hub.
type Leaving func(ctx context.Context, device, how string)

// All sessions are looked at in guardAll, those whose proof ends before the next such look in guardEvery.
const (
	guardAll   = time.Minute
	guardEvery = 500 * time.Millisecond
)

// NewGuard returns a Guard that watches the registry from now on, and the time while it runs. leaving may be nil.
func NewGuard(registry *Registry, sessions *Sessions, leaving Leaving) *Guard {
	g := &Guard{registry: registry, sessions: sessions, leaving: leaving, soon: map[string]bool{}}
	registry.follow(g.Check)
	// Whether it is void already asks whoever attached it.
	sessions.follow(func(n *Session) { _ = g.schedule(n) })
	return g
}

// Run ends sessions when their proof expires, until ctx ends.
func (g *Guard) Run(ctx context.Context) {
	all, some := time.NewTicker(guardAll), time.NewTicker(guardEvery)
	defer all.Stop()
	defer some.Stop()
	for {
		select {
		case <-all.C:
			g.CheckAll(ctx)
		case <-some.C:
			g.mu.Lock()
			var soon map[string]bool
			if len(g.soon) > 0 {
				soon, g.soon = g.soon, map[string]bool{}
			}
			g.mu.Unlock()
			for device := range soon {
				g.Check(ctx, device)
			}
		case <-ctx.Done():
			return
		}
	}
}

// Check ends those of the device's sessions whose credential is void.
func (g *Guard) Check(ctx context.Context, device string) {
	for _, n := range g.sessions.all(device) {
		g.check(ctx, n)
	}
}

func (g *Guard) check(ctx context.Context, n *Session) {
	err := g.schedule(n)
	if err == nil {
		return
	}
	reason := VoidReason(err)
	if g.leaving != nil && !n.aside && (errors.Is(err, ErrNotFound) || errors.Is(err, ErrDisabled)) {
		g.leaving(ctx, n.Device, reason)
	}
	n.end(wire.CloseRevoked, reason)
}

// schedule says whether the session may go on, and has it looked at when it no longer may.
func (g *Guard) schedule(n *Session) error {
	until, err := g.registry.standing(n.Device, n.Proved())
	if err != nil {
		return err
	}
	if patience := n.connected.Add(renewalPatience); n.aside && (until.IsZero() || patience.Before(until)) {
		until = patience
	}
	switch left := time.Until(until); {
	case until.IsZero() || left > guardAll+guardEvery:
	case left <= 0:
		return ErrExpired
	default:
		g.mu.Lock()
		g.soon[n.Device] = true
		g.mu.Unlock()
	}
	return nil
}

// CheckAll checks every session. Besides the Guard itself it is for those who know that what proofs rest on has changed,
// such as a list of revoked certificates.
func (g *Guard) CheckAll(ctx context.Context) {
	for _, device := range g.sessions.connected() {
		g.Check(ctx, device)
	}
}
