package commands

import (
	"encoding/json"
	"slices"
	"time"
)

// State is where a command stands.
type State string

// The states. The last six are final; Unknown, and Expired after a sending, can still be mended by a late answer.
const (
	Accepted  State = "accepted"
	Queued    State = "queued" // the device is not ready for it, or has others to do first
	Sent      State = "sent"
	Received  State = "received" // the device said that it has it
	Running   State = "running"  // the device said that it works on it
	Done      State = "done"
	Failed    State = "failed"   // the device said so, or it was surely not sent
	Rejected  State = "rejected" // the device does not take such a command
	Expired   State = "expired"  // not started, or not answered, before its expiry
	Cancelled State = "cancelled"
	Unknown   State = "unknown" // sent, and it cannot be said whether it ran
)

// Final reports whether the command has ended.
func (s State) Final() bool {
	switch s {
	case Done, Failed, Rejected, Expired, Cancelled, Unknown:
		return true
	case Accepted, Queued, Sent, Received, Running:
		return false
	}
	return false
}

// atDevice reports whether the command was sent and its answer is open.
func (s State) atDevice() bool { return s == Sent || s == Received || s == Running }

// Delivery says how often a command may be sent.
type Delivery string

// The deliveries.
const (
	AtMostOnce  Delivery = "at-most-once"  // never sent twice; the default
	AtLeastOnce Delivery = "at-least-once" // sent again with the same id until answered or expired
)

// Change is one step of a command's story.
type Change struct {
	State State     `json:"state"`
	Time  time.Time `json:"time"`
	Cause string    `json:"cause,omitempty"`
	Actor string    `json:"actor,omitempty"` // who caused it; empty is the hub itself

	fromDevice bool // the device said so, whatever an operator of the name device may do
}

// Command is a command as the ledger has it; as JSON it is also the record in the bucket.
// Its slices are shared: they are never changed in place, and readers must not change them either.
type Command struct {
	ID             string          `json:"id"`
	Device         string          `json:"device"`
	Method         string          `json:"method"`
	Params         json.RawMessage `json:"params,omitempty"`
	State          State           `json:"state"`
	Delivery       Delivery        `json:"delivery"`
	Result         json.RawMessage `json:"result,omitempty"`
	Error          json.RawMessage `json:"error,omitempty"` // the device's JSON-RPC error
	Late           bool            `json:"late"`            // the answer came on another connection, or after the ledger had given up
	Progress       *Progress       `json:"progress,omitempty"`
	Created        time.Time       `json:"created"`
	Expires        time.Time       `json:"expires"`    // not started after it
	TimeoutMs      int64           `json:"timeout_ms"` // for the answer, from the sending or the last progress
	Actor          string          `json:"actor,omitempty"`
	Role           string          `json:"role,omitempty"`   // of the actor
	Origin         string          `json:"origin,omitempty"` // the address that the actor spoke from
	Masked         json.RawMessage `json:"masked,omitempty"` // Params for people's eyes, where something in them is secret
	IdempotencyKey string          `json:"idempotency_key,omitempty"`
	Session        uint64          `json:"session,omitempty"`     // the connection it was last sent on
	Attempt        int             `json:"attempt,omitempty"`     // how often it was sent
	CancelAsked    time.Time       `json:"cancel_asked,omitzero"` // when the device was asked to give it up
	RetryOf        string          `json:"retry_of,omitempty"`    // the ended command that it repeats
	History        []Change        `json:"history"`
}

// Progress is what the device last said of its work. It is not durable by itself.
type Progress struct {
	Percent float64 `json:"percent"`
	Message string  `json:"message,omitempty"`
}

func (c *Command) timeout() time.Duration { return time.Duration(c.TimeoutMs) * time.Millisecond }

// changed is the time of the newest change.
func (c *Command) changed() time.Time {
	if len(c.History) == 0 {
		return c.Created
	}
	return c.History[len(c.History)-1].Time
}

// maxHistory bounds the story of a command that is sent again for days; its middle goes first.
const maxHistory = 200

// record adds a change to the story; copies of the command keep theirs. Of a row of sendings, and
// of sendings that a connection did not take, the first and the last are told.
func (c *Command) record(step Change) {
	n := len(c.History)
	last := func(i int) State { // the state i steps ago
		if i > n {
			return ""
		}
		return c.History[n-i].State
	}
	again := step.State == Sent && last(1) == Sent && last(2) == Sent && step.Actor == ""
	back := step.State == Queued && last(1) == Sent && last(2) == Queued && last(3) == Sent
	history := make([]Change, n, n+1)
	copy(history, c.History)
	switch {
	case again:
		history = history[:n-1]
	case back:
		history = history[:n-2]
	case n >= maxHistory:
		history = slices.Delete(history, maxHistory/2, maxHistory/2+1)
	}
	c.State, c.History = step.State, append(history, step)
}

// Request is a command as an operator asks for it.
type Request struct {
	Device         string
	Method         string
	Params         json.RawMessage // a JSON object or array, or empty
	Delivery       Delivery        // empty is AtMostOnce
	Expires        time.Duration   // latest start; 0 is the configured one
	Timeout        time.Duration   // for the answer; 0 is the configured one
	Actor          string
	Role           string // of the actor; some methods ask for more than others
	Origin         string // the address that the actor speaks from
	RetryOf        string // the ended command that it repeats, if any
	IdempotencyKey string // the same device and key return the first command
}

// Filter narrows a list of commands; the zero value lists all.
type Filter struct {
	Device   string
	Actor    string
	States   []State                  // one of these
	From, To time.Time                // made then or later, and before then
	Sees     func(device string) bool // only of devices for which it is true; nil: of all
	Limit    int                      // 0 is 100, at most 1000
	Cursor   string                   // what the page before returned as next
}

func (f *Filter) takes(c *Command) bool {
	return (f.Device == "" || c.Device == f.Device) && (f.Actor == "" || c.Actor == f.Actor) &&
		(len(f.States) == 0 || slices.Contains(f.States, c.State)) && (f.Sees == nil || f.Sees(c.Device)) &&
		!c.Created.Before(f.From) && (f.To.IsZero() || c.Created.Before(f.To))
}
