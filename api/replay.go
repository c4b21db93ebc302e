package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

type replayInput struct {
	Body struct {
		From   string `json:"from" minLength:"1" maxLength:"64" doc:"Inclusive, by time of receipt: RFC 3339, ms since 1970, or back from now such as -24h"`
		To     string `json:"to,omitempty" maxLength:"64" doc:"Exclusive, as from; now when left out"`
		Device string `json:"device,omitempty" maxLength:"64" doc:"Only this device"`
	}
}

type replayOutput struct{ Body Replay }

func (s *Server) registerReplay() {
	tags := []string{"account"}
	register(s, admin, huma.Operation{
		OperationID: "start-replay", Method: http.MethodPost, Path: "/api/v1/replay", Tags: tags, DefaultStatus: http.StatusAccepted,
		Summary: "Write to the store again what the journal still keeps",
		Description: "It fills a new database after a disaster. Each reading gets the verdict that it had: duplicates and quarantined ones are passed over, and what is there already is not changed. " +
			"It runs in the background, behind live readings, one at a time, and is not counted in the account.",
	}, s.startReplay)
	register(s, viewer, huma.Operation{
		OperationID: "get-replay", Method: http.MethodGet, Path: "/api/v1/replay", Tags: tags, Summary: "How far the last replay is",
	}, func(context.Context, *struct{}) (*replayOutput, error) { return lastReplay(s.deps.Replays.Last()) })
	register(s, admin, huma.Operation{
		OperationID: "cancel-replay", Method: http.MethodDelete, Path: "/api/v1/replay", Tags: tags, Summary: "Cancel the replay that runs",
	}, func(context.Context, *struct{}) (*replayOutput, error) { return lastReplay(s.deps.Replays.Cancel()) })
}

func lastReplay(r Replay, ok bool) (*replayOutput, error) {
	if !ok {
		return nil, newProblem(http.StatusNotFound, "no_replay", "there was no replay since the hub was started")
	}
	return &replayOutput{Body: r}, nil
}

func (s *Server) startReplay(ctx context.Context, in *replayInput) (*replayOutput, error) {
	now := s.cfg.Now()
	from, err := parseTime("from", in.Body.From, now)
	if err != nil {
		return nil, err
	}
	to := now
	if in.Body.To != "" {
		if to, err = parseTime("to", in.Body.To, now); err != nil {
			return nil, err
		}
	}
	if !from.Before(to) {
		return nil, newProblem(http.StatusUnprocessableEntity, "bad_parameter", "from is not before to").at("body.from", clip(in.Body.From))
	}
	noteDevice(ctx, in.Body.Device)
	note(ctx, "from", from)
	note(ctx, "to", to)
	r, err := s.deps.Replays.Start(from, to, in.Body.Device)
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "replay started", "from", from, "to", to, "device", in.Body.Device, "operator", exchangeOf(ctx).operator.Name)
	return &replayOutput{Body: r}, nil
}
