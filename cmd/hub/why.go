package main

import (
	"context"
	"fmt"

	"telemetryhub/commands"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// commandEvents is how many changes of commands wait for the flight recorder. It does nothing but write to memory; what
// it misses all the same is still in the ledger.
const commandEvents = 4096

// noteCommands tells the flight recorder of commands that ended otherwise than done, until ctx ends.
func (h *hub) noteCommands(ctx context.Context) {
	changes := h.commands.Subscribe(commandEvents)
	defer changes.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-changes.C():
			if e, ok := eventOfCommand(c); ok {
				h.sessions.Note(c.Device, e)
			}
		}
	}
}

func eventOfCommand(c commands.Command) (e devices.Event, ok bool) {
	switch c.State {
	case commands.Failed, commands.Rejected, commands.Expired, commands.Unknown:
	default:
		return e, false
	}
	why := ""
	if n := len(c.History); n > 0 && c.History[n-1].Cause != "" {
		why = ": " + c.History[n-1].Cause
	}
	return devices.Event{Kind: devices.EventCommand, Reason: string(c.State), Message: fmt.Sprintf("%s, command %s%s", c.Method, c.ID, why)}, true
}

// noteAside tells the flight recorder of readings that went to the quarantine, by whatever way they came.
func (h *hub) noteAside(device, reason, message string, n uint64) {
	if _, ok := h.registry.Get(device); ok {
		h.sessions.Note(device, devices.Event{Kind: devices.EventQuarantine, Reason: reason, Message: message, Count: n})
		if reason == wire.ReasonTooManyNames {
			h.throttle.Passed(devices.LimitFields, h.profiles.Of(device), n)
		}
	}
}
