package main

import (
	"encoding/json"
	"errors"
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
	Commands(device, method string) (of bridge.MappedCommands, mapped bool)
}

func (m *mappedDevices) add(transport string, by mapper) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byBridge == nil {
		m.byBridge = map[string]mapper{}
	}
	m.byBridge[transport] = by
}

// check refuses a command that no map of the device's bridge has, or whose params do not fit it, before it is recorded,
// and returns how long its outcome takes at most, 0 where nothing says so.
func (m *mappedDevices) check(device, transport, method string, params json.RawMessage) (time.Duration, error) {
	m.mu.RLock()
	by := m.byBridge[transport]
	m.mu.RUnlock()
	if by == nil {
		return 0, nil
	}
	of, mapped := by.Commands(device, method)
	if !mapped {
		return 0, nil
	}
	if slices.Contains(of.Methods, method) || slices.Contains(of.Methods, bridge.AnyMethod) {
		return of.Within, checkMappedParams(of.Params, method, params)
	}
	has := "none"
	if len(of.Methods) > 0 {
		has = strings.Join(of.Methods, ", ")
	}
	return 0, &commands.InvalidError{
		Field: "method", Reason: catalogue.ReasonMethod,
		Message: fmt.Sprintf("no map of %s says how %q goes to the device; it has %s", transport, method, has),
	}
}

// checkMappedParams holds params against the schema of a map, which is compiled for each command: they are few.
func checkMappedParams(schema json.RawMessage, method string, params json.RawMessage) error {
	if schema == nil {
		return nil
	}
	const kind = "mapped"
	one, err := catalogue.New([]catalogue.Type{{Name: kind, Methods: map[string]catalogue.Method{method: {Params: schema}}}})
	if err != nil {
		return fmt.Errorf("the schema of method %s: %w", method, err) // the configuration's check has passed it
	}
	_, err = one.Check(catalogue.Call{Type: kind, Method: method, Params: params})
	if refusal, ok := errors.AsType[*catalogue.Refusal](err); ok {
		refusal.Message = "the params do not fit method " + method + " of the device's map"
		return refused(refusal)
	}
	return err
}
