package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// TryMessage is a message that nobody has sent.
type TryMessage struct {
	Topic         string `json:"topic" maxLength:"65535" doc:"Of MQTT, without wildcards"`
	Payload       string `json:"payload,omitempty"`
	PayloadBase64 string `json:"payload_base64,omitempty" doc:"Instead of payload, where it is no text"`
	Retained      bool   `json:"retained,omitempty" doc:"As the broker gives what it had kept"`
}

// TriedMessage is what it would become.
type TriedMessage struct {
	Outcomes []TriedOutcome `json:"outcomes" nullable:"false" doc:"Each reading by itself"`
	Passed   bool           `json:"passed_over,omitempty" doc:"A map is for it, and it says nothing of a device"`
	Reason   string         `json:"reason,omitempty" doc:"It would be refused as a whole: the word that counts it"`
	Message  string         `json:"message,omitempty" doc:"And why: of a topic that no map is for, which came nearest"`
}

// TriedOutcome is one reading, event, state, presence, announcement or answer.
type TriedOutcome struct {
	Map         string            `json:"map,omitempty" doc:"PRESET/NAME or NAME; hub: its own topics"`
	As          string            `json:"as" enum:"telemetry,event,state,presence,announce,answer"`
	Device      string            `json:"device"`
	Registered  bool              `json:"registered"`
	Type        string            `json:"type,omitempty" doc:"Of a device that is not registered, what the map knows of it"`
	Label       string            `json:"label,omitempty"`
	Model       string            `json:"model,omitempty"`
	Firmware    string            `json:"firmware,omitempty"`
	Measurement string            `json:"measurement,omitempty"`
	Boot        string            `json:"boot,omitempty"`
	Seq         uint64            `json:"seq,omitempty"`
	TS          *int64            `json:"ts,omitempty" doc:"ms since 1970; left out: the time of receipt"`
	AgeMs       *int64            `json:"age_ms,omitempty"`
	Values      map[string]any    `json:"values,omitempty"`
	Units       map[string]string `json:"units,omitempty"`
	Quarantined string            `json:"quarantined,omitempty" doc:"Why the reading would not be stored, and its text"`
	State       json.RawMessage   `json:"state,omitempty"`
	Online      *bool             `json:"online,omitempty"`
	Method      string            `json:"method,omitempty" doc:"Of the command that would be answered"`
	Correlation string            `json:"correlation,omitempty"`
	Result      json.RawMessage   `json:"result,omitempty"`
	Error       json.RawMessage   `json:"error,omitempty"`
	Progress    bool              `json:"progress,omitempty"`
	Reason      string            `json:"reason,omitempty" doc:"This one would be refused: the word that counts it"`
	Message     string            `json:"message,omitempty" doc:"And why"`
}

type tryInput struct {
	BridgePath
	Body TryMessage
}

type tryOutput struct{ Body TriedMessage }

func (s *Server) registerTry() {
	register(s, viewer, huma.Operation{
		OperationID: "try-bridge", Method: http.MethodPost, Path: "/api/v1/bridges/{name}/try", Tags: []string{"bridges"}, Summary: "What a message would become",
		Description: "By the hub's own topics and the bridge's maps. Nothing is changed, and nothing is counted.",
	}, func(_ context.Context, in *tryInput) (*tryOutput, error) {
		payload := []byte(in.Body.Payload)
		if in.Body.PayloadBase64 != "" {
			var err error
			if payload, err = base64.StdEncoding.DecodeString(in.Body.PayloadBase64); err != nil {
				return nil, newProblem(http.StatusUnprocessableEntity, "invalid", "payload_base64: %v", err).at("body.payload_base64", nil)
			}
			if in.Body.Payload != "" {
				return nil, newProblem(http.StatusUnprocessableEntity, "invalid", "payload and payload_base64 are two ways to say one thing; give one").at("body.payload", nil)
			}
		}
		tried, ok := s.deps.Bridges.Try(in.Name, in.Body.Topic, payload, in.Body.Retained)
		if !ok {
			return nil, newProblem(http.StatusNotFound, "bridge_not_found", "there is no bridge %q", clip(in.Name))
		}
		if tried.Outcomes == nil {
			tried.Outcomes = []TriedOutcome{}
		}
		return &tryOutput{tried}, nil
	})
}
