package enrolment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/auth"
	"telemetryhub/devices"
)

// lane is one key and the way of its changes: those that come while it is written go together into the next write.
type lane struct {
	keys *Keys
	id   string
	hash auth.Hash

	mu       sync.Mutex
	key      Key
	revision uint64 // of the bucket; 0: not yet written
	gone     bool   // removed
	waiting  []*change
	writing  bool
	refused  map[string]uint64 // by reason
	rate     refusalRate
}

// change is one that waits to be written.
type change struct {
	apply func(*Key) error
	done  chan error // gets one element
}

// writeTries bounds how often a write is made again because another hub came first; writeTime bounds each.
const (
	writeTries = 8
	writeTime  = 5 * time.Second
)

var errGone = errors.New("the enrolment key was removed")

// read returns the key as it is; its lists are not changed.
func (l *lane) read() (Key, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.key, !l.gone
}

// change applies a change to the key and returns when it is durable, or refused by apply, which may be called again and
// by another goroutine. When ctx ends first it may still be made.
func (l *lane) change(ctx context.Context, apply func(*Key) error) error {
	c := &change{apply: apply, done: make(chan error, 1)}
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return errGone
	}
	l.waiting = append(l.waiting, c)
	if !l.writing {
		l.writing = true
		l.keys.writers.Go(l.drain)
	}
	l.mu.Unlock()
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("change enrolment key: %w", ctx.Err())
	}
}

// drain writes until nothing waits.
func (l *lane) drain() {
	for {
		l.mu.Lock()
		all := l.waiting
		l.waiting = nil
		if len(all) == 0 {
			l.writing = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		errs := make([]error, len(all))
		if err := l.write(all, errs); err != nil {
			for i := range errs {
				if errs[i] == nil {
					errs[i] = err
				}
			}
		}
		for i, c := range all {
			c.done <- errs[i]
		}
	}
}

// write applies all changes to the record and writes it once; errs gets what each was refused with. Its own error is of
// those that were not.
func (l *lane) write(all []*change, errs []error) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	for range writeTries {
		l.mu.Lock()
		next, revision, gone := l.key, l.revision, l.gone
		l.mu.Unlock()
		if gone {
			return errGone
		}
		changed := next.settle(l.keys.registry, time.Now())
		for i, c := range all {
			trial := next // its claims are ours since settle, and no apply that fails has touched them
			if errs[i] = c.apply(&trial); errs[i] == nil {
				next, changed = trial, true
			}
		}
		if !changed {
			return nil
		}
		err := l.put(ctx, next, revision)
		if !errors.Is(err, jetstream.ErrKeyExists) { // the bucket's word for "not at that revision"
			return err
		}
		if err := l.refresh(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("enrolment key %s was changed by others %d times meanwhile", l.id, writeTries)
}

// put writes the record where the bucket has it at revision (0: not at all).
func (l *lane) put(ctx context.Context, k Key, revision uint64) error {
	value, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode enrolment key %s: %w", k.ID, err)
	}
	if revision == 0 {
		revision, err = l.keys.kv.Create(ctx, k.ID, value)
	} else {
		revision, err = l.keys.kv.Update(ctx, k.ID, value, revision)
	}
	if err != nil {
		return fmt.Errorf("write enrolment key %s: %w", k.ID, err)
	}
	l.keep(k, revision)
	return nil
}

// keep takes what the bucket has, unless something newer is known.
func (l *lane) keep(k Key, revision uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if revision > l.revision {
		l.key, l.revision = k, revision
	}
}

func (l *lane) refresh(ctx context.Context) error {
	e, err := l.keys.kv.Get(ctx, l.id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("read enrolment key %s: %w", l.id, err)
	}
	l.keys.take(e)
	return nil
}

// view is the key for operators: what nobody will make any more is not counted.
func (l *lane) view(registry Registry) View {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := View{Key: l.key, Refused: map[string]uint64{}}
	v.settle(registry, time.Now())
	v.Left = max(0, v.Limit-v.Used)
	maps.Copy(v.Refused, l.refused)
	return v
}

// count notes a refusal, and reports whether it may be told as what it is.
func (l *lane) count(e *devices.EnrolError) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused[e.Reason]++
	return l.rate.allow(time.Now())
}
