package discovery

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/devices"
	"telemetryhub/feed"
	"telemetryhub/wire"
)

// DefaultDevices is how many devices the list holds.
const DefaultDevices = 1000

// Registry makes the devices; devices.Registry is one.
type Registry interface {
	Get(id string) (devices.Device, bool)
	List() []devices.Device
	Adopt(ctx context.Context, d devices.Device) (devices.Device, error)
}

// Config joins the list to the rest of the hub. All members but Devices and Rules are needed.
type Config struct {
	Devices int    // on the list; 0: DefaultDevices
	Rules   []Rule // the first that is for a device counts
	// Clear removes what may be left of a device that had this id, before the new one's first message.
	Clear func(ctx context.Context, device string)
	// Ready says why admissions cannot be recorded at present; nil: they can. Record is told of those by rule.
	Ready   func() error
	Record  func(d devices.Device)
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// List is the devices that were seen and are not admitted.
type List struct {
	kv       jetstream.KeyValue
	registry Registry
	cfg      Config
	watcher  jetstream.KeyWatcher
	watching chan struct{} // closed when the watch has ended
	feeds    feed.Feeds[Seen]
	counts   counts

	mu      sync.Mutex
	byID    map[string]*list.Element
	order   *list.List // of *Seen, the one heard of last first
	rules   []*rule
	paces   map[string]*pace // by bridge
	ignored map[string]Ignored
}

// Open reads from its bucket who is ignored and follows it until Close.
func Open(ctx context.Context, kv jetstream.KeyValue, registry Registry, cfg Config) (*List, error) {
	l := &List{
		kv: kv, registry: registry, cfg: cfg, watching: make(chan struct{}),
		byID: map[string]*list.Element{}, order: list.New(), paces: map[string]*pace{}, ignored: map[string]Ignored{},
	}
	l.cfg.Devices = cmp.Or(cfg.Devices, DefaultDevices)
	for _, r := range cfg.Rules {
		if err := r.Check(); err != nil {
			return nil, fmt.Errorf("rule of admission %s: %w", r.Name(), err)
		}
		l.rules = append(l.rules, &rule{Rule: r})
	}
	l.count(time.Now())
	if err := l.followIgnored(ctx); err != nil {
		return nil, err
	}
	if err := l.register(cfg.Metrics); err != nil {
		return nil, errors.Join(fmt.Errorf("discovered devices: metrics: %w", err), l.Close(ctx))
	}
	return l, nil
}

// Close stops following the bucket.
func (l *List) Close(context.Context) error {
	l.feeds.Close()
	err := l.watcher.Stop()
	<-l.watching
	return err
}

// Subscribe tells of each device that comes onto the list.
func (l *List) Subscribe(buffer int) *feed.Feed[Seen] { return l.feeds.Subscribe(buffer) }

// Seen notes that a device which is not in the registry was heard of, and reports whether it is there by now: a rule has
// admitted it, or somebody else. It is quick unless it admits one, which takes a write to disk.
func (l *List) Seen(s Sighting) (admitted bool) {
	if wire.CheckDeviceID(s.Device) != nil {
		l.counts.invalid.Add(1)
		return false
	}
	if _, known := l.registry.Get(s.Device); known {
		return true
	}
	l.counts.seen.Add(1)
	s = s.bounded()
	l.mu.Lock()
	if _, unwanted := l.ignored[s.Device]; unwanted {
		l.mu.Unlock()
		l.counts.ignored.Add(1)
		return false
	}
	e := l.keep(s)
	r, held := l.choose(e, time.Now())
	e.Held = held
	seen := *e
	l.mu.Unlock()
	if r != nil && l.admitByRule(r, seen) {
		return true
	}
	if seen.Count == 1 {
		l.feeds.Publish(seen)
	}
	return false
}

// keep puts a sighting on the list, and takes off what was not seen for the longest. It needs mu.
func (l *List) keep(s Sighting) *Seen {
	at, ok := l.byID[s.Device]
	if ok {
		l.order.MoveToFront(at)
	} else {
		at = l.order.PushFront(&Seen{})
		l.byID[s.Device] = at
		if l.order.Len() > l.cfg.Devices {
			l.drop(l.order.Back())
			l.counts.evicted.Add(1)
		}
	}
	e := seenAt(at)
	e.add(s)
	return e
}

// drop takes one off the list. It needs mu.
func (l *List) drop(at *list.Element) {
	delete(l.byID, seenAt(at).Device)
	l.order.Remove(at)
}

// seenAt is what an element of the order holds.
func seenAt(at *list.Element) *Seen {
	e, _ := at.Value.(*Seen) // nothing else is in it
	return e
}

// forget takes a device off the list, if it is there.
func (l *List) forget(device string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.byID[device]
	if ok {
		l.drop(at)
	}
	return ok
}

// All returns the list, sorted by device.
func (l *List) All() []Seen {
	l.mu.Lock()
	all := make([]Seen, 0, l.order.Len())
	for at := l.order.Front(); at != nil; at = at.Next() {
		all = append(all, *seenAt(at))
	}
	l.mu.Unlock()
	all = slices.DeleteFunc(all, l.isKnown)
	slices.SortFunc(all, func(a, b Seen) int { return cmp.Compare(a.Device, b.Device) })
	return all
}

// isKnown takes a device off the list that has come to the registry in another way.
func (l *List) isKnown(e Seen) bool {
	if _, known := l.registry.Get(e.Device); !known {
		return false
	}
	l.forget(e.Device)
	return true
}

// Get returns a device on the list.
func (l *List) Get(device string) (Seen, bool) {
	l.mu.Lock()
	at, ok := l.byID[device]
	var e Seen
	if ok {
		e = *seenAt(at)
	}
	l.mu.Unlock()
	return e, ok && !l.isKnown(e)
}

// Forget takes a device off the list until it is seen again. Errors: ErrNotSeen.
func (l *List) Forget(device string) error {
	if !l.forget(device) {
		return ErrNotSeen
	}
	return nil
}
