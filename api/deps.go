package api

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/auth"
	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
	"telemetryhub/devices"
	"telemetryhub/devices/discovery"
	"telemetryhub/devices/state"
	"telemetryhub/wire"
)

// Operators knows who may use the hub; auth.Operators is one.
type Operators interface {
	Authenticate(token string, now time.Time) (auth.Operator, bool)
	NewCookie(op auth.Operator, now time.Time) (value string, expires time.Time, err error)
	FromCookie(value string, now time.Time) (auth.Operator, bool)
	Changes() <-chan struct{} // closed at the next change of any of them
}

// Registry holds the devices; devices.Registry is one.
type Registry interface {
	Create(ctx context.Context, d devices.Device) (created devices.Device, token string, err error)
	Get(id string) (devices.Device, bool)
	List() []devices.Device // sorted by id
	Update(ctx context.Context, id string, change func(*devices.Device) error) (devices.Device, error)
	Delete(ctx context.Context, id string) error
	AddToken(ctx context.Context, id string, q devices.TokenRequest) (secret string, t devices.Token, err error)
	Authenticate(device, token string) (devices.Device, devices.Proof, error)
}

// Credentials are what devices prove themselves with; devices.Rotation is one.
type Credentials interface {
	List(device string) ([]devices.Credential, error)
	Revoke(ctx context.Context, device, id string) error
	// Rotate offers a new token to the device on its connection. said tells more of an outcome that is not Confirmed.
	Rotate(ctx context.Context, device string) (t devices.Token, o devices.RotationOutcome, said string, err error)
	// Renew gives a device what it asks for by itself, as JSON.
	Renew(ctx context.Context, device string, p devices.Proof, params []byte) ([]byte, error)
	// Used notes that a device proved itself without a connection.
	Used(device string, p devices.Proof)
}

// Recorder is what befell each device on the line, the newest first; devices.Sessions is one.
type Recorder interface {
	Note(device string, e devices.Event)
	Events(device string) []devices.Event
}

// Sessions knows who is connected; devices.Sessions is one.
type Sessions interface {
	Presence(device string) devices.Presence
	Forget(device string) // what is known of a device that was deleted
	LearnUnits(device string, units []wire.Unit)
	Units(device string) map[string]string // by field, as the device said
	Unfreeze(device, by string) bool       // false: it was not frozen
	Probe(ctx context.Context, device string) (devices.Probed, error)
	Recorder
}

// Commands is the command ledger; commands.Service is one.
type Commands interface {
	Send(ctx context.Context, r commands.Request) (commands.Command, error)
	Wait(ctx context.Context, id string) (commands.Command, error)
	Get(id string) (commands.Command, error)
	List(ctx context.Context, f commands.Filter) (found []commands.Command, next string, err error)
	Cancel(ctx context.Context, id, actor string) (commands.Command, error)
	Retry(ctx context.Context, id string, by commands.Request) (commands.Command, error)
	Abandon(ctx context.Context, device, actor, cause string) error // ends those of a device that was deleted or disabled
}

// Ingest takes readings and gives account of them.
type Ingest interface {
	// Commit returns nil when the telemetry is durable. t may be used again as soon as it has returned.
	Commit(ctx context.Context, device string, t *wire.Telemetry) error
	// Refuse counts one frame that could not be used.
	Refuse(device, reason string)
	// Latest returns the newest value of each field of the device's home measurement, as far as it is in memory or found in the
	// store before ctx ends.
	Latest(ctx context.Context, device string) map[string]Value
	// Forget drops the newest values of a device that was deleted.
	Forget(device string)
	// Audit returns the total, and the account of each device, or of one alone.
	Audit(ctx context.Context, device string) (Audit, error)
}

// Quarantine holds readings back that could not be stored. Their errors are ErrNotQuarantined for an id that was never
// given, *QueryError and *UnavailableError.
type Quarantine interface {
	// List pages through what is held back, newest first; cursor "" begins, next "" is the end. A page may be short.
	List(ctx context.Context, q QuarantineQuery) (items []Quarantined, next string, err error)
	// Get returns one reading.
	Get(ctx context.Context, id string) (Quarantined, error)
	// Settle retries or drops one reading; when ctx ends before the outcome it is queued, and goes on.
	Settle(ctx context.Context, id string, drop bool) (Settled, error)
	// SettleAll retries or drops a page of them.
	SettleAll(ctx context.Context, q QuarantineQuery, drop bool) (SettledAll, error)
}

// ErrNotQuarantined says that no quarantined reading ever had this id.
var ErrNotQuarantined = errors.New("no quarantined reading has this id")

// QuarantineQuery chooses among quarantined readings; an empty device or reason chooses all.
type QuarantineQuery struct {
	Device, Reason string
	Cursor         string
	Limit          int
}

// Replays write to the store again what the journal still keeps.
type Replays interface {
	// Start begins one; ErrReplayRunning when there is one.
	Start(from, to time.Time, device string) (Replay, error)
	// Last returns the last since the hub was started; false if there was none.
	Last() (Replay, bool)
	// Cancel ends the one that runs and returns the last.
	Cancel() (Replay, bool)
}

// ErrReplayRunning says that a replay runs: there is one at a time.
var ErrReplayRunning = errors.New("a replay is running; wait for its end or cancel it")

// Replay is how far a replay is.
type Replay struct {
	State    string    `json:"state" enum:"running,done,cancelled,failed"`
	From     time.Time `json:"from" doc:"Readings received from then on"`
	To       time.Time `json:"to" doc:"and before then"`
	Device   string    `json:"device,omitempty" doc:"Of this device alone"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	Oldest   time.Time `json:"oldest,omitzero" doc:"The journal keeps nothing that is older"`
	Read     uint64    `json:"read" doc:"Envelopes of the journal that were read"`
	Of       uint64    `json:"of" doc:"Envelopes to be read"`
	Written  uint64    `json:"written" doc:"Readings that the store took"`
	Passed   uint64    `json:"passed_over" doc:"Readings that were a duplicate or quarantined the first time"`
	Rejected uint64    `json:"rejected" doc:"Readings that the store rejects"`
	Missing  uint64    `json:"missing" doc:"Envelopes that were gone or damaged"`
	Fault    string    `json:"fault,omitempty" doc:"Why it waits, or failed"`
}

// History reads stored readings back.
type History interface {
	// Query returns readings in ascending order of time.
	Query(ctx context.Context, q HistoryQuery) (readings []Reading, next string, err error)
	// Latest returns for each field the newest value by the time it was measured.
	Latest(ctx context.Context, device, measurement string) (map[string]Value, error)
	// Count reads all of a device's points and says how many they are.
	Count(ctx context.Context, device string) (uint64, error)
}

// Readiness tells which parts of the hub can do their work.
type Readiness interface {
	Parts(ctx context.Context) []Part
}

// Feed delivers what happens from now on. It never waits for its reader: what does not fit into its buffer is counted.
// feed.Feed is one.
type Feed[T any] interface {
	C() <-chan T
	Missed() uint64 // how many were lost since it was last asked
	Close()
}

// Feeds opens the feeds of one live stream, each with room for buffer elements.
type Feeds struct {
	// Telemetry delivers the readings of these devices as they become durable; no device named: of all.
	Telemetry func(devices []string, buffer int) Feed[LiveTelemetry]
	Presence  func(buffer int) Feed[devices.PresenceChange]
	States    func(buffer int) Feed[state.Update]
	Commands  func(buffer int) Feed[commands.Command]
	Rollouts  func(buffer int) Feed[rollouts.Rollout]
	Discovery func(buffer int) Feed[discovery.Seen] // devices that come onto the list
}

// Deps is what a Server needs; all of it.
type Deps struct {
	Operators Operators
	Accounts  Accounts
	Registry  Registry
	Importer  Importer
	Proofs    Credentials
	Sessions  Sessions
	Profiles  Profiles
	Throttle  Throttle
	Commands  Commands
	States    States
	Ingest    Ingest
	History   History
	Readiness Readiness
	Feeds     Feeds

	Quarantine Quarantine
	Replays    Replays
	Types      Types
	Acts       Acts
	Rollouts   Rollouts
	Catalogue  Catalogue
	Enrolment  Enrolment
	Discovery  Discovery
	Bridges    Bridges

	Certificates devices.Certificates // that devices show when they post; nil: none count
	Issuer       Issuer

	CAPEM    []byte                // certificate of the local CA, served at /ca.pem; nil: 404
	Gatherer prometheus.Gatherer   // what /metrics shows
	Metrics  prometheus.Registerer // where this package's own metrics go
	Log      *slog.Logger
}

// Value is the newest value of a field: a number, a text or a boolean.
type Value struct {
	Value any   `json:"value" doc:"Number, text or boolean"`
	TS    int64 `json:"ts" doc:"When it was measured, ms since 1970-01-01T00:00:00Z"`
}

// Reading is what a device measured at one time.
type Reading struct {
	TS     int64          `json:"ts" doc:"When it was measured, ms since 1970-01-01T00:00:00Z"`
	Values map[string]any `json:"values"`
}

// LiveTelemetry is what one frame brought.
type LiveTelemetry struct {
	Device      string    `json:"device"`
	Measurement string    `json:"measurement"`
	Readings    []Reading `json:"readings" nullable:"false"`
}

// HistoryQuery selects stored readings. From is inclusive, To exclusive; a zero time is no bound. Without Every and Fn
// it asks for raw readings, with Fn alone for one row over all, with Every for a row a window.
type HistoryQuery struct {
	Device, Measurement string
	Fields              []string // none: all
	From, To            time.Time
	Every               time.Duration
	Fn                  string // mean min max sum count first last
	Limit               int
	Cursor              string
}

// Account is the hub's account of what became of readings: received is the sum of the others.
type Account struct {
	Received    uint64            `json:"received"`
	Stored      uint64            `json:"stored"`
	Duplicate   uint64            `json:"duplicate"`
	Quarantined uint64            `json:"quarantined"`
	Queued      uint64            `json:"queued"`
	Refused     map[string]uint64 `json:"refused" doc:"By reason"`
}

// DeviceAccount is the account of one device.
type DeviceAccount struct {
	Device string `json:"device"`
	Account
	Gaps  []Gap       `json:"gaps,omitempty" doc:"Numbers that never came, where one device is asked for: the boot used last first, of the last 8 boots"`
	Store *StoreCount `json:"store,omitempty" doc:"What a deep audit found in the store"`
}

// Gap is a piece of a device's numbering, both ends included, of which no reading came.
type Gap struct {
	Boot   string `json:"boot"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
	Partly bool   `json:"partly,omitempty" doc:"Some of these may have come; there were too many gaps to remember them"`
}

// StoreCount compares a device's points in the store with those that the account says are stored.
type StoreCount struct {
	Points uint64 `json:"points" doc:"Points in the store, of all measurements"`
	Agrees bool   `json:"agrees" doc:"As many as stored says, or as it said at some time while they were counted"`
	TookMs int64  `json:"took_ms"`
}

// Audit is the account of all, and of each device.
type Audit struct {
	Total   Account         `json:"total"`
	Devices []DeviceAccount `json:"devices" nullable:"false"`
	Unread  int             `json:"unread,omitempty" doc:"Devices for which a deep audit had no time left; ask for each by itself"`
}

// Quarantined is a reading or frame that is held back, with the reason why.
type Quarantined struct {
	ID       string    `json:"id"`
	Device   string    `json:"device"`
	Reason   string    `json:"reason"`
	Message  string    `json:"message,omitempty" doc:"More of the reason, such as the store's own words"`
	Boot     string    `json:"boot,omitempty"`
	Seq      uint64    `json:"seq,omitempty"`
	Received time.Time `json:"received"`
	Count    uint64    `json:"count" doc:"Readings that it stands for: 1, or as many as damage of the journal took"`
	Frame    string    `json:"frame" doc:"As it was received, or the line that the store rejected"`
}

// Settled is what a retry or drop made of a quarantined reading.
type Settled struct {
	ID      string `json:"id"`
	State   string `json:"state" enum:"stored,dropped,quarantined,queued,gone" doc:"quarantined: it still cannot be stored; queued: it waits for the store and goes on by itself; gone: it was settled before, or fell out of a full quarantine"`
	Reason  string `json:"reason,omitempty" doc:"Why it stays in the quarantine"`
	Message string `json:"message,omitempty"`
}

// SettledAll is what a retry or drop made of several.
type SettledAll struct {
	Readings map[string]uint64 `json:"readings" doc:"How many, by state"`
	Next     string            `json:"next" doc:"Cursor to go on with; empty when all were seen"`
}

// Part is one part of the hub and whether it can work.
type Part struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Message string `json:"message,omitempty"`
}
