package main

import (
	"context"

	"telemetryhub/api"
	"telemetryhub/devices"
)

// openProofs comes after the ledger and before any device is let in.
func (h *hub) openProofs() {
	guard := devices.NewGuard(h.registry, h.sessions, h.abandonCommands)
	h.background("expiry of credentials", guard.Run)
	h.followTrust(guard)
	h.issuer = devices.NewIssuer(h.authority, h.registry, h.sessions)
	h.rotation = devices.NewRotation(h.registry, h.sessions, h.issuer, h.log)
	h.background("rotation of credentials", h.rotation.Run)
}

// abandonCommands implements devices.Leaving: what a device was sent ends with the true cause, before the end of its
// connection gives it another. It only says so; who deleted or disabled the device waits until that is durable.
func (h *hub) abandonCommands(ctx context.Context, device, how string) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_ = h.commands.Abandon(ctx, device, api.OperatorName(ctx), "the device was "+how)
}
