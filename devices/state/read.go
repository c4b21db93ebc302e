package state

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"telemetryhub/wire"
)

// Document is a device's state as readers see it. Its members are not changed once it was given out.
type Document struct {
	Device        string
	Version       uint64          // 0: nothing was ever desired or reported
	Desired       json.RawMessage // an object, as are the others
	Reported      json.RawMessage
	Delta         json.RawMessage // merge patch of what of desired differs from reported; nil: nothing
	DesiredTimes  json.RawMessage // shaped like Desired: when each value came, Unix ms
	ReportedTimes json.RawMessage
	DesiredAt     time.Time // of the newest change
	DesiredBy     string
	ReportedAt    time.Time
}

// State is what the device is told of it.
func (d Document) State() wire.State {
	return wire.State{Desired: d.Desired, Version: d.Version, Delta: d.Delta}
}

func (r *record) view() Document {
	d := Document{
		Device: r.Device, Version: r.Version,
		Desired: orEmpty(r.Desired.Doc), Reported: orEmpty(r.Reported.Doc),
		DesiredTimes: orEmpty(r.Desired.Times), ReportedTimes: orEmpty(r.Reported.Times),
		DesiredAt: r.Desired.At, DesiredBy: r.Desired.By, ReportedAt: r.Reported.At,
	}
	if r.Desired.Version == 0 {
		return d
	}
	desired, err := parseKept(r.Desired.Doc)
	if err != nil {
		return d
	}
	reported, err := parseKept(r.Reported.Doc)
	if err != nil {
		return d
	}
	if differs := delta(desired, reported); len(differs) > 0 {
		d.Delta = encode(differs)
	}
	return d
}

func orEmpty(object json.RawMessage) json.RawMessage {
	if len(object) == 0 {
		return json.RawMessage("{}")
	}
	return object
}

// Get returns a device's state as it is durable; of a device without one, empty objects and version 0.
func (s *Documents) Get(device string) Document {
	s.mu.Lock()
	r := record{Device: device}
	if d, ok := s.byDevice[device]; ok {
		r = d.record
	}
	s.mu.Unlock()
	return r.view()
}

// State returns what a device is to be told of its desired state.
func (s *Documents) State(device string) wire.State { return s.Get(device).State() }

// History returns a device's changes, the newest first: at most MaxChanges of each half.
func (s *Documents) History(ctx context.Context, device string) ([]Change, error) {
	r, _, err := s.read(ctx, device)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	slices.Reverse(r.History)
	return r.History, nil
}
