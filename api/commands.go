package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
)

const (
	maxWait    = 5 * time.Minute
	maxExpires = 366 * 24 * time.Hour
	maxTimeout = 24 * time.Hour
	// paramsSlack is what a command's body may have beside its params.
	paramsSlack = 4 << 10
)

// Command is a command as operators see it.
type Command struct {
	ID        string            `json:"id"`
	Device    string            `json:"device"`
	Method    string            `json:"method"`
	Params    json.RawMessage   `json:"params,omitempty" doc:"What the device's type calls secret in them is shown as [secret]"`
	State     commands.State    `json:"state" enum:"accepted,queued,sent,received,running,done,failed,rejected,expired,cancelled,unknown"`
	Delivery  commands.Delivery `json:"delivery" enum:"at-most-once,at-least-once"`
	Result    json.RawMessage   `json:"result,omitempty" doc:"What the device answered"`
	Error     json.RawMessage   `json:"error,omitempty" doc:"The device's JSON-RPC error"`
	Progress  *CommandProgress  `json:"progress,omitempty" doc:"What the device last said of its work"`
	Late      bool              `json:"late" doc:"The answer came after its time was over"`
	Created   time.Time         `json:"created"`
	Expires   time.Time         `json:"expires,omitzero"`
	TimeoutMs int64             `json:"timeout_ms"`
	Actor     string            `json:"actor" doc:"Who sent it"`
	Rollout   string            `json:"rollout,omitempty" doc:"Id of the rollout that it is part of"`
	Attempt   int               `json:"attempt" doc:"How often it was sent"`
	Asked     time.Time         `json:"cancel_asked,omitzero" doc:"When the device was asked to give it up"`
	RetryOf   string            `json:"retry_of,omitempty" doc:"The command that it repeats"`
	History   []CommandChange   `json:"history" nullable:"false"`
}

// CommandChange is one step in a command's life.
type CommandChange struct {
	State commands.State `json:"state"`
	Time  time.Time      `json:"time"`
	Cause string         `json:"cause,omitempty"`
	Actor string         `json:"actor,omitempty"`
}

// CommandProgress is how far the device says it is.
type CommandProgress struct {
	Percent float64 `json:"percent"`
	Message string  `json:"message,omitempty"`
}

func commandView(c commands.Command) Command {
	c = c.Public()
	v := Command{
		ID: c.ID, Device: c.Device, Method: c.Method, Params: c.Params, State: c.State, Delivery: c.Delivery, Result: c.Result, Error: c.Error,
		Late: c.Late, Created: c.Created, Expires: c.Expires, TimeoutMs: c.TimeoutMs, Actor: c.Actor,
		Attempt: c.Attempt, Asked: c.CancelAsked, RetryOf: c.RetryOf, History: make([]CommandChange, len(c.History)),
	}
	v.Rollout, _ = rollouts.Of(c)
	for i, h := range c.History {
		v.History[i] = CommandChange{State: h.State, Time: h.Time, Cause: h.Cause, Actor: h.Actor}
	}
	if c.Progress != nil {
		v.Progress = &CommandProgress{Percent: c.Progress.Percent, Message: c.Progress.Message}
	}
	return v
}

type sendInput struct {
	DevicePath
	Wait           string `query:"wait" doc:"How long to wait for the outcome, at most 5m; the answer bears the state that was reached"`
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"128" doc:"The same key again returns the first command"`
	Body           struct {
		Method   string            `json:"method" minLength:"1" maxLength:"128"`
		Params   json.RawMessage   `json:"params,omitempty" doc:"A JSON object or array"`
		Delivery commands.Delivery `json:"delivery,omitempty" enum:"at-most-once,at-least-once"`
		Expires  string            `json:"expires,omitempty" doc:"It is not started later than that, such as 24h"`
		Timeout  string            `json:"timeout,omitempty" doc:"How long the device may take to answer, such as 30s"`
	}
}

type commandOutput struct {
	Location string `header:"Location"`
	Body     Command
}

type cancelOutput struct {
	Status int
	Body   Command
}

// CommandPath is the part of a path that names a command.
type CommandPath struct {
	ID string `path:"id" doc:"The command's id"`
}

// CommandFilter narrows a list of commands.
type CommandFilter struct {
	State  []commands.State `query:"state" enum:"accepted,queued,sent,received,running,done,failed,rejected,expired,cancelled,unknown" doc:"One of these, with commas between"`
	Actor  string           `query:"actor" maxLength:"256" doc:"Who sent it"`
	From   string           `query:"from" doc:"Made then or later: RFC 3339, ms since 1970, or a time back from now such as -1h"`
	To     string           `query:"to" doc:"Made before then"`
	Limit  int              `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string           `query:"cursor" maxLength:"256" doc:"next of the page before; a page may be short, the last has none"`
}

type deviceCommandsInput struct {
	DevicePath
	CommandFilter
}

type commandsInput struct {
	Device string `query:"device" maxLength:"64"`
	CommandFilter
}

type retryInput struct {
	CommandPath
	Wait           string `query:"wait" doc:"How long to wait for the outcome, at most 5m; the answer bears the state that was reached"`
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"128" doc:"The same key again returns the first command"`
}

type commandsOutput struct {
	Body struct {
		Commands []Command `json:"commands" nullable:"false"`
		Next     string    `json:"next" doc:"Cursor of the next page; empty on the last"`
	}
}

func (s *Server) registerCommands() {
	tags := []string{"commands"}
	register(s, operator, huma.Operation{
		OperationID: "send-command", Method: http.MethodPost, Path: "/api/v1/devices/{id}/commands", Tags: tags, DefaultStatus: http.StatusCreated,
		MaxBodyBytes: int64(s.cfg.MaxParams) + paramsSlack + 1, Summary: "Send a device a command",
		Description: "It is durable before it is sent and before this answers. For a device that is not connected, or has others to do first, it is queued: it is sent, in order, when the device is ready, and not after expires. " +
			"Where too many wait for the device: 429 queue_full; a disabled device: 409 device_disabled; nothing is recorded then. " +
			"What the device's type does not know, or whose params do not fit its schema: 422 unknown_method or bad_params, with a JSON pointer into the params for each fault, and nothing is recorded either.",
	}, s.sendCommand)
	register(s, viewer, huma.Operation{
		OperationID: "list-device-commands", Method: http.MethodGet, Path: "/api/v1/devices/{id}/commands", Tags: tags, Summary: "A device's commands, newest first",
	}, func(ctx context.Context, in *deviceCommandsInput) (*commandsOutput, error) {
		if _, err := s.find(in.ID); err != nil {
			return nil, err
		}
		return s.listCommands(ctx, in.ID, in.CommandFilter)
	})
	register(s, viewer, huma.Operation{
		OperationID: "list-commands", Method: http.MethodGet, Path: "/api/v1/commands", Tags: tags, Summary: "All commands, newest first",
	}, func(ctx context.Context, in *commandsInput) (*commandsOutput, error) {
		return s.listCommands(ctx, in.Device, in.CommandFilter)
	})
	register(s, viewer, huma.Operation{
		OperationID: "get-command", Method: http.MethodGet, Path: "/api/v1/commands/{id}", Tags: tags, Summary: "One command and its story",
	}, func(_ context.Context, in *CommandPath) (*commandOutput, error) {
		if !isCommandID(in.ID) {
			return nil, commands.ErrNotFound
		}
		c, err := s.deps.Commands.Get(in.ID)
		return &commandOutput{Body: commandView(c)}, err
	})
	register(s, operator, huma.Operation{
		OperationID: "cancel-command", Method: http.MethodDelete, Path: "/api/v1/commands/{id}", Tags: tags, Summary: "Cancel a command",
		Description: "200: it was not sent and is cancelled (or, sent at least once to a device that is away, unknown from now on). " +
			"202: it was sent; the device was asked to give it up (hub.cancel), and its answer decides. 409 too_late: it has ended.",
		Responses: map[string]*huma.Response{"202": {Description: "The device was asked; the command's state is as it was", Content: map[string]*huma.MediaType{"application/json": {Schema: schemaOf[Command](s)}}}},
	}, s.cancelCommand)
	register(s, operator, huma.Operation{
		OperationID: "retry-command", Method: http.MethodPost, Path: "/api/v1/commands/{id}/retry", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary:     "Send an ended command again",
		Description: "As a new command that names the old in retry_of, with the same method, params, delivery and times. 409 not_ended while the old one has no outcome.",
	}, s.retryCommand)
}

func (s *Server) cancelCommand(ctx context.Context, in *CommandPath) (*cancelOutput, error) {
	if !isCommandID(in.ID) {
		return nil, commands.ErrNotFound
	}
	c, err := s.deps.Commands.Cancel(ctx, in.ID, exchangeOf(ctx).operator.Name)
	noteDevice(ctx, c.Device)
	note(ctx, "method", c.Method)
	out := &cancelOutput{Status: http.StatusOK, Body: commandView(c)}
	if !c.State.Final() {
		out.Status = http.StatusAccepted
	}
	return out, err
}

func (s *Server) retryCommand(ctx context.Context, in *retryInput) (*commandOutput, error) {
	if !isCommandID(in.ID) {
		return nil, commands.ErrNotFound
	}
	wait, err := parseDuration("query.wait", in.Wait, time.Millisecond, maxWait)
	if err != nil {
		return nil, err
	}
	old, err := s.deps.Commands.Get(in.ID)
	if err != nil {
		return nil, err
	}
	noteDevice(ctx, old.Device)
	note(ctx, "method", old.Method)
	if err := s.mayCommand(old.Device); err != nil {
		return nil, err
	}
	x := exchangeOf(ctx)
	c, err := s.deps.Commands.Retry(ctx, in.ID, commands.Request{
		Actor: x.operator.Name, Role: string(x.operator.Role), Origin: x.origin(), IdempotencyKey: in.IdempotencyKey,
	})
	if err != nil {
		return nil, err
	}
	return s.sentCommand(ctx, c, wait), nil
}

// mayCommand refuses devices that are unknown or disabled.
func (s *Server) mayCommand(id string) error {
	d, err := s.find(id)
	if err == nil && !d.Enabled {
		return newProblem(http.StatusConflict, "device_disabled", "device %s is disabled; nothing was sent or kept", id)
	}
	return err
}

// sentCommand answers with a command that was made, after the wait.
func (s *Server) sentCommand(ctx context.Context, c commands.Command, wait time.Duration) *commandOutput {
	if wait > 0 && !c.State.Final() {
		c = s.waitFor(ctx, c, wait)
	}
	return &commandOutput{Location: "/api/v1/commands/" + c.ID, Body: commandView(c)}
}

// isCommandID holds back what cannot be a command's id, and might not be a key of the ledger's bucket either.
func isCommandID(id string) bool {
	return len(id) == 26 && strings.IndexFunc(id, func(r rune) bool { return (r < '0' || r > '9') && (r < 'A' || r > 'Z') }) < 0
}

func (s *Server) listCommands(ctx context.Context, device string, in CommandFilter) (*commandsOutput, error) {
	f := commands.Filter{Device: device, Actor: in.Actor, States: in.State, Limit: in.Limit, Cursor: in.Cursor}
	if f.Cursor != "" && !isCommandID(f.Cursor) {
		return nil, badQuery("cursor", f.Cursor, "not a cursor; pass on what next said")
	}
	if scope := exchangeOf(ctx).operator.Scope; !scope.All() {
		f.Sees = func(device string) bool { return s.inScope(scope, device) }
	}
	var err error
	now := time.Now()
	if f.From, err = parseTime("from", in.From, now); err != nil {
		return nil, err
	}
	if f.To, err = parseTime("to", in.To, now); err != nil {
		return nil, err
	}
	found, next, err := s.deps.Commands.List(ctx, f)
	if err != nil {
		return nil, err
	}
	out := &commandsOutput{}
	out.Body.Commands, out.Body.Next = make([]Command, len(found)), next
	for i, c := range found {
		out.Body.Commands[i] = commandView(c)
	}
	return out, nil
}

func (s *Server) sendCommand(ctx context.Context, in *sendInput) (*commandOutput, error) {
	wait, err := parseDuration("query.wait", in.Wait, time.Millisecond, maxWait)
	if err != nil {
		return nil, err
	}
	x := exchangeOf(ctx)
	request := commands.Request{
		Device: in.ID, Method: in.Body.Method, Params: in.Body.Params, Delivery: in.Body.Delivery,
		Actor: x.operator.Name, Role: string(x.operator.Role), Origin: x.origin(), IdempotencyKey: in.IdempotencyKey,
	}
	if request.Expires, err = parseDuration("body.expires", in.Body.Expires, time.Second, maxExpires); err != nil {
		return nil, err
	}
	if request.Timeout, err = parseDuration("body.timeout", in.Body.Timeout, time.Millisecond, maxTimeout); err != nil {
		return nil, err
	}
	if n, limit := len(request.Params), s.cfg.MaxParams; n > limit {
		p := newProblem(http.StatusRequestEntityTooLarge, "params_too_large", "params of %d bytes are larger than %d", n, limit)
		return nil, p.over(int64(limit), int64(n)).at("body.params", nil)
	}
	note(ctx, "method", in.Body.Method) // of the params nothing: nobody has checked what is in them
	if rollouts.OwnKey(in.IdempotencyKey) {
		return nil, newProblem(http.StatusUnprocessableEntity, "invalid", "keys that begin so are kept for rollouts").at("header.Idempotency-Key", clip(in.IdempotencyKey))
	}
	if err := s.mayCommand(in.ID); err != nil {
		return nil, err
	}
	c, err := s.deps.Commands.Send(ctx, request)
	if refused, ok := errors.AsType[*commands.InvalidError](err); ok && len(refused.Faults) > 0 {
		note(ctx, "faults", refused.Faults)
	}
	if err != nil {
		return nil, err
	}
	return s.sentCommand(ctx, c, wait), nil
}

// waitFor returns the command as it is when it has ended, the time is over, or the hub stops.
func (s *Server) waitFor(ctx context.Context, c commands.Command, wait time.Duration) commands.Command {
	const toAnswer = 30 * time.Second
	_ = exchangeOf(ctx).control().SetWriteDeadline(time.Now().Add(wait + toAnswer)) // not every writer has deadlines
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	go func() { // ends with ctx, which the line above sees to
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	reached, err := s.deps.Commands.Wait(ctx, c.ID)
	if err != nil {
		// It was sent, and that is what the caller must learn; the ledger has the rest.
		s.log.WarnContext(ctx, "waiting for a command failed", "command", c.ID, "error", err)
		return c
	}
	return reached
}
