package bridge

import (
	"cmp"
	"encoding/json"
	"fmt"
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

// AnyMethod stands among the methods of a device that takes any.
const AnyMethod = maps.AnyMethod

// desiredMethod is the command that a map makes of the desired state, with what differs from the reported one as params.
const desiredMethod = "desired"

// Send implements devices.Link. The hub is not told whether the device has subscribed at the broker.
func (d *bridgedDevice) Send(cmd wire.Command) error {
	if by := d.mappedBy(); by != nil {
		return d.order(by, cmd)
	}
	out := publication{payload: wire.AppendCommand(nil, cmd), sending: d.sending(cmd, nil)}
	if cmd.AtLeastOnce {
		out.qos = 1
	}
	return d.queue(out, d.publish)
}

// sending is a command on its way to the broker.
func (d *bridgedDevice) sending(cmd wire.Command, e *maps.Expectation) *sending {
	return &sending{book: &d.orders, command: cmd.ID, expires: cmd.Expires, expect: e}
}

// queue has a command sent, and notes before that it waits, for the line's sender asks for it.
func (d *bridgedDevice) queue(out publication, send func(publication) error) error {
	d.orders.queue(out.sending)
	err := send(out)
	if err != nil {
		d.orders.unqueue(out.sending)
	}
	return err
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
	out := chain(made.Publications)
	out.sending = d.sending(cmd, made.Expect)
	if err := d.queue(out, l.send); err != nil {
		return fmt.Errorf("send by bridge %q: %w", l.external.cfg.Name, err)
	}
	return nil
}

func (m *mapping) target(device string) maps.Target {
	return maps.Target{Device: device, Type: m.kind, Vars: m.vars}
}

// Ended lets a command go that has its outcome.
func (d *bridgedDevice) Ended(command string) { d.orders.ended(command) }

// settleOrders tells of the commands of a device whose outcome a message is that was received at a time.
func (b *bridgedDevices) settleOrders(o *maps.Outcome, heard time.Time) {
	b.mu.Lock()
	d, ok := b.known[o.Device]
	b.mu.Unlock()
	if ok {
		d.orders.settle(d.session, o, heard, b.line.external.log)
	}
}

// learn notes how a device is spoken to.
func (d *bridgedDevice) learn(by *mapping) {
	b := d.owner
	b.mu.Lock()
	old := d.by
	if by != nil {
		by.merge(old)
	}
	d.by = by
	b.mu.Unlock()
	if by != nil && !by.same(old) {
		d.introduce(by)
	}
}

// introduce says to a device's session which commands it has, where it is spoken to by maps.
func (d *bridgedDevice) introduce(by *mapping) {
	if by == nil {
		return
	}
	e := d.owner.line.external
	e.mapped.remember(d.id, by)
	if by.model != "" {
		d.session.Describe("", by.model)
	}
	d.session.Announce(announced(e.maps.Methods(by.group, by.kind)))
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
func (b *bridgedDevices) present(o *maps.Outcome, of *devices.Device, heard time.Time) {
	if o.Online {
		if b.seenBy(o.Device, &mapping{group: o.Group, vars: o.Vars, model: o.Model, kind: of.Type}) != nil {
			b.mu.Lock()
			if d, ok := b.known[o.Device]; ok {
				d.stays = true
			}
			b.mu.Unlock()
			b.settleOrders(o, heard)
		}
		return
	}
	b.mu.Lock()
	d, ok := b.known[o.Device]
	delete(b.known, o.Device)
	b.mu.Unlock()
	const gone = "the broker says that it is offline: its last will"
	if ok {
		d.orders.leave()
		d.session.Detach(gone)
		return
	}
	if _, connected := b.line.external.hub.Sessions.Online(o.Device); !connected {
		b.line.external.hub.Sessions.Note(o.Device, devices.Event{Kind: devices.EventClose, Reason: "last_will", Message: gone})
	}
}

// giving notes that a device reports a state by its maps, and returns the number of that report; known says that it is
// what the device reported last and durable, so that telemetry that bears it again and again is no write each. While a
// report is being written nothing is known: the state may change back before.
func (b *bridgedDevices) giving(device string, patch []byte) (n uint64, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ok := b.known[device]
	if !ok {
		return 0, false
	}
	if d.report == string(patch) {
		return 0, true
	}
	b.given++
	d.given, d.report = b.given, ""
	return d.given, false
}

// reported notes that a report is durable, which says nothing any more if another was given since.
func (b *bridgedDevices) reported(device string, patch []byte, n uint64) {
	const most = 4 << 10 // bytes that are kept
	b.mu.Lock()
	defer b.mu.Unlock()
	if d, ok := b.known[device]; ok && n != 0 && d.given == n && len(patch) <= most {
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
