package main

import (
	"context"
	"errors"
	"strconv"

	"telemetryhub/api"
	"telemetryhub/ingest"
)

// quarantineAPI is ingest's quarantine as the API asks for it: ids and cursors are places in the quarantine.
type quarantineAPI struct{ ingest *ingest.Ingest }

func quarantineID(id string) (uint64, error) {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return 0, api.ErrNotQuarantined
	}
	return n, nil
}

func quarantinePlace(cursor string) (uint64, error) {
	if cursor == "" {
		return 0, nil
	}
	before, err := strconv.ParseUint(cursor, 10, 64)
	if err != nil {
		return 0, &api.QueryError{Parameter: "cursor", Value: cursor, Message: "it is not one that the hub gave"}
	}
	return before, nil
}

func quarantineCursor(place uint64) string {
	if place == 0 {
		return ""
	}
	return strconv.FormatUint(place, 10)
}

func quarantinedView(q ingest.Quarantined) api.Quarantined {
	return api.Quarantined{
		ID: strconv.FormatUint(q.ID, 10), Device: q.Device, Reason: q.Reason, Message: q.Message, Boot: q.Boot, Seq: q.Seq,
		Received: q.Received, Count: q.Count, Frame: q.Frame,
	}
}

func quarantineError(err error) error {
	switch {
	case errors.Is(err, ingest.ErrNotQuarantined):
		return api.ErrNotQuarantined
	case errors.Is(err, ingest.ErrStopped):
		return &api.UnavailableError{Message: "the hub is stopping", Err: err}
	}
	return err
}

// List implements api.Quarantine.
func (a quarantineAPI) List(ctx context.Context, q api.QuarantineQuery) ([]api.Quarantined, string, error) {
	before, err := quarantinePlace(q.Cursor)
	if err != nil {
		return nil, "", err
	}
	found, next, err := a.ingest.Quarantine(ctx, ingest.Filter{Device: q.Device, Reason: q.Reason}, before, q.Limit)
	if err != nil {
		return nil, "", err
	}
	items := make([]api.Quarantined, len(found))
	for n := range found {
		items[n] = quarantinedView(found[n])
	}
	return items, quarantineCursor(next), nil
}

// Get implements api.Quarantine.
func (a quarantineAPI) Get(ctx context.Context, id string) (api.Quarantined, error) {
	n, err := quarantineID(id)
	if err != nil {
		return api.Quarantined{}, err
	}
	q, err := a.ingest.Quarantined(ctx, n)
	if err != nil {
		return api.Quarantined{}, quarantineError(err)
	}
	return quarantinedView(q), nil
}

// Settle implements api.Quarantine.
func (a quarantineAPI) Settle(ctx context.Context, id string, drop bool) (api.Settled, error) {
	n, err := quarantineID(id)
	if err != nil {
		return api.Settled{}, err
	}
	settle := a.ingest.Retry
	if drop {
		settle = a.ingest.Drop
	}
	s, err := settle(ctx, n)
	if err != nil {
		return api.Settled{}, quarantineError(err)
	}
	return api.Settled{ID: id, State: string(s.Fate), Reason: s.Reason, Message: s.Message}, nil
}

// SettleAll implements api.Quarantine.
func (a quarantineAPI) SettleAll(ctx context.Context, q api.QuarantineQuery, drop bool) (api.SettledAll, error) {
	before, err := quarantinePlace(q.Cursor)
	if err != nil {
		return api.SettledAll{}, err
	}
	settle := a.ingest.RetryAll
	if drop {
		settle = a.ingest.DropAll
	}
	all, err := settle(ctx, ingest.Filter{Device: q.Device, Reason: q.Reason}, before, q.Limit)
	if err != nil {
		return api.SettledAll{}, quarantineError(err)
	}
	answer := api.SettledAll{Readings: map[string]uint64{}, Next: quarantineCursor(all.Next)}
	for fate, n := range all.Fates {
		answer.Readings[string(fate)] = n
	}
	return answer, nil
}
