package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// QuarantineChoice chooses a page of quarantined readings.
type QuarantineChoice struct {
	Device string `query:"device" maxLength:"64" doc:"Only of this device"`
	Reason string `query:"reason" maxLength:"64" doc:"Only with this reason"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" maxLength:"256" doc:"next of the page before"`
}

func (in *QuarantineChoice) query() QuarantineQuery {
	return QuarantineQuery{Device: in.Device, Reason: in.Reason, Cursor: in.Cursor, Limit: in.Limit}
}

type quarantineOutput struct {
	Body struct {
		Items []Quarantined `json:"items" nullable:"false"`
		Next  string        `json:"next" doc:"Cursor of the next page; empty on the last. A page may be short, though there is a next"`
	}
}

type quarantinedInput struct {
	ID string `path:"id" maxLength:"20" doc:"As the list has it"`
}

type quarantinedOutput struct{ Body Quarantined }

type settledOutput struct{ Body Settled }

type settleAllInput struct {
	QuarantineChoice
	All bool `query:"all" doc:"Needed where neither device nor reason is given"`
}

type settledAllOutput struct{ Body SettledAll }

// settleWait bounds how long a request waits for what becomes of a retry. After that it goes on by itself.
const settleWait = 10 * time.Second

func (s *Server) registerQuarantine() {
	tags := []string{"account"}
	register(s, viewer, huma.Operation{
		OperationID: "list-quarantine", Method: http.MethodGet, Path: "/api/v1/quarantine", Tags: tags, Summary: "Readings held back, and why",
		Description: "Newest first. The quarantine is bounded; readings that fall out of it stay counted as quarantined.",
	}, s.quarantine)
	register(s, viewer, huma.Operation{
		OperationID: "get-quarantined", Method: http.MethodGet, Path: "/api/v1/quarantine/{id}", Tags: tags, Summary: "One reading held back",
	}, s.quarantined)
	register(s, operator, huma.Operation{
		OperationID: "retry-quarantined", Method: http.MethodPost, Path: "/api/v1/quarantine/{id}/retry", Tags: tags, Summary: "Try again to store a reading",
		Description: "It goes through the journal as a new attempt, with its old number and time. Stored, it is counted as stored instead of quarantined; else it stays, with the new reason. Doing it again changes nothing.",
	}, func(ctx context.Context, in *quarantinedInput) (*settledOutput, error) {
		return s.settle(ctx, in, false)
	})
	register(s, admin, huma.Operation{
		OperationID: "drop-quarantined", Method: http.MethodDelete, Path: "/api/v1/quarantine/{id}", Tags: tags, Summary: "Drop a reading",
		Description: "It is counted as refused (dropped) instead of quarantined. Doing it again changes nothing.",
	}, func(ctx context.Context, in *quarantinedInput) (*settledOutput, error) {
		return s.settle(ctx, in, true)
	})
	register(s, operator, huma.Operation{
		OperationID: "retry-quarantine", Method: http.MethodPost, Path: "/api/v1/quarantine/retry", Tags: tags, Summary: "Try again to store a page of readings",
	}, func(ctx context.Context, in *settleAllInput) (*settledAllOutput, error) {
		return s.settleAll(ctx, in, false)
	})
	register(s, admin, huma.Operation{
		OperationID: "drop-quarantine", Method: http.MethodDelete, Path: "/api/v1/quarantine", Tags: tags, Summary: "Drop a page of readings",
	}, func(ctx context.Context, in *settleAllInput) (*settledAllOutput, error) {
		return s.settleAll(ctx, in, true)
	})
}

func (s *Server) quarantine(ctx context.Context, in *QuarantineChoice) (*quarantineOutput, error) {
	out := &quarantineOutput{}
	var err error
	if out.Body.Items, out.Body.Next, err = s.deps.Quarantine.List(ctx, in.query()); err != nil {
		return nil, err
	}
	out.Body.Items = slices.DeleteFunc(out.Body.Items, func(q Quarantined) bool { return !s.sees(ctx, q.Device) })
	if out.Body.Items == nil {
		out.Body.Items = []Quarantined{}
	}
	return out, nil
}

func (s *Server) quarantined(ctx context.Context, in *quarantinedInput) (*quarantinedOutput, error) {
	item, err := s.deps.Quarantine.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &quarantinedOutput{Body: item}, nil
}

func (s *Server) settle(ctx context.Context, in *quarantinedInput, drop bool) (*settledOutput, error) {
	wait, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	settled, err := s.deps.Quarantine.Settle(wait, in.ID, drop)
	if err != nil {
		return nil, err
	}
	note(ctx, "state", settled.State)
	s.log.InfoContext(ctx, "quarantine changed", "id", in.ID, "drop", drop, "state", settled.State, "operator", exchangeOf(ctx).operator.Name)
	return &settledOutput{Body: settled}, nil
}

func (s *Server) settleAll(ctx context.Context, in *settleAllInput, drop bool) (*settledAllOutput, error) {
	if in.Device == "" && in.Reason == "" && !in.All {
		return nil, badQuery("all", "false", "say which by device or reason, or all=true")
	}
	if scope := exchangeOf(ctx).operator.Scope; !scope.All() && in.Device == "" {
		return nil, badQuery("device", "", "say which device; you may use those tagged %s", strings.Join(scope.Tags, " or "))
	} else if !s.inScope(scope, in.Device) {
		return nil, noDevice(in.Device)
	}
	wait, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	settled, err := s.deps.Quarantine.SettleAll(wait, in.query(), drop)
	if err != nil {
		return nil, err
	}
	noteDevice(ctx, in.Device)
	note(ctx, "reason", in.Reason)
	note(ctx, "states", settled.Readings)
	s.log.InfoContext(ctx, "quarantine changed", "device", in.Device, "reason", in.Reason, "drop", drop, "states", settled.Readings, "operator", exchangeOf(ctx).operator.Name)
	return &settledAllOutput{Body: settled}, nil
}
