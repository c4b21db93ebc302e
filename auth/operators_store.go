package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Keys of the bucket. A name cannot hold a dot, so that each operator is one key under the prefix.
const (
	operatorKeyPrefix = "operator."
	cookieKeyName     = "cookie-key"
	lastUsedKey       = "last-used"
)

// operatorRecord is an operator as the bucket keeps it. It is not changed once it is in the mirror.
type operatorRecord struct {
	Name     string        `json:"name"`
	Role     Role          `json:"role"`
	Scope    *Scope        `json:"scope,omitempty"` // nil: all devices
	Disabled bool          `json:"disabled,omitempty"`
	Token    Hash          `json:"token,omitzero"` // the one token of records from before there were several
	Tokens   []tokenRecord `json:"tokens,omitempty"`
	Created  time.Time     `json:"created"`
}

// tokenRecord is one of an operator's tokens.
type tokenRecord struct {
	Name    string    `json:"name"`
	Hash    Hash      `json:"hash"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

func (t tokenRecord) expired(now time.Time) bool {
	return !t.Expires.IsZero() && !now.Before(t.Expires)
}

func (r operatorRecord) has(token Hash) bool {
	return slices.ContainsFunc(r.Tokens, func(t tokenRecord) bool { return t.Hash == token })
}

func (r operatorRecord) scope() Scope {
	if r.Scope == nil {
		return Scope{}
	}
	return *r.Scope
}

// administers reports whether the operator can mend everything, and will be able to.
func (r operatorRecord) administers() bool {
	if r.Disabled || r.Role != RoleAdmin || !r.scope().All() {
		return false
	}
	return slices.ContainsFunc(r.Tokens, func(t tokenRecord) bool { return t.Expires.IsZero() })
}

// readOperator decodes a value of the bucket, also one from before there were several tokens.
func readOperator(value []byte) (operatorRecord, error) {
	var r operatorRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return r, err
	}
	if r.Name == "" || r.Scope != nil && r.Scope.All() {
		return r, errors.New("it is not an operator") // a scope without tags would be all devices
	}
	if !r.Token.IsZero() {
		r.Tokens = append(r.Tokens, tokenRecord{Name: DefaultToken, Hash: r.Token, Created: r.Created})
		r.Token = Hash{}
	}
	return r, nil
}

// follow reads the bucket, and goes on reading what changes in it.
func (o *Operators) follow(ctx context.Context) (err error) {
	if o.watcher, err = o.kv.WatchAll(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), o.watcher.Stop())
		case e := <-o.watcher.Updates():
			if e == nil && ctx.Err() == nil {
				go o.watch()
				return nil
			}
			if e == nil {
				continue
			}
			if err := o.take(e); err != nil {
				return errors.Join(err, o.watcher.Stop())
			}
		}
	}
}

func (o *Operators) watch() {
	defer close(o.done)
	for e := range o.watcher.Updates() {
		if e != nil && o.take(e) != nil {
			o.forget(strings.TrimPrefix(e.Key(), operatorKeyPrefix), e.Revision()) // what cannot be read lets nobody in
		}
	}
}

// Close stops following the bucket.
func (o *Operators) Close() error {
	err := o.watcher.Stop()
	<-o.done
	return err
}

// take applies one change of the bucket to the mirror.
func (o *Operators) take(e jetstream.KeyValueEntry) error {
	name, isOperator := strings.CutPrefix(e.Key(), operatorKeyPrefix)
	switch {
	case e.Key() == lastUsedKey && e.Operation() == jetstream.KeyValuePut:
		o.learnUses(e.Value())
	case !isOperator:
	case e.Operation() != jetstream.KeyValuePut:
		o.forget(name, e.Revision())
	default:
		record, err := readOperator(e.Value())
		if err != nil {
			return fmt.Errorf("read %s: %w", e.Key(), err)
		}
		o.keep(record, e.Revision())
	}
	return nil
}

// refresh reads one operator anew.
func (o *Operators) refresh(ctx context.Context, name string) error {
	e, err := o.kv.Get(ctx, operatorKeyPrefix+name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return ErrOperatorNotFound
	}
	if err != nil {
		return fmt.Errorf("read operator %q: %w", name, err)
	}
	return o.take(e)
}

// put stores a record where the bucket has it at revision (0: not at all), and then in memory. ErrOperatorExists says
// that the bucket has another one by now.
func (o *Operators) put(ctx context.Context, record operatorRecord, revision uint64) error {
	value, err := json.Marshal(record)
	if err != nil {
		return err
	}
	key := operatorKeyPrefix + record.Name
	if revision == 0 {
		revision, err = o.kv.Create(ctx, key, value)
	} else {
		revision, err = o.kv.Update(ctx, key, value, revision)
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return ErrOperatorExists
	}
	if err != nil {
		return fmt.Errorf("store operator %q: %w", record.Name, err)
	}
	o.keep(record, revision)
	return nil
}

// keep puts a record into the mirror, unless what is there is newer.
func (o *Operators) keep(record operatorRecord, revision uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	old, ok := o.byName[record.Name]
	if ok && old.revision >= revision || o.deleted[record.Name] >= revision {
		return
	}
	for _, t := range record.Tokens {
		c := &credential{operator: record.Name, token: t}
		if before := o.byHash[t.Hash]; before != nil {
			c.used.Store(before.used.Load())
		} else if used := o.uses[useKey(record.Name, t.Name)]; used >= t.Created.UnixMilli() {
			c.used.Store(used)
		}
		o.byHash[t.Hash] = c
	}
	for _, t := range old.record.Tokens {
		if !record.has(t.Hash) {
			delete(o.byHash, t.Hash)
		}
	}
	o.byName[record.Name] = operatorEntry{record: record, revision: revision}
	o.tell()
}

// forget takes an operator out of the mirror, unless what is there is newer.
func (o *Operators) forget(name string, revision uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	old, ok := o.byName[name]
	if !ok || old.revision >= revision {
		return
	}
	o.drop(old.record)
}

// drop needs mu.
func (o *Operators) drop(record operatorRecord) {
	for _, t := range record.Tokens {
		delete(o.byHash, t.Hash)
	}
	delete(o.byName, record.Name)
	o.tell()
}

// tell wakes those who wait for a change. It needs mu.
func (o *Operators) tell() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// Last uses are written together, so that no request costs a write.
const lastUsedEvery = time.Minute

func useKey(operator, token string) string { return operator + "/" + token }

// learnUses takes in what the bucket says of the tokens' last uses, on this hub and others.
func (o *Operators) learnUses(value []byte) {
	var uses map[string]int64
	if json.Unmarshal(value, &uses) != nil {
		return // it is not worth a refusal
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, used := range uses {
		o.uses[key] = max(o.uses[key], used)
	}
	for _, c := range o.byHash {
		if used := o.uses[useKey(c.operator, c.token.Name)]; used >= c.token.Created.UnixMilli() {
			raise(&c.used, used)
		}
	}
}

func raise(to *atomic.Int64, value int64) {
	for have := to.Load(); have < value; have = to.Load() {
		if to.CompareAndSwap(have, value) {
			return
		}
	}
}

// KeepUses writes when tokens were used last, now and then until ctx ends, and a last time then. What could not be
// written is written the next time.
func (o *Operators) KeepUses(ctx context.Context) {
	tick := time.NewTicker(lastUsedEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			o.writeUses(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			o.writeUses(last)
			cancel()
			return
		}
	}
}

func (o *Operators) writeUses(ctx context.Context) {
	found, news := map[string]int64{}, false
	o.mu.RLock()
	for _, c := range o.byHash {
		if used := c.used.Load(); used > 0 {
			key := useKey(c.operator, c.token.Name)
			found[key] = used
			news = news || used > o.uses[key]
		}
	}
	o.mu.RUnlock()
	if !news {
		return
	}
	value, err := json.Marshal(found)
	if err == nil {
		_, err = o.kv.Put(ctx, lastUsedKey, value)
	}
	if err == nil {
		o.mu.Lock()
		o.uses = found
		o.mu.Unlock()
	}
}
