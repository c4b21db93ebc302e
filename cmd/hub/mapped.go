package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"telemetryhub/bridge"
	"telemetryhub/commands"
	"telemetryhub/commands/catalogue"
)

// mappedDevices knows which commands those devices have that are spoken to by maps. The bridges are opened after the
// ledger, which asks.
type mappedDevices struct {
	mu       sync.RWMutex
	byBridge map[string]mapper // by the transport of its devices
}

// mapper is a bridge with maps.
type mapper interface {
	Commands(device, method string) (methods []string, within time.Duration, mapped bool)
}

func (m *mappedDevices) add(transport string, by mapper) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byBridge == nil {
		m.byBridge = map[string]mapper{}
	}
	m.byBridge[transport] = by
}

// check refuses a command that no map of the device's bridge has, before it is recorded, and returns how long its outcome
// takes at most, 0 where nothing says so.
func (m *mappedDevices) check(device, transport, method string) (time.Duration, error) {
	m.mu.RLock()
	by := m.byBridge[transport]
	m.mu.RUnlock()
	if by == nil {
		return 0, nil
	}
	methods, within, mapped := by.Commands(device, method)
	if !mapped || slices.Contains(methods, method) || slices.Contains(methods, bridge.AnyMethod) {
		return within, nil
	}
	has := "none"
	if len(methods) > 0 {
		has = strings.Join(methods, ", ")
	}
	return 0, &commands.InvalidError{
		Field: "method", Reason: catalogue.ReasonMethod,
		Message: fmt.Sprintf("no map of %s says how %q goes to the device; it has %s", transport, method, has),
	}
}
