package main

import (
	"errors"
	"time"

	"telemetryhub/api"
	"telemetryhub/ingest"
)

// replayAPI is ingest's replays as the API asks for them.
type replayAPI struct{ ingest *ingest.Ingest }

// Start implements api.Replays.
func (a replayAPI) Start(from, to time.Time, device string) (api.Replay, error) {
	r, err := a.ingest.StartReplay(from, to, device)
	switch {
	case errors.Is(err, ingest.ErrReplayRunning):
		return api.Replay{}, api.ErrReplayRunning
	case errors.Is(err, ingest.ErrStopped):
		return api.Replay{}, &api.UnavailableError{Message: "the hub is stopping", Err: err}
	}
	return replayView(r), err
}

// Last implements api.Replays.
func (a replayAPI) Last() (api.Replay, bool) {
	r, ok := a.ingest.Replay()
	return replayView(r), ok
}

// Cancel implements api.Replays.
func (a replayAPI) Cancel() (api.Replay, bool) {
	r, ok := a.ingest.CancelReplay()
	return replayView(r), ok
}

func replayView(r ingest.Replay) api.Replay {
	return api.Replay{
		State: string(r.State), From: r.From, To: r.To, Device: r.Device, Started: r.Started, Ended: r.Ended, Oldest: r.Oldest,
		Read: r.Envelopes, Of: r.Of, Written: r.Written, Passed: r.PassedOver, Rejected: r.Rejected, Missing: r.Missing, Fault: r.Fault,
	}
}
