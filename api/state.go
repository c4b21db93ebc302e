package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/devices/state"
	"telemetryhub/wire"
)

// States keeps what devices report and operators desire; state.Documents is one.
type States interface {
	Get(device string) state.Document
	Desire(ctx context.Context, device string, patch []byte, only []uint64, actor string) (state.Document, error)
	Report(device string, patch []byte, done func(version uint64, err error)) error
	History(ctx context.Context, device string) ([]state.Change, error)
	Forget(ctx context.Context, device string) error // the state of a device that was deleted
}

// maxPatch bounds the body of a change of the desired state, in bytes; the document has a bound of its own.
const maxPatch = 128 << 10

// DeviceState is a device's state as operators see it.
type DeviceState struct {
	Device     string          `json:"device"`
	Online     bool            `json:"online"`
	Version    uint64          `json:"version" doc:"Grows by one with each change of either half; 0: nothing was ever desired or reported"`
	Desired    json.RawMessage `json:"desired" doc:"What operators want it to be: an object"`
	Reported   json.RawMessage `json:"reported" doc:"What the device says that it is: an object"`
	Delta      json.RawMessage `json:"delta" doc:"What of desired differs from reported, as a merge patch: an object, empty when the device is as desired"`
	Metadata   StateTimes      `json:"metadata" doc:"When each value came"`
	DesiredAt  time.Time       `json:"desired_at,omitzero" doc:"Of the newest change of desired"`
	DesiredBy  string          `json:"desired_by,omitempty" doc:"Who made it"`
	ReportedAt time.Time       `json:"reported_at,omitzero" doc:"Of the newest change of reported"`
}

// StateTimes are shaped like the documents: in place of each value stands when it came.
type StateTimes struct {
	Desired  json.RawMessage `json:"desired" doc:"ms since 1970-01-01T00:00:00Z"`
	Reported json.RawMessage `json:"reported" doc:"ms since 1970-01-01T00:00:00Z"`
}

// StateChange is one change of a device's state.
type StateChange struct {
	Version uint64          `json:"version"`
	Time    time.Time       `json:"time"`
	Side    state.Side      `json:"side" enum:"desired,reported"`
	Actor   string          `json:"actor" doc:"Who made it: an operator's name, or device"`
	Patch   json.RawMessage `json:"patch,omitempty" doc:"What has changed, as a merge patch"`
	Bytes   int             `json:"bytes,omitempty" doc:"Size of a patch that was too large to be kept"`
}

// LiveState is the event that a device's state was changed.
type LiveState struct {
	Device   string          `json:"device"`
	Version  uint64          `json:"version"`
	Time     time.Time       `json:"time"`
	Changed  []state.Side    `json:"changed" nullable:"false" doc:"desired, reported or both"`
	By       string          `json:"by,omitempty" doc:"Who changed desired last"`
	Desired  json.RawMessage `json:"desired"`
	Reported json.RawMessage `json:"reported"`
	Delta    json.RawMessage `json:"delta"`
}

func deltaOf(d state.Document) json.RawMessage {
	if d.Delta == nil {
		return json.RawMessage("{}")
	}
	return d.Delta
}

func liveState(u state.Update) LiveState {
	l := LiveState{Device: u.Device, Version: u.Version, Time: u.ReportedAt, Changed: []state.Side{}, By: u.DesiredBy, Desired: u.Desired, Reported: u.Reported, Delta: deltaOf(u.Document)}
	if u.DesiredChanged {
		l.Changed = append(l.Changed, state.Desired)
	}
	if u.ReportedChanged {
		l.Changed = append(l.Changed, state.Reported)
	}
	if u.DesiredAt.After(l.Time) {
		l.Time = u.DesiredAt
	}
	return l
}

type stateOutput struct {
	ETag string `header:"ETag" doc:"The version, for If-Match"`
	Body DeviceState
}

func (s *Server) stateView(d state.Document) *stateOutput {
	out := &stateOutput{ETag: etagOf(d.Version)}
	out.Body = DeviceState{
		Device: d.Device, Online: s.deps.Sessions.Presence(d.Device).Online, Version: d.Version,
		Desired: d.Desired, Reported: d.Reported, Delta: deltaOf(d),
		Metadata:  StateTimes{Desired: d.DesiredTimes, Reported: d.ReportedTimes},
		DesiredAt: d.DesiredAt, DesiredBy: d.DesiredBy, ReportedAt: d.ReportedAt,
	}
	return out
}

func etagOf(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }

type changeStateInput struct {
	DevicePath
	IfMatch string `header:"If-Match" doc:"\"VERSION\": the change is for this version and no other; several by commas; * or left out: for any"`
}

type stateHistoryOutput struct {
	Body struct {
		Changes []StateChange `json:"changes" nullable:"false"`
	}
}

type reportStateOutput struct {
	Body struct {
		Desired json.RawMessage `json:"desired"`
		Version uint64          `json:"version"`
		Delta   json.RawMessage `json:"delta,omitempty" doc:"What of desired differs from what was reported; absent when nothing does"`
	}
}

func (s *Server) registerState() {
	tags := []string{"state"}
	const path = "/api/v1/devices/{id}/state"
	register(s, viewer, huma.Operation{
		OperationID: "get-state", Method: http.MethodGet, Path: path, Tags: tags, Summary: "What is desired of a device and what it reported",
	}, func(_ context.Context, in *DevicePath) (*stateOutput, error) {
		if _, err := s.find(in.ID); err != nil {
			return nil, err
		}
		return s.stateView(s.deps.States.Get(in.ID)), nil
	})
	register(s, operator, huma.Operation{
		OperationID: "change-state", Method: http.MethodPatch, Path: path, Tags: tags, Summary: "Change what is desired of a device",
		Description: "A merge patch (RFC 7396) with the member desired: members that are left out stay, null removes one. It is durable before this answers; a connected device " +
			"is told at once, another when it connects. With If-Match, another version: 412 version_mismatch, whose value is the version that is there.",
	}, s.changeState)
	register(s, viewer, huma.Operation{
		OperationID: "state-history", Method: http.MethodGet, Path: path + "/history", Tags: tags, Summary: "The changes of a device's state, newest first",
		Description: "At most " + strconv.Itoa(state.MaxChanges) + " of each half, desired and reported.",
	}, s.stateHistory)
	register(s, device, huma.Operation{
		OperationID: "report-state", Method: http.MethodPost, Path: path, Tags: tags, Summary: "A device reports its state",
		Description: "With the device's own credentials, for one that holds no socket. The body is {reported{}} or the reported members themselves, as a merge patch. " +
			"It is durable before this answers, with what is desired.",
	}, s.reportState)
	// Documented after they were registered: huma would read and parse bodies that it knows of, and is less strict.
	object := map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}}}
	s.api.OpenAPI().Paths[path].Post.RequestBody = &huma.RequestBody{Required: true, Content: object}
	patch := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: false, Properties: map[string]*huma.Schema{
		"desired": {Type: huma.TypeObject, AdditionalProperties: true, Nullable: true},
	}}
	s.api.OpenAPI().Paths[path].Patch.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/json": {Schema: patch}, "application/merge-patch+json": {Schema: patch},
	}}
}

func (s *Server) changeState(ctx context.Context, in *changeStateInput) (*stateOutput, error) {
	only, p := versionsOf(in.IfMatch)
	if p != nil {
		return nil, p
	}
	if _, err := s.find(in.ID); err != nil {
		return nil, err
	}
	x := exchangeOf(ctx)
	if dialect, err := dialectOf(x.request.Header); err != nil {
		return nil, err
	} else if dialect != (wire.Dialect{}) {
		return nil, newProblem(http.StatusUnsupportedMediaType, reasonMediaType, "a change of the state is JSON: application/merge-patch+json or application/json")
	}
	var body bytes.Buffer
	if err := s.readBody(x, maxPatch, &body); err != nil {
		return nil, err
	}
	patch, err := state.DesiredOf(body.Bytes())
	if err != nil {
		return nil, s.stateProblem(err)
	}
	d, err := s.deps.States.Desire(ctx, in.ID, patch, only, x.operator.Name)
	if err != nil {
		return nil, s.stateProblem(err)
	}
	note(ctx, "version", d.Version)
	s.logChange(ctx, "desired state", in.ID)
	return s.stateView(d), nil
}

// versionsOf reads If-Match (RFC 9110 section 13.1.1); nil stands for any version. Weak tags never match.
func versionsOf(header string) ([]uint64, *Problem) {
	if header == "" || strings.TrimSpace(header) == "*" {
		return nil, nil
	}
	versions := []uint64{}
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.TrimSpace(tag)
		weak := strings.HasPrefix(tag, "W/")
		text := strings.TrimPrefix(tag, "W/")
		if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
			p := newProblem(http.StatusBadRequest, "bad_if_match", `If-Match is a version in quotes, such as "7", or *; given was %s`, clip(header))
			return nil, p.at("header.If-Match", clip(header))
		}
		if version, err := strconv.ParseUint(text[1:len(text)-1], 10, 64); err == nil && !weak {
			versions = append(versions, version)
		}
	}
	return versions, nil
}

func (s *Server) stateHistory(ctx context.Context, in *DevicePath) (*stateHistoryOutput, error) {
	if _, err := s.find(in.ID); err != nil {
		return nil, err
	}
	changes, err := s.deps.States.History(ctx, in.ID)
	if err != nil {
		return nil, &UnavailableError{Message: "the history cannot be read now", Err: err}
	}
	out := &stateHistoryOutput{}
	out.Body.Changes = make([]StateChange, len(changes))
	for i, c := range changes {
		out.Body.Changes[i] = StateChange(c)
	}
	return out, nil
}

func (s *Server) reportState(ctx context.Context, in *DevicePath) (*reportStateOutput, error) {
	x := exchangeOf(ctx)
	id, err := s.authenticateDevice(x.request, in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.report(ctx, x, id); err != nil {
		if refused := s.stateProblem(err); refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests {
			s.refuseFrame(ctx, id, refused.Reason, refused)
			return nil, refused
		}
		return nil, s.stateProblem(err)
	}
	d := s.deps.States.Get(id)
	out := &reportStateOutput{}
	out.Body.Desired, out.Body.Version, out.Body.Delta = d.Desired, d.Version, d.Delta
	return out, nil
}

// report returns when what the body reports is durable.
func (s *Server) report(ctx context.Context, x *exchange, id string) error {
	dialect, p := dialectOf(x.request.Header)
	if p != nil {
		return p
	}
	scratch, _ := s.decode.Get().(*telemetryScratch)
	defer s.decode.Put(scratch)
	profile := s.deps.Profiles.Of(id)
	if err := s.readFrame(x, profile, &scratch.body); err != nil {
		return err
	}
	if err := s.pace(id, profile, scratch.body.Len()); err != nil {
		return err
	}
	patch, err := scratch.decoder.DecodeStatePayload(scratch.body.Bytes(), dialect)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	if err := s.deps.States.Report(id, patch, func(_ uint64, err error) { ended <- err }); err != nil {
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stop:
		return state.ErrClosed
	}
}

// stateProblem says an error of the states in HTTP's words.
func (s *Server) stateProblem(err error) *Problem {
	var (
		known   *Problem
		frame   *wire.Error
		invalid *state.InvalidError
		version *state.VersionError
		busy    *state.BusyError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &frame):
		return frameProblem(frame)
	case errors.As(err, &invalid):
		status, reason := http.StatusUnprocessableEntity, "invalid"
		if invalid.TooLarge {
			status, reason = http.StatusRequestEntityTooLarge, wire.ReasonStateTooLarge
		}
		return newProblem(status, reason, "%s", invalid.Error()).at("body"+invalid.Pointer, nil).over(invalid.Limit, invalid.Value)
	case errors.As(err, &version):
		p := newProblem(http.StatusPreconditionFailed, "version_mismatch", "the state has version %d; read it again and decide anew", version.Current)
		return p.over(0, int64(version.Current)).with("ETag", etagOf(version.Current))
	case errors.As(err, &busy):
		return newProblem(http.StatusServiceUnavailable, "too_many_changes", "%s", busy.Error()).over(int64(busy.Limit), 0).retryAfter(defaultRetry)
	case errors.Is(err, state.ErrNoDevice):
		return newProblem(http.StatusNotFound, "device_not_found", "no device has this id")
	case errors.Is(err, state.ErrClosed):
		return newProblem(http.StatusServiceUnavailable, "hub_stopping", "the hub is stopping").retryAfter(defaultRetry)
	case errors.Is(err, state.ErrNotMade):
		s.log.Warn("a change of a device's state was not made", "error", err)
		return newProblem(http.StatusServiceUnavailable, "unavailable", "%v: the hub cannot write now", state.ErrNotMade).retryAfter(defaultRetry)
	}
	s.log.Warn("a change of a device's state failed", "error", err)
	return newProblem(http.StatusServiceUnavailable, "unavailable", "%v; read the state before you try again", state.ErrUncertain).retryAfter(defaultRetry)
}
