package maps

import "telemetryhub/wire"

// What is what a message is.
type What string

// The kinds of outcomes.
const (
	Telemetry What = "telemetry"
	Event     What = "event"
	State     What = "state"
	Presence  What = "presence"
	Announce  What = "announce" // the device exists
	Answered  What = "answer"   // of a command
)

// Message is one PUBLISH on its way in.
type Message struct {
	Topic    string
	Payload  []byte
	Retained bool
}

// Outcome is what a message, or a part of it, has become. Its slices live until the scratch's next use.
type Outcome struct {
	Map    string // its name
	Group  string // of the map
	What   What
	Device string
	Vars   Vars // of the topic

	// What is known of a device that is seen for the first time; "" where nothing is.
	Type, Label, Model, Firmware string

	Telemetry *wire.Telemetry // of Telemetry and Event
	State     []byte          // of State, and of Announce where it reports something: a merge patch (RFC 7396), an object of JSON
	Online    bool            // of Presence
	Reply     *Reply          // of Answered
}

// Reply is what a device's answer says.
type Reply struct {
	Method      string
	Correlation string // "" where the answer bears none
	Result      []byte // JSON text, nil where it has failed
	Fault       []byte // JSON text of JSON-RPC's error member
	Progress    bool   // it is no outcome yet
}

// Refusal says why a message is not taken.
type Refusal struct {
	Map     string // "" where none matched
	Reason  string // for counters
	Message string // for people
}

// Error says the map and the message.
func (r *Refusal) Error() string {
	if r.Map == "" {
		return r.Message
	}
	return "map " + r.Map + ": " + r.Message
}

// Reasons of refusals that only maps have; the others are wire's.
const (
	ReasonUnmapped   = "unmapped"     // no map is for the topic
	ReasonBadTopic   = "bad_topic"    // it is not one that may be published
	ReasonBadDevice  = "bad_device"   // no device id comes of it
	ReasonExpression = "expression"   // an expression has failed
	ReasonNoField    = "no_field"     // nothing that the map takes is there
	ReasonBadWord    = "unknown_word" // of presence
)
