package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
)

// Rollouts are commands to many devices; rollouts.Service is one.
type Rollouts interface {
	Create(ctx context.Context, r rollouts.Request) (rollouts.Rollout, error)
	Preview(r rollouts.Request) (rollouts.Preview, error)
	Get(ctx context.Context, id string) (rollouts.Rollout, error)
	List(state rollouts.State, limit int, cursor string) (found []rollouts.Rollout, next string)
	Devices(ctx context.Context, id string, outcomes []rollouts.Outcome, limit int, cursor string) (found []rollouts.DeviceOutcome, next string, err error)
	Pause(ctx context.Context, id, actor string) (rollouts.Rollout, error)
	Resume(ctx context.Context, id, actor string, limits *rollouts.Limits) (rollouts.Rollout, error)
	Cancel(ctx context.Context, id, actor string) (rollouts.Rollout, error)
}

// selectorSlack is what the ids of a selector may have in a body, beside the params.
const selectorSlack = 1 << 20

type rolloutInput struct {
	DryRun         bool   `query:"dry_run" doc:"Say whom it would reach, and make nothing: 200"`
	Limit          int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Devices in the answer to a dry run"`
	Cursor         string `query:"cursor" maxLength:"256" doc:"next of the page before, of a dry run"`
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"128" doc:"The same key again returns the first rollout"`
	Body           struct {
		To       RolloutSelector   `json:"to"`
		Method   string            `json:"method" minLength:"1" maxLength:"128"`
		Params   json.RawMessage   `json:"params,omitempty" doc:"A JSON object or array"`
		Delivery commands.Delivery `json:"delivery,omitempty" enum:"at-most-once,at-least-once"`
		Expires  string            `json:"expires,omitempty" doc:"Each command is not started later than that after its sending, such as 24h"`
		Timeout  string            `json:"timeout,omitempty" doc:"How long a device may take to answer, such as 30s"`
		Offline  string            `json:"offline,omitempty" enum:"queue,skip" doc:"What is done with a device that is not connected when its turn comes; queue unless said otherwise"`
		Waves    *struct {
			Sizes   []string `json:"sizes,omitempty" maxItems:"100" doc:"Of the first waves, such as 1 and 10%; the last size repeats"`
			Pause   string   `json:"pause,omitempty" doc:"Between the end of a wave and the next, such as 5m"`
			Timeout string   `json:"timeout,omitempty" doc:"How long a wave is waited for after its last sending; the commands' timeout and 5 s unless said otherwise. What is open then goes on beside the next wave"`
		} `json:"waves,omitempty" doc:"One wave unless said otherwise"`
		Limits *RolloutLimits `json:"limits,omitempty"`
	}
}

// RolloutSelector says which devices are meant; its members are joined by and.
type RolloutSelector struct {
	All        bool              `json:"all,omitempty" doc:"Every enabled device; stands alone, or with online"`
	IDs        []string          `json:"ids,omitempty" maxItems:"10000" nullable:"false"`
	Tags       []string          `json:"tags,omitempty" nullable:"false" doc:"A device has all of them"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Type       string            `json:"type,omitempty"`
	Online     bool              `json:"online,omitempty" doc:"Only devices that are connected now"`
}

// RolloutLimits say how many failures stop a rollout: failed, rejected, expired, unknown.
type RolloutLimits struct {
	Failures     string `json:"failures,omitempty" doc:"In all, such as 5, or 10% of those that have an outcome"`
	WaveFailures string `json:"wave_failures,omitempty" doc:"In the wave, likewise"`
	Minimum      int    `json:"minimum,omitempty" minimum:"0" maximum:"100000" doc:"How many devices must have an outcome before a percentage counts; 10 unless said otherwise"`
}

type rolloutOrPreview struct {
	Status   int
	Location string `header:"Location"`
	Body     any
}

type rolloutOutput struct{ Body Rollout }

// RolloutPath is the part of a path that names a rollout.
type RolloutPath struct {
	ID string `path:"id" doc:"The rollout's id"`
}

type rolloutsInput struct {
	State  rollouts.State `query:"state" enum:"running,paused,stopped,done,cancelled"`
	Limit  int            `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string         `query:"cursor" maxLength:"256" doc:"next of the page before"`
}

type rolloutsOutput struct {
	Body struct {
		Rollouts []Rollout `json:"rollouts" nullable:"false" doc:"Without params"`
		Next     string    `json:"next" doc:"Cursor of the next page; empty on the last"`
	}
}

type rolloutDevicesInput struct {
	RolloutPath
	Outcome []string `query:"outcome,explode" doc:"Only these; failures stands for failed, rejected, expired and unknown. May be given again and again"`
	Limit   int      `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor  string   `query:"cursor" maxLength:"256" doc:"next of the page before"`
}

type rolloutDevicesOutput struct {
	Body struct {
		Devices []RolloutDevice `json:"devices" nullable:"false" doc:"In the order of sending"`
		Next    string          `json:"next" doc:"Cursor of the next page; empty on the last"`
	}
}

type resumeInput struct {
	RolloutPath
	Body *struct {
		Limits *RolloutLimits `json:"limits,omitempty" doc:"From now on; left out, they stay"`
	}
}

func (s *Server) registerRollouts() {
	tags := []string{"rollouts"}
	register(s, operator, huma.Operation{
		OperationID: "start-rollout", Method: http.MethodPost, Path: "/api/v1/commands", Tags: tags, DefaultStatus: http.StatusCreated,
		MaxBodyBytes: int64(s.cfg.MaxParams) + selectorSlack + 1, Summary: "Send many devices a command",
		Description: "It makes a rollout, which is durable before anything is sent. Its devices are those that the selector means now; devices that are added or tagged later are not included. " +
			"Nothing is made, and nothing sent, if an id is unknown (422 unknown_devices), no device is meant, or a device's type does not take the command (422 devices_refuse, with the devices and their reasons).",
		Responses: map[string]*huma.Response{
			"200": {Description: "A dry run", Content: map[string]*huma.MediaType{"application/json": {Schema: schemaOf[RolloutPreview](s)}}},
			"201": {Description: "The rollout", Content: map[string]*huma.MediaType{"application/json": {Schema: schemaOf[Rollout](s)}}},
		},
	}, s.startRollout)
	register(s, viewer, huma.Operation{
		OperationID: "list-rollouts", Method: http.MethodGet, Path: "/api/v1/rollouts", Tags: tags, Summary: "Rollouts, newest first",
	}, s.listRollouts)
	register(s, viewer, huma.Operation{
		OperationID: "get-rollout", Method: http.MethodGet, Path: "/api/v1/rollouts/{id}", Tags: tags, Summary: "One rollout, with counts per outcome",
	}, func(ctx context.Context, in *RolloutPath) (*rolloutOutput, error) {
		return rolloutAnswer(s.deps.Rollouts.Get(ctx, in.ID))
	})
	register(s, viewer, huma.Operation{
		OperationID: "list-rollout-devices", Method: http.MethodGet, Path: "/api/v1/rollouts/{id}/devices", Tags: tags, Summary: "What became of a rollout's devices",
	}, s.rolloutDevices)
	register(s, operator, huma.Operation{
		OperationID: "pause-rollout", Method: http.MethodPost, Path: "/api/v1/rollouts/{id}/pause", Tags: tags, Summary: "Send nothing more until it is resumed",
		Description: "Commands that were sent or queued go on.",
	}, func(ctx context.Context, in *RolloutPath) (*rolloutOutput, error) {
		return rolloutAnswer(s.deps.Rollouts.Pause(ctx, in.ID, exchangeOf(ctx).operator.Name))
	})
	register(s, operator, huma.Operation{
		OperationID: "resume-rollout", Method: http.MethodPost, Path: "/api/v1/rollouts/{id}/resume", Tags: tags, Summary: "Go on with a rollout that is paused or stopped",
		Description: "After a stop by the limit of failures, failures are counted anew.",
	}, s.resumeRollout)
	register(s, operator, huma.Operation{
		OperationID: "cancel-rollout", Method: http.MethodDelete, Path: "/api/v1/rollouts/{id}", Tags: tags, Summary: "Cancel the rest of a rollout",
		Description: "What was not sent is not sent, and queued commands are cancelled. The counts say what was sent already; that still gets its outcome.",
	}, func(ctx context.Context, in *RolloutPath) (*rolloutOutput, error) {
		return rolloutAnswer(s.deps.Rollouts.Cancel(ctx, in.ID, exchangeOf(ctx).operator.Name))
	})
}

func rolloutAnswer(r rollouts.Rollout, err error) (*rolloutOutput, error) {
	if err != nil {
		return nil, rolloutProblem(err)
	}
	return &rolloutOutput{Body: rolloutView(r)}, nil
}

func (s *Server) startRollout(ctx context.Context, in *rolloutInput) (*rolloutOrPreview, error) {
	note(ctx, "to", clip(rollouts.Selector(in.Body.To).String()))
	note(ctx, "method", in.Body.Method)
	request, err := s.rolloutRequest(in)
	if err != nil {
		return nil, err
	}
	x := exchangeOf(ctx)
	request.Within = x.operator.Scope.Tags
	request.Actor, request.Role, request.Origin = x.operator.Name, string(x.operator.Role), x.origin()
	if in.DryRun {
		note(ctx, "dry_run", true)
		return s.previewRollout(request, in)
	}
	r, err := s.deps.Rollouts.Create(ctx, request)
	if err != nil {
		return nil, rolloutProblem(err)
	}
	note(ctx, "rollout", r.ID)
	note(ctx, "devices", r.Devices)
	return &rolloutOrPreview{Status: http.StatusCreated, Location: "/api/v1/rollouts/" + r.ID, Body: rolloutView(r)}, nil
}

func (s *Server) rolloutRequest(in *rolloutInput) (rollouts.Request, error) {
	b := &in.Body
	r := rollouts.Request{
		To: rollouts.Selector(b.To), Method: b.Method, Params: b.Params, Delivery: b.Delivery,
		Offline: rollouts.OfflineRule(b.Offline), IdempotencyKey: in.IdempotencyKey,
	}
	if n, limit := len(b.Params), s.cfg.MaxParams; n > limit {
		p := newProblem(http.StatusRequestEntityTooLarge, "params_too_large", "params of %d bytes are larger than %d", n, limit)
		return r, p.over(int64(limit), int64(n)).at("body.params", nil)
	}
	var faults [5]error
	r.Expires, faults[0] = parseDuration("body.expires", b.Expires, time.Second, maxExpires)
	r.Timeout, faults[1] = parseDuration("body.timeout", b.Timeout, time.Millisecond, maxTimeout)
	if w := b.Waves; w != nil {
		r.Waves.Pause, faults[2] = parseDuration("body.waves.pause", w.Pause, time.Millisecond, maxExpires)
		r.Waves.Timeout, faults[3] = parseDuration("body.waves.timeout", w.Timeout, time.Millisecond, maxExpires)
		for i, text := range w.Sizes {
			size, err := parseAmount("body.waves.sizes["+strconv.Itoa(i)+"]", text)
			if err != nil {
				return r, err
			}
			r.Waves.Sizes = append(r.Waves.Sizes, size)
		}
	}
	if b.Limits != nil {
		r.Limits, faults[4] = b.Limits.parse()
	}
	for _, err := range faults {
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

func parseAmount(location, text string) (rollouts.Amount, error) {
	a, err := rollouts.ParseAmount(text)
	if err != nil {
		return a, newProblem(http.StatusUnprocessableEntity, "bad_parameter", "%s: %v", location, err).at(location, clip(text))
	}
	return a, nil
}

func (l *RolloutLimits) parse() (limits rollouts.Limits, err error) {
	limits.Minimum = l.Minimum
	if limits.Failures, err = parseAmount("body.limits.failures", l.Failures); err != nil {
		return limits, err
	}
	limits.WaveFailures, err = parseAmount("body.limits.wave_failures", l.WaveFailures)
	return limits, err
}

func (s *Server) previewRollout(request rollouts.Request, in *rolloutInput) (*rolloutOrPreview, error) {
	from := 0
	if in.Cursor != "" {
		var err error
		if from, err = strconv.Atoi(in.Cursor); err != nil || from < 0 {
			return nil, badQuery("cursor", in.Cursor, "not a cursor; pass on what next said")
		}
	}
	p, err := s.deps.Rollouts.Preview(request)
	if err != nil {
		return nil, rolloutProblem(err)
	}
	return &rolloutOrPreview{Status: http.StatusOK, Body: previewView(p, from, in.Limit)}, nil
}

func (s *Server) listRollouts(ctx context.Context, in *rolloutsInput) (*rolloutsOutput, error) {
	scope := exchangeOf(ctx).operator.Scope
	found, next := s.deps.Rollouts.List(in.State, in.Limit, in.Cursor)
	outside := func(r rollouts.Rollout) bool { return !seesRollout(scope, &r) }
	found = slices.DeleteFunc(found, outside)
	for len(found) == 0 && next != "" { // an empty page would look like the end
		found, next = s.deps.Rollouts.List(in.State, in.Limit, next)
		found = slices.DeleteFunc(found, outside)
	}
	out := &rolloutsOutput{}
	out.Body.Rollouts, out.Body.Next = make([]Rollout, len(found)), next
	for i, r := range found {
		out.Body.Rollouts[i] = rolloutView(r)
	}
	return out, nil
}

func (s *Server) rolloutDevices(ctx context.Context, in *rolloutDevicesInput) (*rolloutDevicesOutput, error) {
	outcomes, err := parseOutcomes(in.Outcome)
	if err != nil {
		return nil, err
	}
	found, next, err := s.deps.Rollouts.Devices(ctx, in.ID, outcomes, in.Limit, in.Cursor)
	if invalid := (*commands.InvalidError)(nil); errors.As(err, &invalid) {
		return nil, badQuery(invalid.Field, in.Cursor, "%s", invalid.Message)
	}
	if err != nil {
		return nil, rolloutProblem(err)
	}
	found = slices.DeleteFunc(found, func(d rollouts.DeviceOutcome) bool { return !s.sees(ctx, d.Device) })
	out := &rolloutDevicesOutput{}
	out.Body.Devices, out.Body.Next = make([]RolloutDevice, len(found)), next
	for i, d := range found {
		out.Body.Devices[i] = RolloutDevice{Device: d.Device, Outcome: d.Outcome, Command: d.Command, Cause: d.Cause, Time: d.Time}
	}
	return out, nil
}

func parseOutcomes(given []string) (outcomes []rollouts.Outcome, err error) {
	const allowed = "pending accepted queued sent received running done failed rejected expired cancelled unknown skipped failures"
	for _, list := range given {
		for word := range strings.SplitSeq(list, ",") {
			switch {
			case word == "failures":
				outcomes = append(outcomes, "failed", "rejected", "expired", "unknown")
			case word == "" || strings.Contains(word, " ") || !strings.Contains(" "+allowed+" ", " "+word+" "):
				return nil, badQuery("outcome", word, "allowed are %s", strings.ReplaceAll(allowed, " ", ", "))
			default:
				outcomes = append(outcomes, rollouts.Outcome(word))
			}
		}
	}
	return outcomes, nil
}

func (s *Server) resumeRollout(ctx context.Context, in *resumeInput) (*rolloutOutput, error) {
	var limits *rollouts.Limits
	if in.Body != nil && in.Body.Limits != nil {
		parsed, err := in.Body.Limits.parse()
		if err != nil {
			return nil, err
		}
		limits = &parsed
		note(ctx, "limits", *in.Body.Limits)
	}
	return rolloutAnswer(s.deps.Rollouts.Resume(ctx, in.ID, exchangeOf(ctx).operator.Name, limits))
}

// rolloutProblem gives the errors of rollouts their outside form; others are left to problem.
func rolloutProblem(err error) error {
	var (
		unknown *rollouts.UnknownDevicesError
		refused *rollouts.RefusedError
		busy    *rollouts.BusyError
		state   *rollouts.StateError
	)
	switch {
	case errors.As(err, &unknown):
		p := newProblem(http.StatusUnprocessableEntity, "unknown_devices", "%v; nothing was sent", unknown)
		for _, id := range unknown.Unknown[:min(len(unknown.Unknown), rollouts.MaxRefusals)] {
			p.Errors = append(p.Errors, Detail{Location: "body.to.ids", Message: "no device has this id", Value: id})
		}
		for _, id := range unknown.Disabled[:min(len(unknown.Disabled), rollouts.MaxRefusals)] {
			p.Errors = append(p.Errors, Detail{Location: "body.to.ids", Message: "the device is disabled", Value: id})
		}
		return p
	case errors.As(err, &refused):
		p := newProblem(http.StatusUnprocessableEntity, "devices_refuse", "%v; nothing was sent", refused)
		for _, r := range refused.Refusals {
			p.Errors = append(p.Errors, Detail{Location: "body", Message: r.Reason, Value: r.Device})
		}
		return p
	case errors.As(err, &busy):
		return newProblem(http.StatusServiceUnavailable, "too_many_rollouts", "%v", busy).over(int64(busy.Limit), int64(busy.Value)).retryAfter(defaultRetry)
	case errors.As(err, &state):
		return newProblem(http.StatusConflict, "rollout_state", "%v", state)
	case errors.Is(err, rollouts.ErrNotFound):
		return newProblem(http.StatusNotFound, "rollout_not_found", "no rollout has this id")
	case errors.Is(err, rollouts.ErrClosed):
		return newProblem(http.StatusServiceUnavailable, "hub_stopping", "the hub is stopping").retryAfter(defaultRetry)
	}
	return err
}
