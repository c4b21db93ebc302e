package presence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"telemetryhub/wire"
)

// Sink takes readings; ingest.Ingest is one. Commit returns when they are durable.
type Sink interface {
	Commit(ctx context.Context, device string, t *wire.Telemetry) error
}

// atOnce is how many readings wait for a commit together, so that they share it.
const atOnce = 64

// Readings writes changes of presence as readings of their devices, in a measurement of their own, by the way that all
// readings take: they are durable, and counted in the device's account as received. They bear the time of the change and
// no number, so that one that is told twice is the same point.
type Readings struct {
	measurement string
	sink        Sink
	known       func(device string) bool
}

// NewReadings returns a Teller for one Follower. Known tells devices that are registered; others have no account.
func NewReadings(measurement string, sink Sink, known func(device string) bool) *Readings {
	return &Readings{measurement: measurement, sink: sink, known: known}
}

// presenceReading is a change as telemetry (DESIGN: values of a reading).
type presenceReading struct {
	Measurement string         `json:"measurement"`
	TS          int64          `json:"ts"` // ms since 1970
	Values      map[string]any `json:"values"`
}

// Tell implements Teller: it returns when all of them are durable.
func (r *Readings) Tell(ctx context.Context, changes []Change, _ uint64) error {
	ended := make(chan error, len(changes))
	turns := make(chan struct{}, atOnce)
	for _, c := range changes {
		turns <- struct{}{}
		go func() { // ends with ctx at the latest
			defer func() { <-turns }()
			ended <- r.write(ctx, c)
		}()
	}
	var errs []error
	for range changes {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

func (r *Readings) write(ctx context.Context, c Change) error {
	if !r.known(c.Device) {
		return nil // deleted
	}
	text, err := json.Marshal(presenceReading{Measurement: r.measurement, TS: c.Time.UnixMilli(), Values: valuesOf(c)})
	if err != nil {
		return &RefusedError{err}
	}
	var decoder wire.Decoder
	var t wire.Telemetry
	if err := decoder.DecodePayload(text, &t); err != nil {
		return &RefusedError{fmt.Errorf("presence of %s as a reading: %w", c.Device, err)}
	}
	return r.sink.Commit(ctx, c.Device, &t)
}

func valuesOf(c Change) map[string]any {
	values := map[string]any{"online": c.Online}
	for name, text := range map[string]string{"transport": c.Transport, "cause": c.Cause, "session": c.Session} {
		if text != "" {
			values[name] = text
		}
	}
	if !c.Online && c.DurationMs > 0 {
		values["duration_s"] = float64(c.DurationMs) / 1000
	}
	if c.Frozen {
		values["frozen"] = true
	}
	return values
}
