package main

import (
	"context"

	"telemetryhub/api"
)

// abandonCommands implements devices.Leaving: what a device was sent ends with the true cause, before the end of its
// connection gives it another. It only says so; who deleted or disabled the device waits until that is durable.
func (h *hub) abandonCommands(ctx context.Context, device, how string) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_ = h.commands.Abandon(ctx, device, api.OperatorName(ctx), "the device was "+how)
}
