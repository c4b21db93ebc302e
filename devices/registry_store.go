package devices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/auth"
)

// keyOf escapes a device id for NATS, whose keys take no colon and no dot at their ends. '=' is in no device id.
func keyOf(id string) string {
	return strings.NewReplacer(":", "=3A", ".", "=2E").Replace(id)
}

// OpenRegistry reads the registry from its bucket and follows it until Close.
func OpenRegistry(ctx context.Context, kv jetstream.KeyValue, tokens TokenConfig) (*Registry, error) {
	r := &Registry{
		kv: kv, tokens: tokens, done: make(chan struct{}), byID: map[string]entry{}, byToken: map[auth.Hash]string{},
		deleted: map[string]uint64{}, graves: map[string]uint64{}, plans: map[string]time.Time{}, writing: map[string]int{},
	}
	var err error
	if r.watcher, err = kv.WatchAll(context.WithoutCancel(ctx)); err != nil {
		return nil, fmt.Errorf("read the registry: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("read the registry: %w", ctx.Err()), r.watcher.Stop())
		case e := <-r.watcher.Updates():
			if e != nil {
				r.take(e)
				continue
			}
		}
		break
	}
	go func() {
		defer close(r.done)
		for e := range r.watcher.Updates() {
			if e != nil {
				r.take(e)
			}
		}
	}()
	return r, nil
}

// Close stops following the bucket.
func (r *Registry) Close() error {
	err := r.watcher.Stop()
	<-r.done
	return err
}

// take applies one change of the bucket to the mirror.
func (r *Registry) take(e jetstream.KeyValueEntry) {
	if isPlan(e.Key()) {
		r.takePlan(e)
		return
	}
	if e.Operation() != jetstream.KeyValuePut {
		id := strings.NewReplacer("=3A", ":", "=2E", ".").Replace(e.Key())
		if r.forget(id, e.Revision()) {
			r.tellOthers(id)
		}
		return
	}
	var d Device
	if json.Unmarshal(e.Value(), &d) != nil || d.ID == "" {
		return // not written by a hub
	}
	if r.keep(d, e.Revision()) {
		r.tellOthers(d.ID)
	}
}

// UnmarshalJSON reads a record, also of a hub that knew of one token a device: {"token": HASH} instead of tokens.
func (d *Device) UnmarshalJSON(data []byte) error {
	type record Device
	old := struct {
		*record
		Token auth.Hash `json:"token"`
	}{record: (*record)(d)}
	if err := json.Unmarshal(data, &old); err != nil {
		return err
	}
	if len(d.Tokens) == 0 && !old.Token.IsZero() {
		d.Tokens = []Token{newToken(old.Token, d.Created, time.Time{})}
	}
	return nil
}

// follow names who is told of each device that was written or deleted, by this hub or another, after the mirror has it
// and without a lock of the mirror held. It comes before any device is let in.
func (r *Registry) follow(told func(ctx context.Context, device string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.follower = told
}

func (r *Registry) tell(ctx context.Context, device string) {
	r.mu.RLock()
	told := r.follower
	r.mu.RUnlock()
	if told != nil {
		told(ctx, device)
	}
}

// tellOthers tells of a change that the watch brought, unless it is about a device that is being written here: its writer
// tells of it, and knows on whose behalf.
func (r *Registry) tellOthers(device string) {
	r.mu.RLock()
	ours := r.writing[device] > 0
	r.mu.RUnlock()
	if !ours {
		r.tell(context.Background(), device)
	}
}

// change marks that this hub writes the device, until the function that it returns is called, which tells of it.
func (r *Registry) change(ctx context.Context, device string) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writing[device]++
	return func() {
		r.mu.Lock()
		if r.writing[device]--; r.writing[device] == 0 {
			delete(r.writing, device)
		}
		r.mu.Unlock()
		r.tell(ctx, device)
	}
}

func (r *Registry) takePlan(e jetstream.KeyValueEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Operation() == jetstream.KeyValuePut {
		r.plans[e.Key()] = e.Created()
	} else {
		delete(r.plans, e.Key())
	}
}

// keep puts a record into the mirror unless that has a newer one.
func (r *Registry) keep(d Device, revision uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, ok := r.byID[d.ID]
	if ok && old.revision >= revision || r.deleted[d.ID] >= revision || r.graves[d.ID] >= revision {
		return false
	}
	delete(r.graves, d.ID)
	r.dropTokens(old.device)
	r.byID[d.ID] = entry{device: d, revision: revision}
	r.changes.Add(1)
	for _, t := range d.Tokens {
		r.byToken[t.Hash] = d.ID
	}
	if len(d.Certificates) > 0 {
		r.certified++
	}
	return true
}

// dropTokens takes a record's credentials out of what is found by them. It needs mu.
func (r *Registry) dropTokens(d Device) {
	if len(d.Certificates) > 0 {
		r.certified--
	}
	for _, t := range d.Tokens {
		delete(r.byToken, t.Hash)
	}
}

// forget takes a device that was deleted at that revision out of the mirror, if it is there.
func (r *Registry) forget(id string, revision uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deleted[id] < revision {
		delete(r.deleted, id)
	}
	if r.byID[id].revision < revision {
		r.graves[id] = max(r.graves[id], revision)
	}
	old, ok := r.byID[id]
	if !ok || old.revision >= revision {
		return false
	}
	delete(r.byID, id)
	r.changes.Add(1)
	r.dropTokens(old.device)
	return true
}

// put writes d where the bucket has it at revision (0: not at all).
func (r *Registry) put(ctx context.Context, d Device, revision uint64) error {
	value, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode device %s: %w", d.ID, err)
	}
	done := r.change(ctx, d.ID)
	defer done()
	r.changing.RLock()
	defer r.changing.RUnlock()
	if revision == 0 {
		revision, err = r.kv.Create(ctx, keyOf(d.ID), value)
	} else {
		revision, err = r.kv.Update(ctx, keyOf(d.ID), value, revision)
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("device %s: %w", d.ID, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("write device %s: %w", d.ID, err)
	}
	r.keep(d, revision)
	return nil
}

// A change is made again when another came first, at most updateTries times. Each time another has succeeded, so that
// those who change a device at once, be it on several hubs, all come through unless they are very many.
const (
	updateTries = 50
	updatePause = 128 * time.Millisecond // at most, before it is made again
)

func (r *Registry) update(ctx context.Context, id string, change func(*Device) error) (Device, error) {
	for try := range updateTries {
		r.mu.RLock()
		e, ok := r.byID[id]
		r.mu.RUnlock()
		if !ok {
			return Device{}, fmt.Errorf("device %s: %w", id, ErrNotFound)
		}
		d := e.device
		d.Tags, d.Attributes, d.Limits, d.Tokens = slices.Clone(d.Tags), maps.Clone(d.Attributes), maps.Clone(d.Limits), slices.Clone(d.Tokens)
		if err := change(&d); err != nil {
			return Device{}, err
		}
		err := r.put(ctx, d, e.revision)
		if err == nil {
			return d, nil
		}
		if !errors.Is(err, ErrExists) { // the bucket's word for "not at that revision"
			return Device{}, err
		}
		select { // with jitter, so that two that change it at once do not do so again and again
		case <-time.After(rand.N(min(time.Millisecond<<min(try, 10), updatePause))):
		case <-ctx.Done():
			return Device{}, fmt.Errorf("change device %s: %w", id, ctx.Err())
		}
		if err := r.refresh(ctx, id); err != nil {
			return Device{}, err
		}
	}
	return Device{}, fmt.Errorf("device %s was changed by others %d times meanwhile", id, updateTries)
}

func (r *Registry) refresh(ctx context.Context, id string) error {
	e, err := r.kv.Get(ctx, keyOf(id))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("device %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("read device %s: %w", id, err)
	}
	r.take(e)
	return nil
}

// Delete removes a device. Errors: ErrNotFound.
func (r *Registry) Delete(ctx context.Context, id string) error {
	done := r.change(ctx, id)
	defer done()
	r.changing.RLock()
	defer r.changing.RUnlock()
	r.mu.RLock()
	e, ok := r.byID[id]
	r.mu.RUnlock()
	if !ok {
		return fmt.Errorf("device %s: %w", id, ErrNotFound)
	}
	if err := r.kv.Delete(ctx, keyOf(id)); err != nil {
		return fmt.Errorf("delete device %s: %w", id, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID[id].revision == e.revision {
		delete(r.byID, id)
		r.changes.Add(1)
		r.dropTokens(e.device)
		r.deleted[id] = e.revision // the watch may have yet to bring it
	}
	return nil
}
