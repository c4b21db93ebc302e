package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

type auditInput struct {
	Device string `query:"device" maxLength:"64" doc:"Only this device, with the gaps in its numbers"`
	Deep   bool   `query:"deep" doc:"Count each device's points in the store and compare; as many devices as there is time for"`
}

type auditOutput struct {
	Body Audit
}

func (s *Server) registerAudit() {
	tags := []string{"account"}
	register(s, viewer, huma.Operation{
		OperationID: "get-audit", Method: http.MethodGet, Path: "/api/v1/audit", Tags: tags, Summary: "What became of every reading",
		Description: "received = stored + duplicate + quarantined + queued + refused, in all and by device, counted in readings; a frame that could not be used counts as one refused.",
	}, s.audit)
}

func (s *Server) audit(ctx context.Context, in *auditInput) (*auditOutput, error) {
	if in.Device != "" {
		if _, err := s.find(in.Device); err != nil || !s.sees(ctx, in.Device) {
			return nil, noDevice(in.Device)
		}
	}
	audit, err := s.deps.Ingest.Audit(ctx, in.Device)
	if err != nil {
		return nil, err
	}
	audit = s.auditInScope(ctx, audit)
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
	if in.Deep {
		if err := s.auditStore(ctx, &audit); err != nil {
			return nil, err
		}
	}
	return &auditOutput{Body: audit}, nil
}

// deepBudget bounds the reading of one deep audit; a device that is begun is finished within as much again.
const deepBudget = 20 * time.Second

// auditStore counts the points of each device. While readings come in, the count may be anything between what was
// stored before it and what was stored or on its way after it.
func (s *Server) auditStore(ctx context.Context, audit *Audit) error {
	began := time.Now()
	_ = exchangeOf(ctx).control().SetWriteDeadline(began.Add(3 * deepBudget)) // not every writer has deadlines
	ctx, cancel := context.WithTimeout(ctx, 2*deepBudget)
	defer cancel()
	for i := range audit.Devices {
		d := &audit.Devices[i]
		begin := time.Now()
		if begin.Sub(began) > deepBudget {
			audit.Unread = len(audit.Devices) - i
			return nil
		}
		points, err := s.deps.History.Count(ctx, d.Device)
		if err != nil {
			return fmt.Errorf("count the points of %s: %w", d.Device, err)
		}
		after, err := s.deps.Ingest.Audit(ctx, d.Device)
		if err != nil {
			return err
		}
		most := d.Stored + d.Queued
		for _, a := range after.Devices {
			most = a.Stored + a.Queued
		}
		d.Store = &StoreCount{Points: points, Agrees: points >= d.Stored && points <= most, TookMs: time.Since(begin).Milliseconds()}
	}
	return nil
}
