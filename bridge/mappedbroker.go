package bridge

import (
	"errors"
	"fmt"
	"time"

	"telemetryhub/bridge/maps"
	"telemetryhub/wire"
)

// mapsTopic reports whether a topic is one that the broker's maps are for, or pass over as said.
func (b *Broker) mapsTopic(topic string) bool { return b.maps != nil && b.maps.Takes(topic) }

// takeMapped deals with a message of a device that speaks its own words at the embedded broker. Whose it is the map says,
// and that has to be the device that logged in. With later, its claim is settled by the journal.
func (b *Broker) takeMapped(c *client, s *scratch, m message, r *claim) (later bool, err error) {
	// The device is the other end: what it marks as retained is as new as any other message, and nothing is kept of it.
	outcomes, err := b.maps.Up(&s.maps, maps.Message{Topic: m.topic, Payload: m.payload})
	if err != nil {
		return false, mapRefusal(err)
	}
	for i := range outcomes {
		if o := &outcomes[i]; o.Device != c.device {
			return false, &refusal{reason: ReasonOtherDevice, code: codeNotAuthorized, message: fmt.Sprintf("by the map %s it is a message of %s, and the device is %s", o.Map, o.Device, c.device)}
		}
	}
	var reading *maps.Outcome
	for i := range outcomes {
		o := &outcomes[i]
		if r != nil {
			b.learnMapped(c, o)
		}
		switch o.What {
		case maps.State:
			err := b.reportMapped(c, o)
			if refused, ok := errors.AsType[*refusal](err); ok { // of the state alone
				b.metrics.refused.count(refused.reason)
				b.example(m, c.device, refused)
				b.hub.refused(c.device, refused)
			} else if err != nil {
				return false, err
			}
		case maps.Telemetry, maps.Event:
			reading = o // of one device there is one, for each makes elements of several
			if err := b.appendMapped(c, o, i == lastReading(outcomes), r); err != nil {
				return false, err
			}
		}
	}
	return reading != nil, nil
}

// lastReading returns the index of the last outcome that goes to the journal, -1 where none does.
func lastReading(outcomes []maps.Outcome) int {
	last := -1
	for i := range outcomes {
		if outcomes[i].Telemetry != nil {
			last = i
		}
	}
	return last
}

// learnMapped notes how the device is spoken to, and which commands a message settles.
func (b *Broker) learnMapped(c *client, o *maps.Outcome) {
	if c.session == nil {
		return
	}
	d, _ := b.hub.Registry.Get(c.device)
	b.speakMapped(c, &mapping{group: o.Group, vars: o.Vars, kind: d.Type, model: o.Model})
	c.link.orders.settle(c.session, o, time.Now(), b.log)
	if o.Telemetry != nil {
		c.session.LearnUnits(o.Telemetry.Units)
	}
}

// reportMapped reports a state and waits until that is durable, for the acknowledgement says so.
func (b *Broker) reportMapped(c *client, o *maps.Outcome) error {
	if c.reported == string(o.State) {
		return nil // it is known
	}
	patch := append([]byte(nil), o.State...)
	ended := make(chan error, 1)
	if err := b.hub.States.Report(c.device, patch, func(_ uint64, err error) { ended <- err }); err != nil {
		return journalRefusal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			c.reported = string(patch)
		}
		return journalRefusal(err)
	case <-b.commits.Done():
		return errClosing
	}
}

// appendMapped gives a reading to the journal. The last of a message is what its claim waits for: what was given before
// is durable by then, for commits come in order.
func (b *Broker) appendMapped(c *client, o *maps.Outcome, last bool, r *claim) error {
	var w wire.Waiter = &unheard{metrics: b.metrics, readings: len(o.Telemetry.Readings)}
	if last && r != nil {
		r.readings = len(o.Telemetry.Readings)
		w = &c.acks
	}
	_, err := b.hub.Sink.AppendWithin(b.commits, c.device, o.Telemetry, time.Now().UnixMilli(), w)
	return journalRefusal(err)
}

// speakMapped notes how the device is spoken to from now on, and says to its session which commands it has.
func (b *Broker) speakMapped(c *client, by *mapping) {
	old := c.link.by.Load()
	by.merge(old)
	c.link.by.Store(by)
	if by.same(old) {
		return
	}
	b.mapped.remember(c.device, by)
	if by.model != "" {
		c.session.Describe("", by.model)
	}
	c.session.Announce(announced(b.maps.Methods(by.group, by.kind)))
	c.session.Ready() // it may have subscribed in a session before; a command that finds it has not waits
}

// hears notes that the device has subscribed to a filter, and reports whether commands come to it by maps there.
func (b *Broker) hears(c *client, filter string) bool {
	if b.maps == nil {
		return false
	}
	group, ok := b.maps.Listens(c.device, c.link.by.Load().levels(), filter)
	if ok && c.session != nil {
		d, _ := b.hub.Registry.Get(c.device)
		c.hears = &mapping{group: group, vars: b.maps.LevelsOf(group, c.device), kind: d.Type}
	}
	return ok
}

// heard lets commands by maps come, once the device has its SUBACK.
func (b *Broker) heard(c *client) {
	if c.hears == nil || c.session == nil || c.unconfirmed != nil {
		return
	}
	by := c.hears
	if c.hears = nil; c.link.by.Load() == nil {
		b.speakMapped(c, by)
	}
}

// order sends a command by the device's maps: to topics that it has subscribed to, else it is told to nobody.
func (l *link) order(by *mapping, cmd wire.Command) error {
	made, err := l.client.broker.maps.Down(by.group, by.target(l.client.device), cmd)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.shutting || l.peer == nil {
		return errEnded
	}
	if len(l.queue)+len(made.Publications) > commandQueue {
		return errBusy
	}
	var all []publication
	var acknowledged int // those with a PUBACK, which the window is for
	maxPacket, window, _ := l.peer.limits()
	for _, p := range made.Publications {
		qos, identifiers, ok := l.peer.grantedTopic(p.Topic)
		if !ok {
			return fmt.Errorf("%w: %s", errNotSubscribed, p.Topic)
		}
		out := publication{topic: p.Topic, payload: p.Payload, identifiers: identifiers, qos: min(p.QoS, qos, 1)}
		if size := len(out.payload) + len(out.topic) + packetOverhead; maxPacket > 0 && size > maxPacket {
			return &wire.Error{
				Code: wire.CodeTooLarge, Reason: wire.ReasonTooLarge, Limit: int64(maxPacket), Value: int64(size),
				Message: fmt.Sprintf("the command needs up to %d bytes and the device takes %d", size, maxPacket),
			}
		}
		all = append(all, out)
		if out.qos > 0 {
			acknowledged++
		}
	}
	if acknowledged > 0 && len(l.inflight)+acknowledged > min(window, commandInflight) {
		return errInflight
	}
	l.orders.expect(made.Expect, time.Now())
	for _, out := range all {
		if out.qos > 0 {
			out.packetID = l.newID(cmd.ID)
		}
		l.add(out)
	}
	return nil
}

// Commands says which commands a device has by the broker's maps, as [External.Commands] does.
func (b *Broker) Commands(device, method string) (of MappedCommands, mapped bool) {
	return commandsBy(b.maps, b.mapped.of(device), method)
}

// compileMaps returns the broker's maps, nil where it has none.
func (c BrokerConfig) compileMaps() (*maps.Set, error) {
	if len(c.Maps) == 0 {
		return nil, nil //nolint:nilnil // there are none
	}
	set, err := maps.Compile(c.Maps)
	if err != nil {
		return nil, fmt.Errorf("maps: %w", err)
	}
	if name, all := set.Under(ownPrefix + "/#"); all {
		return nil, fmt.Errorf("maps: all topics of %s are below %s/, and those are between each device and the hub", name, ownPrefix)
	}
	var faults []error
	for _, d := range set.Prove(c.Maps) {
		faults = append(faults, d)
	}
	return set, errors.Join(faults...)
}
