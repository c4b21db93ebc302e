package devices

import (
	"context"
	"errors"

	"telemetryhub/wire"
)

// Guard is the one place that ends sessions whose credential is void. Whatever changes a record of the registry, here or
// on another hub, its device's session is checked at once: not enabled any more, or its proof not valid, it ends with
// close code 4003.
type Guard struct {
	registry *Registry
	sessions *Sessions
	leaving  Leaving
}

// Leaving is told that a device's session is about to end because it was deleted or disabled. It does not wait. ctx is
// that of who changed the device, where that was on this hub.
type Leaving func(ctx context.Context, device, how string)

// NewGuard returns a Guard that watches from now on. leaving may be nil.
func NewGuard(registry *Registry, sessions *Sessions, leaving Leaving) *Guard {
	g := &Guard{registry: registry, sessions: sessions, leaving: leaving}
	registry.follow(g.Check)
	return g
}

// Check ends the device's session if its credential is void.
func (g *Guard) Check(ctx context.Context, device string) {
	n := g.sessions.session(device)
	if n == nil {
		return
	}
	err := g.registry.Current(device, n.Proof)
	if err == nil {
		return
	}
	reason := VoidReason(err)
	if g.leaving != nil && (errors.Is(err, ErrNotFound) || errors.Is(err, ErrDisabled)) {
		g.leaving(ctx, device, reason)
	}
	n.end(wire.CloseRevoked, reason)
}

// CheckAll checks every session: what proofs rest on has changed, such as a list of revoked certificates.
func (g *Guard) CheckAll(ctx context.Context) {
	for _, device := range g.sessions.connected() {
		g.Check(ctx, device)
	}
}
