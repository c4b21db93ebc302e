package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/commands"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// Problem is the body of every error (RFC 9457). Its type is always about:blank; Reason tells problems apart.
type Problem struct {
	Type         string   `json:"type" doc:"Always about:blank; the reason tells problems apart"`
	Title        string   `json:"title"`
	Status       int      `json:"status"`
	Detail       string   `json:"detail,omitempty"`
	Reason       string   `json:"reason,omitempty" doc:"For programs: what is wrong"`
	Limit        int64    `json:"limit,omitempty" doc:"The limit that was passed"`
	Value        int64    `json:"value,omitempty" doc:"What was measured against the limit"`
	RetryAfterMs int64    `json:"retry_after_ms,omitempty" doc:"When to try again"`
	Errors       []Detail `json:"errors,omitempty" nullable:"false" doc:"Where the request is wrong"`

	header http.Header
}

// Detail is one fault of a request.
type Detail struct {
	Location string `json:"location,omitempty" doc:"Such as query.from or body.method"`
	Pointer  string `json:"pointer,omitempty" doc:"Of a command's params: where in them, as a JSON pointer (RFC 6901)"`
	Message  string `json:"message"`
	Value    any    `json:"value,omitempty" doc:"What was given there"`
}

// Error makes a Problem an error.
func (p *Problem) Error() string { return p.Reason + ": " + p.Detail }

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders are the headers that go with the problem.
func (p *Problem) GetHeaders() http.Header { return p.header }

// ContentType is that of RFC 9457.
func (p *Problem) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

func newProblem(status int, reason, format string, args ...any) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

func (p *Problem) with(name, value string) *Problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Add(name, value)
	return p
}

// retryAfter says when to try again, in the body and, rounded up to seconds, in the header.
func (p *Problem) retryAfter(d time.Duration) *Problem {
	p.RetryAfterMs = max(d.Milliseconds(), 1)
	return p.with("Retry-After", strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10))
}

// at names the part of the request that is wrong and what stood there.
func (p *Problem) at(location string, value any) *Problem {
	p.Errors = append(p.Errors, Detail{Location: location, Message: p.Detail, Value: value})
	return p
}

func (p *Problem) over(limit, value int64) *Problem {
	p.Limit, p.Value = limit, value
	return p
}

// write answers with the problem, outside of huma.
func (p *Problem) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), p.header)
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone: nobody is left to tell
}

// UnavailableError is returned by History and Ingest when they cannot answer now; Message is shown.
type UnavailableError struct {
	Message string
	After   time.Duration // when to try again, 0 unknown
	Err     error
}

func (e *UnavailableError) Error() string { return e.Message }
func (e *UnavailableError) Unwrap() error { return e.Err }

// QueryError is returned by History and Ingest when a parameter of the query is wrong; Message is shown.
type QueryError struct{ Parameter, Value, Message string }

func (e *QueryError) Error() string { return e.Parameter + ": " + e.Message }

// defaultRetry is when to try again where nobody knows better.
const defaultRetry = 5 * time.Second

// queueRetry is when to try again while a device's queue is full: it empties when the device comes, or answers.
const queueRetry = time.Minute

// problem is the one place where an error becomes what the outside sees.
func (s *Server) problem(ctx context.Context, err error) *Problem {
	var (
		known       *Problem
		frame       *wire.Error
		device      *devices.InvalidError
		queue       *commands.QueueFullError
		command     *commands.InvalidError
		forbidden   *commands.ForbiddenError
		busy        *commands.BusyError
		unavailable *UnavailableError
		query       *QueryError
	)
	switch {
	case errors.As(err, &known):
		return known
	case enrolmentProblem(err) != nil:
		return enrolmentProblem(err)
	case discoveryProblem(err) != nil:
		return discoveryProblem(err)
	case errors.As(err, &frame):
		return frameProblem(frame)
	case errors.As(err, &device):
		return newProblem(http.StatusUnprocessableEntity, "invalid", "%s: %s", device.Field, device.Message).at("body."+device.Field, nil)
	case errors.As(err, &command):
		return commandProblem(command)
	case errors.As(err, &forbidden):
		return newProblem(http.StatusForbidden, "role", "%v; %s is %s", forbidden, exchangeOf(ctx).operator.Name, exchangeOf(ctx).operator.Role)
	case errors.As(err, &query):
		return badQuery(query.Parameter, query.Value, "%s", query.Message)
	case errors.As(err, &queue):
		return newProblem(http.StatusTooManyRequests, "queue_full", "%s", queue.Error()).over(int64(queue.Limit), int64(queue.Value)).retryAfter(queueRetry)
	case errors.As(err, &busy):
		return newProblem(http.StatusServiceUnavailable, "too_many_commands", "%s", busy.Error()).over(int64(busy.Limit), int64(busy.Value)).retryAfter(defaultRetry)
	case errors.Is(err, commands.ErrClosed):
		return newProblem(http.StatusServiceUnavailable, "hub_stopping", "the hub is stopping").retryAfter(defaultRetry)
	case errors.Is(err, devices.ErrExists):
		return newProblem(http.StatusConflict, "device_exists", "a device with this id exists")
	case errors.Is(err, devices.ErrNotFound):
		return newProblem(http.StatusNotFound, "device_not_found", "no device has this id")
	case errors.Is(err, devices.ErrCredentials):
		return newProblem(http.StatusUnauthorized, "bad_credentials", "the device's credentials are wrong")
	case errors.Is(err, devices.ErrNoCredential):
		return newProblem(http.StatusNotFound, "credential_not_found", "%v", devices.ErrNoCredential)
	case errors.Is(err, devices.ErrOffline):
		return newProblem(http.StatusConflict, "device_offline", "%v; a new token can be given to it by hand: hubctl devices token", err)
	case errors.Is(err, devices.ErrRotating):
		return newProblem(http.StatusConflict, "rotating", "%v", err).retryAfter(defaultRetry)
	case errors.Is(err, devices.ErrNotAsked):
		return newProblem(http.StatusConflict, "not_by_token", "%v", err)
	case errors.Is(err, devices.ErrTooManyTokens):
		return newProblem(http.StatusConflict, "too_many_tokens", "%v", err)
	case errors.Is(err, devices.ErrDisabled):
		return newProblem(http.StatusForbidden, "device_disabled", "the device is disabled")
	case errors.Is(err, commands.ErrNotFound):
		return newProblem(http.StatusNotFound, "command_not_found", "no command has this id")
	case errors.Is(err, ErrReplayRunning):
		return newProblem(http.StatusConflict, "replay_running", "%v", ErrReplayRunning)
	case errors.Is(err, ErrNotQuarantined):
		return newProblem(http.StatusNotFound, "not_quarantined", "%v", ErrNotQuarantined)
	case errors.Is(err, commands.ErrTooLate):
		return newProblem(http.StatusConflict, "too_late", "%s", err.Error())
	case errors.Is(err, commands.ErrOpen):
		return newProblem(http.StatusConflict, "not_ended", "%s", err.Error())
	case errors.As(err, &unavailable):
		s.log.WarnContext(ctx, "request not served", "error", err, "cause", unavailable.Err)
		after := unavailable.After
		if after <= 0 {
			after = defaultRetry
		}
		return newProblem(http.StatusServiceUnavailable, "unavailable", "%s", unavailable.Message).retryAfter(after)
	case ctx.Err() != nil:
		return newProblem(http.StatusServiceUnavailable, "cancelled", "the request was cancelled or took too long").retryAfter(defaultRetry)
	}
	s.log.ErrorContext(ctx, "request failed", "error", err)
	return newProblem(http.StatusInternalServerError, "internal", "internal error; the hub's log says more")
}

// commandProblem turns the ledger's refusal of a request into its HTTP form, with all faults of its params.
func commandProblem(e *commands.InvalidError) *Problem {
	p := newProblem(http.StatusUnprocessableEntity, cmp.Or(e.Reason, "invalid"), "%s: %s", e.Field, e.Message).over(e.Limit, e.Value)
	if len(e.Faults) == 0 {
		return p.at(locationOf(e.Field), nil)
	}
	for _, f := range e.Faults {
		p.Errors = append(p.Errors, Detail{Location: locationOf(e.Field), Pointer: f.Pointer, Message: f.Message})
	}
	return p
}

// locationOf says where in a request the ledger's field stands.
func locationOf(field string) string {
	switch field {
	case "device":
		return "path.id"
	case "idempotency_key":
		return "header.Idempotency-Key"
	}
	return "body." + field
}

// frameProblem turns a refusal of a frame into its HTTP form.
func frameProblem(e *wire.Error) *Problem {
	status := http.StatusUnprocessableEntity
	switch e.Code {
	case wire.CodeParse:
		status = http.StatusBadRequest
	case wire.CodeTooLarge:
		status = http.StatusRequestEntityTooLarge
	case wire.CodeUnavailable:
		status = http.StatusServiceUnavailable
	}
	p := newProblem(status, e.Reason, "%s", e.Message).over(e.Limit, e.Value)
	if e.RetryAfter > 0 {
		p = p.retryAfter(e.RetryAfter)
	}
	return p
}

// badQuery says which parameter is wrong, what was given and what is allowed.
func badQuery(parameter, value, format string, args ...any) *Problem {
	p := newProblem(http.StatusUnprocessableEntity, "bad_parameter", "%s=%s: %s", parameter, clip(value), fmt.Sprintf(format, args...))
	return p.at("query."+parameter, clip(value))
}

// clip shortens what is quoted back.
func clip(s string) string {
	const most = 128 // bytes
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// problemOfHuma is huma's transformer that gives the errors which huma finds itself the same form as all others.
func (s *Server) problemOfHuma(ctx huma.Context, _ string, v any) (any, error) {
	model, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	reasons := map[int]string{
		http.StatusBadRequest: "bad_json", http.StatusRequestTimeout: "body_timeout", http.StatusRequestEntityTooLarge: "body_too_large",
		http.StatusUnsupportedMediaType: "unsupported_media_type", http.StatusUnprocessableEntity: "invalid",
	}
	reason, ok := reasons[model.Status]
	if !ok {
		s.log.ErrorContext(ctx.Context(), "request failed", "status", model.Status, "error", model.Detail)
		return newProblem(model.Status, "internal", "internal error; the hub's log says more"), nil
	}
	p := newProblem(model.Status, reason, "%s", model.Detail)
	if model.Status == http.StatusRequestEntityTooLarge {
		p.Limit = ctx.Operation().MaxBodyBytes - 1
		p.Detail = fmt.Sprintf("the body is larger than %d bytes", p.Limit)
	}
	for _, e := range model.Errors {
		d := Detail{Location: e.Location, Message: e.Message}
		// The whole body is not quoted back: it may hold a token.
		if text, isText := e.Value.(string); isText && e.Location != "body" {
			d.Value = clip(text)
		} else if e.Location != "body" {
			d.Value = scalar(e.Value)
		}
		p.Errors = append(p.Errors, d)
	}
	if len(p.Errors) > 0 {
		p.Detail = p.Errors[0].Message
		if at := p.Errors[0]; at.Location != "" && at.Value != nil && at.Value != "" {
			p.Detail = fmt.Sprintf("%s=%v: %s", at.Location, at.Value, at.Message)
		} else if at.Location != "" {
			p.Detail = at.Location + ": " + at.Message
		}
	}
	return p, nil
}

// scalar returns numbers and booleans as they are and leaves out what may be large.
func scalar(v any) any {
	switch v.(type) {
	case bool, int, int64, float64:
		return v
	}
	return nil
}
