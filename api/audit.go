package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

type auditInput struct {
	Device string `query:"device" maxLength:"64" doc:"Only this device; total stays that of all"`
}

type auditOutput struct {
	Body Audit
}

type quarantineInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" maxLength:"256" doc:"next of the page before"`
}

type quarantineOutput struct {
	Body struct {
		Items []Quarantined `json:"items" nullable:"false"`
		Next  string        `json:"next" doc:"Cursor of the next page; empty on the last"`
	}
}

func (s *Server) registerAudit() {
	tags := []string{"account"}
	register(s, viewer, huma.Operation{
		OperationID: "get-audit", Method: http.MethodGet, Path: "/api/v1/audit", Tags: tags, Summary: "What became of every reading",
		Description: "received = stored + duplicate + quarantined + queued + refused, in all and by device, counted in readings; a frame that could not be used counts as one refused.",
	}, s.audit)
	register(s, viewer, huma.Operation{
		OperationID: "list-quarantine", Method: http.MethodGet, Path: "/api/v1/quarantine", Tags: tags, Summary: "Readings held back, and why",
	}, s.quarantine)
}

func (s *Server) audit(ctx context.Context, in *auditInput) (*auditOutput, error) {
	if in.Device != "" {
		if _, err := s.find(in.Device); err != nil {
			return nil, err
		}
	}
	audit, err := s.deps.Ingest.Audit(ctx, in.Device)
	if err != nil {
		return nil, err
	}
	if audit.Devices == nil {
		audit.Devices = []DeviceAccount{}
	}
	if audit.Total.Refused == nil {
		audit.Total.Refused = map[string]uint64{}
	}
	for i := range audit.Devices {
		if audit.Devices[i].Refused == nil {
			audit.Devices[i].Refused = map[string]uint64{}
		}
	}
	return &auditOutput{Body: audit}, nil
}

func (s *Server) quarantine(ctx context.Context, in *quarantineInput) (*quarantineOutput, error) {
	out := &quarantineOutput{}
	var err error
	if out.Body.Items, out.Body.Next, err = s.deps.Ingest.Quarantine(ctx, in.Cursor, in.Limit); err != nil {
		return nil, err
	}
	if out.Body.Items == nil {
		out.Body.Items = []Quarantined{}
	}
	return out, nil
}
