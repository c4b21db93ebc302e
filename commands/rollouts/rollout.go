package rollouts

import (
	"encoding/json"
	"time"

	"telemetryhub/commands"
)

// State is where a rollout stands.
type State string

// The states. Done and Cancelled are final.
const (
	Running   State = "running"
	Paused    State = "paused"    // by an operator
	Stopped   State = "stopped"   // by its limit of failures
	Done      State = "done"      // each device has its outcome, which need not be done
	Cancelled State = "cancelled" // by an operator; commands that were sent still get their outcomes
)

// Final reports whether nothing will be sent any more.
func (s State) Final() bool { return s == Done || s == Cancelled }

// Outcome is where one device of a rollout stands: the state of its command, or that it has none.
type Outcome string

// The outcomes beside the states of commands.
const (
	Pending Outcome = "pending" // its turn has not come
	Skipped Outcome = "skipped" // it got no command, and the note says why
)

// Final reports whether the device has its outcome.
func (o Outcome) Final() bool { return o == Skipped || commands.State(o).Final() }

// Failure reports whether the outcome counts towards the limit of failures.
func (o Outcome) Failure() bool {
	switch commands.State(o) {
	case commands.Failed, commands.Rejected, commands.Expired, commands.Unknown:
		return true
	default:
		return false
	}
}

// atWork reports whether the command is with the device, or on its way there. Queued ones wait for their device.
func (o Outcome) atWork() bool {
	switch commands.State(o) {
	case commands.Accepted, commands.Sent, commands.Received, commands.Running:
		return true
	default:
		return false
	}
}

// evidence reports whether the outcome says something of the command, for the percentage of failures.
func (o Outcome) evidence() bool { return o.Failure() || o == Outcome(commands.Done) }

// mendable reports whether a late answer can still change the outcome.
func (o Outcome) mendable() bool {
	return o == Outcome(commands.Unknown) || o == Outcome(commands.Expired)
}

// Change is one step of a rollout's story.
type Change struct {
	State State     `json:"state"`
	Time  time.Time `json:"time"`
	Cause string    `json:"cause,omitempty"`
	Actor string    `json:"actor,omitempty"` // who caused it; empty is the hub itself
}

// Plan is what was asked for. It never changes; as JSON it is a record in the bucket.
type Plan struct {
	ID             string            `json:"id"`
	To             Selector          `json:"to"`            // as given, but of many ids the first few
	IDs            int               `json:"ids,omitempty"` // how many ids were given
	Method         string            `json:"method"`
	Params         json.RawMessage   `json:"params,omitempty"`
	Masked         json.RawMessage   `json:"masked,omitempty"`   // Params for people's eyes, where something in them is secret
	Delivery       commands.Delivery `json:"delivery,omitempty"` // empty is the catalogue's, or the ledger's
	Expires        time.Duration     `json:"expires,omitempty"`  // of each command, from its sending; 0 is the ledger's
	Timeout        time.Duration     `json:"timeout,omitempty"`  // of each command; 0 is the catalogue's, or the ledger's
	Longest        time.Duration     `json:"longest,omitempty"`  // of the devices' timeouts, which a wave waits for
	Offline        OfflineRule       `json:"offline"`
	Waves          Waves             `json:"waves"`
	Within         []string          `json:"within,omitempty"` // its devices had one of these tags, as its actor sees no others
	Actor          string            `json:"actor,omitempty"`
	Role           string            `json:"role,omitempty"`
	Origin         string            `json:"origin,omitempty"`
	Created        time.Time         `json:"created"`
	Devices        int               `json:"devices"`
	IdempotencyKey string            `json:"idempotency_key,omitempty"`
	Fingerprint    string            `json:"fingerprint"` // of the request, to tell another one with the same key
}

// Rollout is a rollout as readers see it.
type Rollout struct {
	Plan
	State    State
	Limits   Limits // as given, or as the last resume raised them
	Counts   map[Outcome]int
	Failures int
	Wave     Wave
	Waiting  string    // for what, in words
	ETA      time.Time // of the last outcome, guessed from what is done; zero: not known
	Ended    time.Time // when it became final
	History  []Change
}

// Cause is why the rollout is in its state.
func (r *Rollout) Cause() string {
	if len(r.History) == 0 {
		return ""
	}
	return r.History[len(r.History)-1].Cause
}

// Wave says how far the waves are.
type Wave struct {
	Number int // from 1
	Of     int
	Size   int       // devices in it
	Open   int       // devices in it that have no outcome yet
	Rest   time.Time // the pause after it ends; zero: none
}

// DeviceOutcome is what became of one device.
type DeviceOutcome struct {
	Device  string
	Outcome Outcome
	Command string // id; empty: none was made
	Cause   string
	Time    time.Time // of the command's newest change
}
