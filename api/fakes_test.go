package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/auth"
	"telemetryhub/auth/acts"
	"telemetryhub/commands"
	"telemetryhub/commands/catalogue"
	"telemetryhub/commands/rollouts"
	"telemetryhub/devices"
	"telemetryhub/devices/state"
	"telemetryhub/wire"
)

// fakeHub stands for everything behind the API. Tests set what it answers and read what it was told.
type fakeHub struct {
	mu       sync.Mutex
	tokens   map[string]auth.Operator // by token, and by cookie's value
	changed  chan struct{}            // closed when tokens change
	devices  map[string]devices.Device
	keys     map[string]string // a device's token, by id
	presence map[string]devices.Presence
	units    map[string]string
	noted    map[string][]devices.Event
	hold     devices.Hold // that each post meets
	passed   []string     // limits
	latest   map[string]map[string]api.Value
	latestBy []time.Time // the deadlines of those who asked for latest

	left      []string // what was made of devices that were taken out
	refused   []string // "id reason"
	committed []string // "id fields of the first reading"
	commitErr error

	queries    []api.HistoryQuery
	historyErr error
	replay     api.Replay
	retyped    []api.TypeChange
	points     uint64 // of each device
	held       []api.Quarantined
	settled    []string // "retry id", or a query
	stored     map[string]api.Value

	sent    []commands.Request
	sendErr error
	wait    func(ctx context.Context) commands.Command

	filters   []commands.Filter
	cancelled *commands.Command // nil: too late
	ready     []api.Part

	accounts   fakeAccounts
	actQueries []acts.Query

	acts    []acts.Act // what was told to the audit log
	actErr  error      // of Append
	actsOff error      // of Err

	telemetry *fakeFeed[api.LiveTelemetry]
	changes   *fakeFeed[devices.PresenceChange]
	commands  *fakeFeed[commands.Command]
	rollouts  *fakeFeed[rollouts.Rollout]

	within   []string // of the rollout
	probed   devices.Probed
	probeErr error

	asked      []rollouts.Request
	rolloutErr error

	states *fakeFeed[state.Update]

	state     state.Document // of d1
	stateErr  error
	desires   []string // "device patch versions actor"
	reports   []string // "device patch"
	forgotten []string

	enrolment []string // what the enrolment keys were told
	discovery fakeDiscovery
}

const commandID = "01J0000000000000000000TEST"

func newFakeHub() *fakeHub {
	return &fakeHub{
		noted: map[string][]devices.Event{}, changed: make(chan struct{}),
		tokens: map[string]auth.Operator{
			"op_viewer":   {Name: "vera", Role: auth.RoleViewer},
			"op_operator": {Name: "otto", Role: auth.RoleOperator},
			"op_admin":    {Name: "ada", Role: auth.RoleAdmin},
		},
		devices: map[string]devices.Device{
			"d1": {ID: "d1", Type: "node", Tags: []string{"hall", "warm"}, Attributes: map[string]string{"floor": "1", "room": "a"}, Enabled: true},
			"d2": {ID: "d2", Type: "Pump", Enabled: true},
			"d3": {ID: "d3", Tags: []string{"hall"}},
		},
		keys:     map[string]string{"d1": "dev_1", "d2": "dev_2", "d3": "dev_3"},
		presence: map[string]devices.Presence{"d1": {Online: true, Transport: "wss"}},
		latest:   map[string]map[string]api.Value{"d1": {"Temp": {Value: 21.5, TS: 2000}}},
		stored:   map[string]api.Value{"Temp": {Value: 20.5, TS: 1000}, "RelH": {Value: 40.0, TS: 1000}},
		ready:    []api.Part{{Name: "journal", OK: true}},

		telemetry: newFakeFeed[api.LiveTelemetry](), changes: newFakeFeed[devices.PresenceChange](), commands: newFakeFeed[commands.Command](),
		rollouts: newFakeFeed[rollouts.Rollout](), states: newFakeFeed[state.Update](), discovery: newFakeDiscovery(),
	}
}

func (h *fakeHub) said(list *[]string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(*list)
}

type fakeOperators struct{ *fakeHub }

func (f fakeOperators) Authenticate(token string, now time.Time) (auth.Operator, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	op, ok := f.tokens[token]
	return op, ok && (op.Until.IsZero() || now.Before(op.Until))
}

func (f fakeOperators) Changes() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// let makes op what a token stands for from now on; nil: nobody.
func (h *fakeHub) let(token string, op *auth.Operator) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.tokens, token)
	if op != nil {
		h.tokens[token] = *op
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

func (f fakeOperators) NewCookie(op auth.Operator, now time.Time) (string, time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens["cookie-of-"+op.Name] = op
	return "cookie-of-" + op.Name, now.Add(time.Hour), nil
}

func (f fakeOperators) FromCookie(value string, now time.Time) (auth.Operator, bool) {
	if !strings.HasPrefix(value, "cookie-of-") {
		return auth.Operator{}, false
	}
	return f.Authenticate(value, now)
}

type fakeRegistry struct{ *fakeHub }

func (f fakeRegistry) Create(_ context.Context, d devices.Device) (devices.Device, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := wire.CheckDeviceID(d.ID); err != nil {
		return d, "", &devices.InvalidError{Field: "id", Message: err.Error()}
	}
	if _, ok := f.devices[d.ID]; ok {
		return d, "", devices.ErrExists
	}
	f.devices[d.ID], f.keys[d.ID] = d, "dev_new"
	return d, "dev_new", nil
}

func (f fakeRegistry) Get(id string) (devices.Device, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.devices[id]
	return d, ok
}

func (f fakeRegistry) List() []devices.Device {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []devices.Device
	for _, d := range f.devices {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b devices.Device) int { return strings.Compare(a.ID, b.ID) })
	return all
}

func (f fakeRegistry) Update(_ context.Context, id string, change func(*devices.Device) error) (devices.Device, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.devices[id]
	if !ok {
		return d, devices.ErrNotFound
	}
	if err := change(&d); err != nil {
		return d, err
	}
	f.devices[id] = d
	return d, nil
}

func (f fakeRegistry) Delete(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.devices[id]; !ok {
		return devices.ErrNotFound
	}
	delete(f.devices, id)
	return nil
}

func (f fakeRegistry) AddToken(_ context.Context, id string, q devices.TokenRequest) (string, devices.Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := devices.Token{ID: "c2"}
	if _, ok := f.devices[id]; !ok {
		return "", t, devices.ErrNotFound
	}
	f.keys[id] = "dev_renewed"
	f.left = append(f.left, fmt.Sprintf("%s token keep=%v life=%v", id, q.Keep, q.Life))
	if q.Life > 0 {
		t.Expires = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return f.keys[id], t, nil
}

func (f fakeRegistry) Authenticate(id, token string) (devices.Device, devices.Proof, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch token {
	case "dev_expired":
		return f.devices["d1"], devices.Proof{Kind: devices.ProofToken, Renewal: true}, nil
	case "dev_over":
		return f.devices["d1"], devices.Proof{}, devices.ErrExpired
	}
	for have, key := range f.keys {
		if key == token && (id == "" || id == have) {
			if d := f.devices[have]; d.Enabled {
				return d, devices.Proof{Kind: devices.ProofToken}, nil
			}
			return devices.Device{}, devices.Proof{}, devices.ErrDisabled
		}
	}
	return devices.Device{}, devices.Proof{}, devices.ErrCredentials
}

type fakeSessions struct{ *fakeHub }

func (f fakeSessions) Note(device string, e devices.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noted[device] = append([]devices.Event{e}, f.noted[device]...)
}

func (f fakeSessions) Events(device string) []devices.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.noted[device]
}

func (f fakeSessions) Presence(device string) devices.Presence {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.presence[device]
}

func (f fakeSessions) Forget(device string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.presence, device)
}

func (f fakeSessions) LearnUnits(device string, units []wire.Unit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range units {
		f.units = map[string]string{string(u.Field): string(u.Symbol)}
	}
}

func (f fakeSessions) Units(string) map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.units
}

func (f fakeSessions) Probe(_ context.Context, device string) (devices.Probed, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.presence[device].Online {
		return devices.Probed{}, devices.ErrOffline
	}
	return f.probed, f.probeErr
}

func (f fakeSessions) Unfreeze(device, _ string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.presence[device]
	was := p.Frozen != nil
	p.Frozen = nil
	f.presence[device] = p
	return was
}

type fakeCommands struct{ *fakeHub }

func (f fakeCommands) Send(_ context.Context, r commands.Request) (commands.Command, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sendErr != nil {
		return commands.Command{}, f.sendErr
	}
	f.sent = append(f.sent, r)
	return sentCommand(), nil
}

func sentCommand() commands.Command {
	return commands.Command{ID: commandID, Device: "d1", Method: "ping", State: commands.Sent, Delivery: commands.AtMostOnce, Actor: "otto", History: []commands.Change{{State: commands.Accepted}}}
}

func (f fakeCommands) Wait(ctx context.Context, _ string) (commands.Command, error) {
	f.mu.Lock()
	wait := f.wait
	f.mu.Unlock()
	if wait == nil {
		return sentCommand(), nil
	}
	return wait(ctx), nil
}

func (f fakeCommands) Get(id string) (commands.Command, error) {
	if id != commandID {
		return commands.Command{}, commands.ErrNotFound
	}
	return sentCommand(), nil
}

func (f fakeCommands) List(_ context.Context, q commands.Filter) ([]commands.Command, string, error) {
	f.mu.Lock()
	f.filters = append(f.filters, q)
	f.mu.Unlock()
	if q.Device == "d2" || q.Sees != nil && !q.Sees("d1") {
		return nil, "", nil
	}
	return []commands.Command{sentCommand()}, "more", nil
}

func (f fakeCommands) Cancel(_ context.Context, id, _ string) (commands.Command, error) {
	if id != commandID {
		return commands.Command{}, commands.ErrNotFound
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cancelled != nil {
		return *f.cancelled, nil
	}
	return sentCommand(), commands.ErrTooLate
}

func (f fakeCommands) Retry(ctx context.Context, id string, by commands.Request) (commands.Command, error) {
	by.RetryOf = id
	return f.Send(ctx, by)
}

func (f fakeCommands) Abandon(_ context.Context, device, actor, cause string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = append(f.left, device+" abandoned by "+actor+": "+cause)
	return nil
}

type fakeIngest struct{ *fakeHub }

func (f fakeIngest) Commit(_ context.Context, device string, t *wire.Telemetry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.commitErr != nil {
		return f.commitErr
	}
	line := device
	for _, field := range t.Readings[0].Fields {
		line += " " + string(field.Name)
	}
	f.committed = append(f.committed, line)
	return nil
}

func (f fakeIngest) Refuse(device, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = append(f.refused, device+" "+reason)
}

func (f fakeIngest) Forget(device string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = append(f.left, device+" forgotten")
}

func (f fakeIngest) Latest(ctx context.Context, device string) map[string]api.Value {
	f.mu.Lock()
	defer f.mu.Unlock()
	until, _ := ctx.Deadline()
	f.latestBy = append(f.latestBy, until)
	return f.latest[device]
}

func (f fakeIngest) Audit(_ context.Context, device string) (api.Audit, error) {
	a := api.Audit{
		Total: api.Account{Received: 10, Stored: 9, Refused: map[string]uint64{"bad_json": 1}},
		Devices: []api.DeviceAccount{
			{Device: "d1", Account: api.Account{Received: 3, Stored: 2, Refused: map[string]uint64{"bad_json": 1}}}, {Device: "d2", Account: api.Account{Received: 7, Stored: 7}},
		},
	}
	if device != "" {
		a.Devices = slices.DeleteFunc(a.Devices, func(d api.DeviceAccount) bool { return d.Device != device })
	}
	return a, nil
}

type fakeQuarantine struct{ *fakeHub }

func (f fakeQuarantine) List(_ context.Context, q api.QuarantineQuery) ([]api.Quarantined, string, error) {
	if q.Cursor == "broken" {
		return nil, "", &api.QueryError{Parameter: "cursor", Value: q.Cursor, Message: "not a cursor"}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.held), "", nil
}

func (f fakeQuarantine) Get(_ context.Context, id string) (api.Quarantined, error) {
	if id != "7" {
		return api.Quarantined{}, api.ErrNotQuarantined
	}
	return api.Quarantined{ID: "7", Device: "d1", Reason: "bad_value", Count: 1}, nil
}

func (f fakeQuarantine) Settle(_ context.Context, id string, drop bool) (api.Settled, error) {
	if id != "7" {
		return api.Settled{}, api.ErrNotQuarantined
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if drop {
		f.settled = append(f.settled, "drop "+id)
		return api.Settled{ID: id, State: "dropped"}, nil
	}
	f.settled = append(f.settled, "retry "+id)
	return api.Settled{ID: id, State: "stored"}, nil
}

func (f fakeQuarantine) SettleAll(_ context.Context, q api.QuarantineQuery, drop bool) (api.SettledAll, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settled = append(f.settled, fmt.Sprintf("%+v drop=%v", q, drop))
	return api.SettledAll{Readings: map[string]uint64{"stored": 2}, Next: "9"}, nil
}

type fakeReplays struct{ *fakeHub }

func (f fakeReplays) Start(from, to time.Time, device string) (api.Replay, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.replay.State == "running" {
		return f.replay, api.ErrReplayRunning
	}
	f.replay = api.Replay{State: "running", From: from, To: to, Device: device}
	return f.replay, nil
}

func (f fakeReplays) Last() (api.Replay, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replay, f.replay.State != ""
}

func (f fakeReplays) Cancel() (api.Replay, bool) {
	f.mu.Lock()
	if f.replay.State == "running" {
		f.replay.State = "cancelled"
	}
	f.mu.Unlock()
	return f.Last()
}

type fakeActs struct{ *fakeHub }

func (f fakeActs) Append(_ context.Context, a acts.Act) error {
	f.Note(a)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.actErr
}

func (f fakeActs) Note(a acts.Act) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acts = append(f.acts, a)
}

func (f fakeActs) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.actsOff
}

func (f fakeActs) List(_ context.Context, q acts.Query) ([]acts.Act, string, error) {
	if q.Cursor == "broken" {
		return nil, "", acts.ErrCursor
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.actQueries = append(f.actQueries, q)
	return slices.Clone(f.acts), "more", nil
}

func (f fakeActs) Export(_ context.Context, q acts.Query, yield func(acts.Act) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.actQueries = append(f.actQueries, q)
	for _, a := range f.acts {
		if err := yield(a); err != nil {
			return err
		}
	}
	return f.actErr
}

// fakeCatalogue knows the type node.
func fakeCatalogue(t *testing.T) *catalogue.Catalogue {
	t.Helper()
	c, err := catalogue.New([]catalogue.Type{{Name: "node", Methods: map[string]catalogue.Method{
		"ping": {Timeout: 2 * time.Second},
		"set":  {Description: "Set it.", Params: json.RawMessage(`{"type":"object"}`), Delivery: "at-least-once", Role: "admin"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type fakeHistory struct{ *fakeHub }

func (f fakeHistory) Query(_ context.Context, q api.HistoryQuery) ([]api.Reading, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queries = append(f.queries, q)
	return []api.Reading{{TS: 1000, Values: map[string]any{"Temp": 20.5}}}, "page2", f.historyErr
}

func (f fakeHistory) Count(context.Context, string) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.points, f.historyErr
}

func (f fakeHistory) Latest(context.Context, string, string) (map[string]api.Value, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stored, f.historyErr
}

type fakeReadiness struct{ *fakeHub }

func (f fakeReadiness) Parts(context.Context) []api.Part {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready
}

// fakeFeed hands out what send is given; it must be opened before.
type fakeFeed[T any] struct {
	opened chan struct{} // has an element when a stream has opened it
	closed chan struct{} // has an element when a stream has closed it
	c      chan T

	mu     sync.Mutex
	missed uint64
}

func newFakeFeed[T any]() *fakeFeed[T] {
	return &fakeFeed[T]{opened: make(chan struct{}, 64), closed: make(chan struct{}, 64), c: make(chan T)}
}

func (f *fakeFeed[T]) open(int) api.Feed[T] {
	f.opened <- struct{}{}
	return f
}

func (f *fakeFeed[T]) C() <-chan T { return f.c }

func (f *fakeFeed[T]) Missed() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	missed := f.missed
	f.missed = 0
	return missed
}

func (f *fakeFeed[T]) lose(n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missed += n
}

func (f *fakeFeed[T]) Close() { f.closed <- struct{}{} }

var errSecret = errors.New("dial 10.0.0.7: password hunter2 is wrong")
