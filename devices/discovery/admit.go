package discovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"telemetryhub/devices"
)

// Errors of the list, for errors.Is.
var (
	ErrNotSeen = errors.New("no such device is on the list of those that were seen")
	ErrIgnored = errors.New("the device is ignored")
)

// Admission is what an operator says of a device that is let in. What is not said is as it was seen.
type Admission struct {
	Type       string
	Tags       []string
	Attributes map[string]string
	By         string
}

// Admit makes a device of one that was seen; its messages count from the next on. Errors: ErrNotSeen, ErrIgnored,
// devices.ErrExists, *devices.InvalidError.
func (l *List) Admit(ctx context.Context, device string, a Admission) (devices.Device, error) {
	l.mu.Lock()
	_, unwanted := l.ignored[device]
	l.mu.Unlock()
	if unwanted {
		return devices.Device{}, ErrIgnored
	}
	if _, known := l.registry.Get(device); known {
		return devices.Device{}, fmt.Errorf("device %s: %w", device, devices.ErrExists)
	}
	e, ok := l.Get(device)
	if !ok {
		return devices.Device{}, ErrNotSeen
	}
	d := e.device(a.Type, a.Tags)
	for name, value := range a.Attributes {
		if d.Attributes == nil {
			d.Attributes = map[string]string{}
		}
		d.Attributes[name] = value
	}
	d.Admitted.By = a.By
	d, err := l.registry.Adopt(ctx, d)
	if err != nil {
		return devices.Device{}, err
	}
	l.admitted(ctx, d)
	return d, nil
}

// admitted is what follows, whoever admitted it.
func (l *List) admitted(ctx context.Context, d devices.Device) {
	l.cfg.Clear(ctx, d.ID)
	l.forget(d.ID)
	l.cfg.Log.Info("device admitted", "device", d.ID, "bridge", d.Admitted.Bridge, "rule", d.Admitted.Rule, "operator", d.Admitted.By)
}

// device is what the registry is to be given.
func (e *Seen) device(kind string, tags []string) devices.Device {
	d := devices.Device{
		ID: e.Device, Type: kind, Tags: tags,
		Admitted: &devices.Admitted{Bridge: e.Bridge, At: time.Now().UTC().Truncate(time.Millisecond), Model: e.Model, Firmware: e.Firmware},
	}
	if kind == "" {
		d.Type = e.Type
	}
	if e.Name != "" {
		d.Attributes = map[string]string{"name": e.Name}
	}
	return d
}

// recount is how often, while strangers come, the rules are compared with the registry: devices may be gone from it, and
// other hubs admit by the same rules.
const recount = 10 * time.Second

// count compares what the rules have with the registry. It needs mu, unless nobody else has the list yet.
func (l *List) count(now time.Time) {
	if len(l.rules) == 0 {
		return
	}
	has := map[string]int{}
	for _, d := range l.registry.List() {
		if d.Admitted != nil && d.Admitted.Rule != "" {
			has[d.Admitted.Rule]++
		}
	}
	for _, r := range l.rules {
		r.has, r.counted = has[r.Name()]+r.pending, now
	}
}

// choose returns the rule that is to admit a device now, and has counted it, or why the one that is for it does not. It needs mu.
func (l *List) choose(e *Seen, now time.Time) (r *rule, held string) {
	for _, r := range l.rules {
		if !r.takes(&e.Sighting) {
			continue
		}
		if now.Sub(r.counted) >= recount {
			l.count(now)
		}
		if r.has >= r.max() {
			l.counts.full.Add(1)
			return nil, fmt.Sprintf("the rule %s has all of its %d devices", r.Name(), r.max())
		}
		if err := l.cfg.Ready(); err != nil {
			l.counts.failed.Add(1)
			return nil, "admissions cannot be recorded: " + err.Error()
		}
		p, ok := l.paces[e.Bridge]
		if !ok {
			p = &pace{until: now}
			l.paces[e.Bridge] = p
		}
		if !p.may(now) {
			l.counts.postponed.Add(1)
			return nil, "many were admitted just now; a later message admits it"
		}
		r.has++
		r.pending++
		return r, ""
	}
	return nil, ""
}

// admitTimeout bounds how long a bridge's messages wait for one admission.
const admitTimeout = 2 * time.Second

// admitByRule makes the device and reports whether it is in the registry.
func (l *List) admitByRule(r *rule, e Seen) bool {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), admitTimeout)
	defer cancel()
	d := e.device(r.Type, r.Tags)
	d.Admitted.Rule = r.Name()
	d, err := l.registry.Adopt(ctx, d)
	if err == nil {
		l.admitted(ctx, d)
		l.cfg.Record(d)
		l.counts.admitted.Add(1)
	}
	now := time.Now()
	l.mu.Lock()
	r.pending--
	if err != nil {
		r.has--
	}
	l.paces[e.Bridge].took(now.Sub(began), now)
	if at, ok := l.byID[e.Device]; ok && err != nil {
		seenAt(at).Held = "it could not be admitted: " + err.Error()
	}
	l.mu.Unlock()
	if err == nil || errors.Is(err, devices.ErrExists) {
		l.forget(e.Device)
		return true
	}
	l.counts.failed.Add(1)
	l.cfg.Log.Warn("a device was not admitted", "device", e.Device, "bridge", e.Bridge, "rule", r.Name(), "err", err)
	return false
}
