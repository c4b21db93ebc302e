package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Bridges tells how the MQTT bridges fare.
type Bridges interface {
	Bridges() []Bridge // the embedded broker first
	// Try says what a message on a bridge would become; ok is false where there is no such bridge.
	Try(bridge, topic string, payload []byte, retained bool) (tried TriedMessage, ok bool)
}

// Bridge is an MQTT broker that brings devices, and how it fares since the hub's start.
type Bridge struct {
	Name      string    `json:"name"`
	Kind      string    `json:"kind" enum:"embedded,external"`
	Address   string    `json:"address,omitempty"`
	Connected bool      `json:"connected" doc:"The hub is connected to it and has its subscriptions; the embedded broker: it serves"`
	Since     time.Time `json:"since,omitzero" doc:"Since when that is so, or not so"`
	Failure   string    `json:"failure,omitempty" doc:"Why it is not connected"`

	LastFailure string `json:"last_failure,omitempty" doc:"What ended the last connection, or kept one from coming about, also while there is one"`
	Full        bool   `json:"full,omitempty" doc:"As many messages as may be are in flight: none is read until some of them are durable"`

	Received    uint64            `json:"received" doc:"Messages"`
	Stored      uint64            `json:"stored" doc:"Readings in them that are durable; what became of each is told by the audit"`
	Unmapped    uint64            `json:"unmapped" doc:"Of those refused: messages on topics that nothing is known of"`
	Refused     map[string]uint64 `json:"refused" doc:"Messages that were not taken, by reason"`
	Redelivered uint64            `json:"redelivered" doc:"Of those received, how many the broker marked as sent before (DUP)"`
	Commands    uint64            `json:"commands" doc:"Given to the broker"`
	Reconnects  uint64            `json:"reconnects" doc:"Connections after the first; not of the embedded broker"`

	Devices   int     `json:"devices" doc:"That have a session by it"`
	InFlight  int     `json:"in_flight" doc:"Messages received and not yet acknowledged"`
	PerSecond float64 `json:"per_second" doc:"Messages received, over the last ten seconds"`
	LagMs     int64   `json:"lag_ms" doc:"Age of the oldest message that is not acknowledged; 0: there is none"`
	AckMs     AckMs   `json:"ack_ms" doc:"From the receipt of a message to its acknowledgement, of the last 512"`

	Examples []RefusedMessage `json:"examples,omitempty" doc:"Of one bridge, not in lists: refused messages, the newest first, at most five a reason"`
}

// AckMs is how long acknowledgements took, in milliseconds.
type AckMs struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// RefusedMessage is a message that a bridge has not taken.
type RefusedMessage struct {
	Time          time.Time `json:"time"`
	Topic         string    `json:"topic"`
	Payload       string    `json:"payload,omitempty" doc:"Cut at 1 KiB, where it is text"`
	PayloadBase64 string    `json:"payload_base64,omitempty" doc:"The same, where it is not"`
	Size          int       `json:"size" doc:"Bytes of the payload, before it was cut"`
	Device        string    `json:"device,omitempty" doc:"Left out: no device came of it"`
	Reason        string    `json:"reason"`
	Message       string    `json:"message"`
}

// ShownMessage is a refused message as it is shown; size is what payload was before it was cut.
func ShownMessage(at time.Time, topic string, payload []byte, size int) RefusedMessage {
	m := RefusedMessage{Time: at, Topic: topic, Size: size}
	m.Payload, m.PayloadBase64 = shownPayload(payload, size)
	return m
}

// BridgePath is the part of a path that names a bridge.
type BridgePath struct {
	Name string `path:"name" maxLength:"64" doc:"As the configuration has it; embedded is the embedded broker's"`
}

type bridgesOutput struct {
	Body struct {
		Bridges []Bridge `json:"bridges" nullable:"false" doc:"The embedded broker first, then as the configuration has them"`
	}
}

type bridgeOutput struct{ Body Bridge }

func (s *Server) registerBridges() {
	s.registerTry()
	tags := []string{"bridges"}
	register(s, viewer, huma.Operation{
		OperationID: "list-bridges", Method: http.MethodGet, Path: "/api/v1/bridges", Tags: tags, Summary: "How the MQTT bridges fare",
	}, func(context.Context, *struct{}) (*bridgesOutput, error) {
		out := &bridgesOutput{}
		out.Body.Bridges = []Bridge{}
		for _, b := range s.deps.Bridges.Bridges() {
			b.Examples = nil
			out.Body.Bridges = append(out.Body.Bridges, b)
		}
		return out, nil
	})
	register(s, viewer, huma.Operation{
		OperationID: "get-bridge", Method: http.MethodGet, Path: "/api/v1/bridges/{name}", Tags: tags, Summary: "One of them, with the last messages that it refused",
		Description: "Of devices that are not registered, GET /api/v1/discovered has the last message.",
	}, func(_ context.Context, in *BridgePath) (*bridgeOutput, error) {
		all := s.deps.Bridges.Bridges()
		i := slices.IndexFunc(all, func(b Bridge) bool { return b.Name == in.Name })
		if i < 0 {
			return nil, newProblem(http.StatusNotFound, "bridge_not_found", "there is no bridge %q", clip(in.Name))
		}
		return &bridgeOutput{all[i]}, nil
	})
}
