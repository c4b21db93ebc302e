package discovery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/wire"
)

// MaxIgnored is how many devices may be ignored.
const MaxIgnored = 10_000

// Errors of ignoring, for errors.Is.
var (
	ErrTooManyIgnored = fmt.Errorf("%d devices are ignored already; let some go", MaxIgnored)
	ErrNotIgnored     = errors.New("the device is not ignored")
)

// Ignored is a device that is kept off the list, and that no rule admits.
type Ignored struct {
	Device string    `json:"device"`
	By     string    `json:"by,omitempty"`
	At     time.Time `json:"at"`
}

// keyOf escapes a device id for NATS, whose keys take no colon and no dot at their ends. '=' is in no device id.
func keyOf(id string) string {
	return strings.NewReplacer(":", "=3A", ".", "=2E").Replace(id)
}

// followIgnored reads the bucket and follows it.
func (l *List) followIgnored(ctx context.Context) (err error) {
	if l.watcher, err = l.kv.WatchAll(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("read the ignored devices: %w", err)
	}
	for known := false; !known; {
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("read the ignored devices: %w", ctx.Err()), l.watcher.Stop())
		case e := <-l.watcher.Updates():
			if known = e == nil; !known {
				l.take(e)
			}
		}
	}
	go func() {
		defer close(l.watching)
		for e := range l.watcher.Updates() {
			if e != nil {
				l.take(e)
			}
		}
	}()
	return nil
}

// take applies one change of the bucket.
func (l *List) take(e jetstream.KeyValueEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Operation() != jetstream.KeyValuePut {
		delete(l.ignored, strings.NewReplacer("=3A", ":", "=2E", ".").Replace(e.Key()))
		return
	}
	var i Ignored
	if json.Unmarshal(e.Value(), &i) != nil || wire.CheckDeviceID(i.Device) != nil {
		return // not written by a hub
	}
	l.ignored[i.Device] = i
	if at, ok := l.byID[i.Device]; ok {
		l.drop(at)
	}
}

// Ignore keeps a device off the list from now on, whether or not it is on it. One that is in the registry is not
// concerned until it is deleted. Errors: ErrTooManyIgnored, *wire.Error for what is no device id.
func (l *List) Ignore(ctx context.Context, device, by string) (Ignored, error) {
	if err := wire.CheckDeviceID(device); err != nil {
		return Ignored{}, err
	}
	l.mu.Lock()
	was, already := l.ignored[device]
	full := len(l.ignored) >= MaxIgnored
	l.mu.Unlock()
	switch {
	case already:
		return was, nil
	case full:
		return Ignored{}, ErrTooManyIgnored
	}
	i := Ignored{Device: device, By: by, At: time.Now().UTC().Truncate(time.Millisecond)}
	value, err := json.Marshal(i)
	if err != nil {
		return i, fmt.Errorf("encode the ignored device %s: %w", device, err)
	}
	if _, err := l.kv.Put(ctx, keyOf(device), value); err != nil {
		return i, fmt.Errorf("ignore device %s: %w", device, err)
	}
	l.mu.Lock()
	l.ignored[device] = i // the watch brings it too
	l.mu.Unlock()
	l.forget(device)
	return i, nil
}

// Notice lets an ignored device be seen again. Errors: ErrNotIgnored.
func (l *List) Notice(ctx context.Context, device string) error {
	l.mu.Lock()
	_, is := l.ignored[device]
	l.mu.Unlock()
	if !is {
		return ErrNotIgnored
	}
	if err := l.kv.Delete(ctx, keyOf(device)); err != nil {
		return fmt.Errorf("notice device %s again: %w", device, err)
	}
	l.mu.Lock()
	delete(l.ignored, device)
	l.mu.Unlock()
	return nil
}

// Ignored returns the ignored devices, sorted.
func (l *List) Ignored() []Ignored {
	l.mu.Lock()
	all := make([]Ignored, 0, len(l.ignored))
	for _, i := range l.ignored {
		all = append(all, i)
	}
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b Ignored) int { return cmp.Compare(a.Device, b.Device) })
	return all
}
