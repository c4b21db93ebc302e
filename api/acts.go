package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"telemetryhub/auth"
	"telemetryhub/auth/acts"
)

// Acts is the audit log of what operators do; acts.Log is one.
type Acts interface {
	Append(ctx context.Context, a acts.Act) error // durable when it returns nil
	Note(a acts.Act)                              // durable soon
	Err() error                                   // why it cannot be written at present
	List(ctx context.Context, q acts.Query) (found []acts.Act, next string, err error)
	Export(ctx context.Context, q acts.Query, yield func(acts.Act) error) error
}

// actName is what the audit log calls an operation: a thing and what is done to it.
func actName(operation string) string {
	switch operation {
	case "change-device":
		return "device.update"
	case "new-device-token":
		return "device.token"
	case "new-device-certificate":
		return "device.certificate"
	case "rotate-credentials":
		return "device.rotate"
	case "revoke-credential":
		return "device.revoke"
	case "retry-quarantined":
		return "quarantine.retry"
	case "drop-quarantined":
		return "quarantine.drop"
	case "change-operator":
		return "operator.update"
	case "new-operator-token":
		return "operator.token"
	case "revoke-operator-token":
		return "operator.token.revoke"
	case "login", "logout":
		return operation
	}
	verb, thing, ok := strings.Cut(operation, "-")
	if !ok {
		return operation
	}
	return thing + "." + verb
}

// note adds a fact to the act that the request will be in the audit log. Never a secret.
func note(ctx context.Context, name string, fact any) {
	x := exchangeOf(ctx)
	if x.facts == nil {
		x.facts = map[string]any{}
	}
	x.facts[name] = fact
}

// noteTarget says what the act concerns other than a device, where the path does not.
func noteTarget(ctx context.Context, target string) { exchangeOf(ctx).target = target }

// noteDevice says whom the act concerns, where the path does not.
func noteDevice(ctx context.Context, device string) { exchangeOf(ctx).device = device }

// logged puts an operation that changes something into the audit log: a refusal soon, and what was done before it is
// answered. An accepted command is put there by the ledger, which had it on disk first.
func logged[I, O any](s *Server, op huma.Operation, handle func(context.Context, *I) (*O, error)) func(context.Context, *I) (*O, error) {
	role, _ := op.Metadata["role"].(access)
	if op.Method == http.MethodGet || role == viewer || role == device || role == enrolling || role == open { // what a viewer may do changes nothing
		return handle
	}
	name := actName(op.OperationID)
	return func(ctx context.Context, in *I) (*O, error) {
		if err := s.deps.Acts.Err(); err != nil && name != acts.CommandSend {
			return nil, s.unlogged("nothing was done", err)
		}
		out, err := handle(ctx, in)
		if err != nil {
			p := s.problem(ctx, err)
			s.noteRefusal(exchangeOf(ctx), name, p)
			return nil, p
		}
		if name == acts.CommandSend {
			return out, nil
		}
		a := s.act(exchangeOf(ctx), name)
		// It was done, whoever still listens.
		if err := s.deps.Acts.Append(context.WithoutCancel(ctx), a); err != nil {
			return nil, s.unlogged("it was done all the same", err)
		}
		return out, nil
	}
}

func (s *Server) unlogged(what string, err error) *Problem {
	s.log.Error("the audit log cannot be written", "error", err)
	return newProblem(http.StatusServiceUnavailable, "audit_unavailable", "the audit log cannot be written; %s", what).retryAfter(defaultRetry)
}

// act is what the audit log tells of an exchange, as accepted.
func (s *Server) act(x *exchange, name string) acts.Act {
	a := acts.Act{
		Time: s.cfg.Now(), Actor: x.operator.Name, Role: string(x.operator.Role), Origin: x.origin(), Act: name,
		Device: x.device, Target: x.target, Facts: x.facts, Outcome: acts.Accepted,
	}
	id := x.request.PathValue("id")
	switch {
	case id == "":
	case strings.HasPrefix(x.request.URL.Path, "/api/v1/devices/"), strings.HasPrefix(x.request.URL.Path, "/api/v1/discovered/"), strings.HasPrefix(x.request.URL.Path, "/api/v1/ignored-devices/"):
		a.Device = id
	default:
		a.Target = id
	}
	return a
}

// noteRefusal puts what was refused into the audit log; what comes too often of one actor is only counted.
func (s *Server) noteRefusal(x *exchange, name string, p *Problem) {
	a := s.act(x, name)
	a.Outcome, a.Reason, a.Detail = acts.Refused, p.Reason, p.Detail
	if p.Status >= http.StatusInternalServerError {
		a.Outcome = acts.Failed
	}
	from := a.Actor
	if from == "" {
		from = addressOf(x.request.RemoteAddr).String()
	}
	ok := false
	if a.Suppressed, ok = s.refusals.take(a.Act+" "+from, s.cfg.Now()); !ok {
		s.metrics.suppressed.WithLabelValues(a.Act).Inc()
		return
	}
	s.deps.Acts.Note(a)
}

// noteForbidden puts into the audit log that somebody asked for a change without the right to it, or with credentials
// that are none.
func (s *Server) noteForbidden(x *exchange, op *huma.Operation, by auth.Operator, p *Problem) {
	x.operator = by
	switch {
	case p.Reason == "bad_token", p.Reason == reasonTooManyLogins:
		s.noteRefusal(x, "login.failed", p)
	case by.Name != "" && op.Method != http.MethodGet:
		s.noteRefusal(x, actName(op.OperationID), p)
	}
}

type actsInput struct {
	Actor   string `query:"actor" maxLength:"64" doc:"Only of this operator"`
	Device  string `query:"device" maxLength:"64" doc:"Only what concerns this device"`
	Act     string `query:"act" maxLength:"128" doc:"Only these: device.create, or device for all of that kind"`
	Outcome string `query:"outcome" enum:"accepted,refused,failed"`
	From    string `query:"from" maxLength:"64" doc:"Inclusive: RFC 3339, ms since 1970, or back from now such as -24h"`
	To      string `query:"to" maxLength:"64" doc:"Exclusive, as from"`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor  string `query:"cursor" maxLength:"64" doc:"next of the page before"`
	Accept  string `header:"Accept" doc:"application/x-ndjson: all of them, the oldest first, one a line, without limit and cursor"`
}

// ActsPage is one page of the audit log.
type ActsPage struct {
	Acts []acts.Act `json:"acts" nullable:"false"`
	Next string     `json:"next" doc:"Cursor of the next page; empty on the last. A page may be short, though there is a next"`
}

const ndjson = "application/x-ndjson"

func (s *Server) registerActs() {
	page, line := schemaOf[ActsPage](s), schemaOf[acts.Act](s)
	register(s, admin, huma.Operation{
		OperationID: "list-acts", Method: http.MethodGet, Path: "/api/v1/acts", Tags: []string{"operators"}, Summary: "The audit log: who did what to whom from where",
		Description: "The newest first, in pages; as application/x-ndjson all of them, the oldest first, for an archive. Nothing can be taken out of it. Secrets are not in it. (What became of readings: /api/v1/audit.)",
		Responses: map[string]*huma.Response{"200": {
			Description: "A page, or one act a line",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: page}, ndjson: {Schema: line}},
		}},
	}, s.listActs)
}

func (s *Server) listActs(ctx context.Context, in *actsInput) (*huma.StreamResponse, error) {
	q := acts.Query{Actor: in.Actor, Device: in.Device, Act: in.Act, Outcome: in.Outcome, Limit: in.Limit, Cursor: in.Cursor}
	if op := exchangeOf(ctx).operator; !op.Scope.All() { // only what they did themselves
		if in.Actor != "" && in.Actor != op.Name {
			return nil, newProblem(http.StatusForbidden, "scope", "you may see your own acts only").at("query.actor", in.Actor)
		}
		q.Actor = op.Name
	}
	now := s.cfg.Now()
	for _, bound := range []struct {
		name, text string
		to         *time.Time
	}{{"from", in.From, &q.From}, {"to", in.To, &q.To}} {
		if bound.text == "" {
			continue
		}
		var err error
		if *bound.to, err = parseTime(bound.name, bound.text, now); err != nil {
			return nil, err
		}
	}
	if strings.Contains(in.Accept, ndjson) {
		//nolint:contextcheck // huma's context bears the request's
		return &huma.StreamResponse{Body: func(ctx huma.Context) { s.exportActs(ctx, q) }}, nil
	}
	page := ActsPage{Acts: []acts.Act{}}
	found, next, err := s.deps.Acts.List(ctx, q)
	if errors.Is(err, acts.ErrCursor) {
		return nil, badQuery("cursor", in.Cursor, "%v", err)
	}
	if err != nil {
		return nil, err
	}
	page.Acts, page.Next = append(page.Acts, found...), next
	text, err := json.Marshal(page)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", "application/json")
		_, _ = ctx.BodyWriter().Write(text) // the client is gone: nobody is left to tell
	}}, nil
}

// exportActs writes one act a line. An export that fails in the middle is cut, so that nobody takes it for a whole one.
func (s *Server) exportActs(ctx huma.Context, q acts.Query) {
	_, w := humago.Unwrap(ctx)
	ctx.SetHeader("Content-Type", ndjson)
	ctx.SetHeader("X-Accel-Buffering", "no")
	ctx.SetStatus(http.StatusOK)
	control := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	written := 0
	err := s.deps.Acts.Export(ctx.Context(), q, func(a acts.Act) error {
		if written++; written%100 == 1 {
			_ = control.SetWriteDeadline(time.Now().Add(streamWriteTimeout)) // not every writer has deadlines
		}
		select {
		case <-s.stop:
			return errors.New("the hub stops")
		default:
			return enc.Encode(a)
		}
	})
	if err != nil && ctx.Context().Err() == nil {
		s.log.Warn("an export of the audit log was cut", "acts", written, "error", err)
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}
