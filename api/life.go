package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// registerLife adds what an operator does about a device's connection.
func (s *Server) registerLife() {
	register(s, operator, huma.Operation{
		OperationID: "unfreeze-device", Method: http.MethodPost, Path: "/api/v1/devices/{id}/unfreeze", Tags: []string{"devices"}, Summary: "Let a frozen device in again",
		Description: "A device is frozen when several used its identity and displaced each other (devices.clones of the configuration). Its connections were closed with 4004; new ones are refused with 429 or 403, reason frozen. " +
			"Give the right one a new token first, or they begin again. 409 if it is not frozen.",
	}, s.unfreezeDevice)
}

func (s *Server) unfreezeDevice(ctx context.Context, in *DevicePath) (*deviceOutput, error) {
	d, err := s.find(in.ID)
	if err != nil {
		return nil, err
	}
	by := exchangeOf(ctx).operator.Name
	if !s.deps.Sessions.Unfreeze(d.ID, by) {
		return nil, newProblem(http.StatusConflict, "not_frozen", "the device is not frozen")
	}
	s.logChange(ctx, "unfrozen", d.ID)
	return &deviceOutput{Body: s.view(d)}, nil
}
