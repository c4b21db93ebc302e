package bridge

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"telemetryhub/bridge/maps"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// mapping is how a device is spoken to: by the commands of the group of maps that its last message came by.
type mapping struct {
	group string
	vars  maps.Vars
	kind  string // its type in the registry
	model string
}

// orderBook holds the commands that a device was sent by maps and whose outcome is not known, the oldest first.
type orderBook struct {
	mu     sync.Mutex
	orders []order
}

// merge takes over what the mapping before knew and this one's message does not say.
func (m *mapping) merge(old *mapping) {
	if old == nil || old.group != m.group || old.kind != m.kind {
		return
	}
	for _, v := range old.vars {
		if _, said := m.vars.Get(v.Name); !said {
			m.vars = append(slices.Clip(m.vars), v)
		}
	}
	m.model = cmp.Or(m.model, old.model)
}

// same reports whether both stand for the same commands and the same model.
func (m *mapping) same(old *mapping) bool {
	return old != nil && old.group == m.group && old.kind == m.kind && old.model == m.model
}

// levels returns what is known of the levels of the device's topics.
func (m *mapping) levels() maps.Vars {
	if m == nil {
		return nil
	}
	return m.vars
}

// order is one of them.
type order struct {
	expect *maps.Expectation
	until  time.Time // of one that is done when something is seen; zero: none
}

// mostOrders bounds those of one device; the ledger has bounds of its own, far below.
const mostOrders = 64

// AnyMethod stands among the methods of a device that takes any.
const AnyMethod = maps.AnyMethod

// desiredMethod is the command that a map makes of the desired state, with what differs from the reported one as params.
const desiredMethod = "desired"

// Send implements devices.Link. The hub is not told whether the device has subscribed at the broker.
func (d *bridgedDevice) Send(cmd wire.Command) error {
	if by := d.mappedBy(); by != nil {
		return d.order(by, cmd)
	}
	return d.publish(wire.AppendCommand(nil, cmd), cmd.AtLeastOnce)
}

func (d *bridgedDevice) mappedBy() *mapping {
	b := d.owner
	b.mu.Lock()
	defer b.mu.Unlock()
	return d.by
}

// order sends a command by the device's maps. What answers it may come before this returns.
func (d *bridgedDevice) order(by *mapping, cmd wire.Command) error {
	l := d.owner.line
	made, err := l.external.maps.Down(by.group, by.target(d.id), cmd)
	if err != nil {
		return err
	}
	d.orders.expect(made.Expect)
	if err := l.send(chain(made.Publications)); err != nil {
		d.orders.forget(cmd.ID)
		return fmt.Errorf("send by bridge %q: %w", l.external.cfg.Name, err)
	}
	return nil
}

func (m *mapping) target(device string) maps.Target {
	return maps.Target{Device: device, Type: m.kind, Vars: m.vars}
}

// expect notes how the outcome of a command will be known.
func (b *orderBook) expect(e *maps.Expectation) {
	if e == nil {
		return
	}
	o := order{expect: e}
	if e.Within() > 0 {
		o.until = time.Now().Add(e.Within())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders = slices.DeleteFunc(b.orders, func(old order) bool { return old.expect.Command == e.Command })
	if b.orders = append(b.orders, o); len(b.orders) > mostOrders {
		b.orders = b.orders[1:]
	}
}

func (b *orderBook) forget(command string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders = slices.DeleteFunc(b.orders, func(o order) bool { return o.expect.Command == command })
}

// ended lets a command go that has its outcome, so that a later answer is not taken for its own. One that bears the
// command's id still counts.
func (b *orderBook) ended(command string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders = slices.DeleteFunc(b.orders, func(o order) bool { return o.expect.Command == command && !o.expect.Correlates() })
}

// settle tells of the commands whose outcome a message is: the one that it answers, which is the oldest that it can be
// the answer to, and those that are done when it says what it says.
func (b *orderBook) settle(session *devices.Session, o *maps.Outcome, log *slog.Logger) {
	b.mu.Lock()
	waiting := slices.Clone(b.orders)
	b.mu.Unlock()
	for _, w := range waiting {
		if w.expect.Answers(o) {
			if o.Reply.Progress {
				session.Progress(wire.Progress{ID: w.expect.Command, Status: wire.ProgressRunning})
				return
			}
			b.forget(w.expect.Command)
			session.Answer(answerOf(w.expect.Command, o.Reply))
			return
		}
		if !w.until.IsZero() && time.Now().After(w.until) {
			b.forget(w.expect.Command) // it stays unknown
			continue
		}
		met, err := w.expect.Met(o)
		if err != nil {
			log.Warn("the condition of a command could not be told", "device", o.Device, "method", w.expect.Method, "err", err)
		}
		if met {
			b.forget(w.expect.Command)
			session.Answer(wire.Answer{ID: w.expect.Command, Result: json.RawMessage(`{"seen":` + string(maps.Seen(o)) + `}`)})
		}
	}
}

// Ended lets a command go that has its outcome.
func (d *bridgedDevice) Ended(command string) { d.orders.ended(command) }

// settleOrders tells of the commands of a device whose outcome a message is.
func (b *bridgedDevices) settleOrders(o *maps.Outcome) {
	b.mu.Lock()
	d, ok := b.known[o.Device]
	b.mu.Unlock()
	if ok {
		d.orders.settle(d.session, o, b.line.external.log)
	}
}

// answerOf is an answer as the device would have given it on a connection of its own.
func answerOf(command string, r *maps.Reply) wire.Answer {
	if r.Fault != nil {
		return wire.Answer{ID: command, Fault: slices.Clone(r.Fault), Code: wire.CodeUnavailable}
	}
	return wire.Answer{ID: command, Result: slices.Clone(r.Result)}
}

// learn notes how a device is spoken to, and says to its session which commands it has.
func (d *bridgedDevice) learn(by *mapping) {
	b := d.owner
	e := b.line.external
	b.mu.Lock()
	old, session := d.by, d.session
	if by != nil {
		by.merge(old)
	}
	d.by = by
	b.mu.Unlock()
	if by == nil || session == nil || by.same(old) {
		return
	}
	e.mapped.remember(d.id, by)
	if by.model != "" {
		session.Describe("", by.model)
	}
	session.Announce(announced(e.maps.Methods(by.group, by.kind)))
}

// announced leaves out what stands for any method.
func announced(methods []string) []string {
	return slices.DeleteFunc(methods, func(m string) bool { return m == AnyMethod })
}

// orderDesired publishes a desired state by the device's maps, where they have a command for that. It needs owner.mu.
func (d *bridgedDevice) orderDesired(st wire.State) {
	l := d.owner.line
	if st.Delta == nil || !l.external.maps.Has(d.by.group, d.by.kind, desiredMethod) {
		return
	}
	made, err := l.external.maps.Down(d.by.group, d.by.target(d.id), wire.Command{Method: desiredMethod, Params: st.Delta})
	if err != nil {
		l.external.log.Warn("a desired state could not be mapped", "device", d.id, "err", err)
		return
	}
	out := chain(made.Publications)
	out.kind = kindState
	if d.owed = l.send(out) != nil; !d.owed {
		d.told = st.Version
	}
}

// chain makes one entry of the queue of all that a command is, so that all of it goes out or nothing.
func chain(all []maps.Publication) publication {
	var out publication
	for i, p := range slices.Backward(all) {
		next := out
		out = publication{topic: p.Topic, payload: p.Payload, qos: p.QoS}
		if i < len(all)-1 {
			out.then = &next
		}
	}
	return out
}

// present notes what the broker says of a device's presence: its last will, or that it is there.
func (b *bridgedDevices) present(o *maps.Outcome, of *devices.Device) {
	if o.Online {
		if b.seenBy(o.Device, &mapping{group: o.Group, vars: o.Vars, model: o.Model, kind: of.Type}) != nil {
			b.mu.Lock()
			if d, ok := b.known[o.Device]; ok {
				d.stays = true
			}
			b.mu.Unlock()
			b.settleOrders(o)
		}
		return
	}
	b.mu.Lock()
	d, ok := b.known[o.Device]
	delete(b.known, o.Device)
	b.mu.Unlock()
	const gone = "the broker says that it is offline: its last will"
	if ok {
		d.session.Detach(gone)
		return
	}
	if _, connected := b.line.external.hub.Sessions.Online(o.Device); !connected {
		b.line.external.hub.Sessions.Note(o.Device, devices.Event{Kind: devices.EventClose, Reason: "last_will", Message: gone})
	}
}

// hasReported reports whether a state is what the device reported last by its maps, so that telemetry that bears it again
// and again is no write each.
func (b *bridgedDevices) hasReported(device string, patch []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ok := b.known[device]
	return ok && d.report == string(patch)
}

func (b *bridgedDevices) reported(device string, patch []byte) {
	const most = 4 << 10 // bytes that are kept
	b.mu.Lock()
	defer b.mu.Unlock()
	if d, ok := b.known[device]; ok && len(patch) <= most {
		d.report = string(patch)
	}
}

// mappings remember how devices were spoken to, also while there is no connection to the broker.
type mappings struct {
	mu       sync.Mutex
	byDevice map[string]*mapping
}

// mostMappings bounds them; the registry bounds its devices, some of which may be gone.
const mostMappings = 1_000_000

func (m *mappings) remember(device string, by *mapping) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.byDevice) >= mostMappings {
		clear(m.byDevice)
	}
	m.byDevice[device] = by
}

func (m *mappings) of(device string) *mapping {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byDevice[device]
}

// MappedCommands is what the maps of a bridge say of the commands of a device, and of one method.
type MappedCommands struct {
	Methods []string        // all of the device's
	Within  time.Duration   // that the method's outcome takes at most; 0: nothing says so
	Params  json.RawMessage // JSON Schema of the method's params; nil: any
}

// Commands says which commands a device has by the maps of this bridge. mapped is false of a device that was not heard of
// by a map.
func (e *External) Commands(device, method string) (of MappedCommands, mapped bool) {
	return commandsBy(e.maps, e.mapped.of(device), method)
}

func commandsBy(set *maps.Set, by *mapping, method string) (of MappedCommands, mapped bool) {
	if by == nil {
		return of, false
	}
	return MappedCommands{set.Methods(by.group, by.kind), set.Within(by.group, by.kind, method), set.Params(by.group, by.kind, method)}, true
}
