package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/devices"
)

// registerLife adds what an operator does about a device's connection.
func (s *Server) registerLife() {
	register(s, operator, huma.Operation{
		OperationID: "unfreeze-device", Method: http.MethodPost, Path: "/api/v1/devices/{id}/unfreeze", Tags: []string{"devices"}, Summary: "Let a frozen device in again",
		Description: "A device is frozen when several used its identity and displaced each other (devices.clones of the configuration). Its connections were closed with 4004; new ones are refused with 429 or 403, reason frozen. " +
			"Give the right one a new token first, or they begin again. 409 if it is not frozen.",
	}, s.unfreezeDevice)
	register(s, operator, huma.Operation{
		OperationID: "probe-device", Method: http.MethodPost, Path: "/api/v1/devices/{id}/probe", Tags: []string{"devices"}, Summary: "Ask a device whether its program lives",
		Description: "Sends hub.probe and waits for the outcome: answered (by any frame), unresponsive (signs of life, and no frame in time; the device is marked until it says something), silent (neither), gone (disconnected). " +
			"409 device_offline, or not_probed where the connection does not take it now, such as by MQTT without a subscription to commands.",
	}, s.probeDevice)
}

// viewLife adds what is known of the device's connection beside whether it has one.
func (s *Server) viewLife(v *Device, p devices.Presence) {
	v.Version, v.Boot, v.Frozen, v.Unresponsive = p.Version, p.Boot, p.Frozen, unresponsiveSince(p)
	if s := p.Silence; s != (devices.Silence{}) {
		v.Silence = &Silence{Survived: s.Survived, Lost: s.Lost, Losses: s.Losses}
	}
}

// answerTime is what the answer may take after a probe that had all the time there is.
const answerTime = 10 * time.Second

// Silence is how long a device was silent, from one sign of life to the next, and its connection still lived, and how long
// where that was lost without a word.
type Silence struct {
	Survived int32 `json:"survived_s,omitempty" doc:"The longest silence after which the connection was still alive"`
	Lost     int32 `json:"lost_s,omitempty" doc:"The shortest after which it was lost, in the last losses in a row; a silence as long that is survived ends the row"`
	Losses   int32 `json:"losses,omitempty" doc:"How many that were. After three the device is pinged after half of lost_s, for a week"`
}

func unresponsiveSince(p devices.Presence) time.Time {
	if p.Unresponsive == 0 {
		return time.Time{}
	}
	return time.UnixMilli(p.Unresponsive).UTC()
}

type probeOutput struct {
	Body struct {
		Device  string  `json:"device"`
		Outcome string  `json:"outcome" enum:"answered,unresponsive,silent,gone"`
		TookMs  float64 `json:"took_ms"`
	}
}

func (s *Server) probeDevice(ctx context.Context, in *DevicePath) (*probeOutput, error) {
	d, err := s.find(in.ID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	_ = exchangeOf(ctx).control().SetWriteDeadline(time.Now().Add(maxWait + answerTime)) // not every writer has deadlines
	probed, err := s.deps.Sessions.Probe(ctx, d.ID)
	switch {
	case errors.Is(err, devices.ErrOffline):
		return nil, newProblem(http.StatusConflict, "device_offline", "%v", err)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, newProblem(http.StatusConflict, "not_probed", "the probe was not sent: %v", err)
	}
	note(ctx, "outcome", probed.Outcome)
	out := &probeOutput{}
	out.Body.Device, out.Body.Outcome, out.Body.TookMs = d.ID, probed.Outcome, float64(probed.Took.Microseconds())/1000
	return out, nil
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
