package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"telemetryhub/wire"
)

// An operator's change of a field's type is an entry of the journal: it holds for the readings of the envelopes behind
// its own, whoever reads them and how often. A store of InfluxDB's kind keeps a field's type for each of its shards (a
// week, or a year) and rejects values of another one, so values of the new type go to another name where the store holds
// the old one's: "temp" becomes "temp_float". Both can be read, and a replay into an empty store makes the same points.

// typeChange is the type of a field from a place of the journal on.
type typeChange struct {
	Type  FieldType `json:"type"`
	As    string    `json:"as,omitempty"` // the name that values are stored by; empty: the field's own
	After uint64    `json:"after"`        // the envelope of the journal that it stands in
	By    string    `json:"by,omitempty"`
	At    time.Time `json:"at,omitzero"`
}

// mostChanges bounds what is remembered of one field. A replay of readings from before the oldest takes that one's type.
const mostChanges = 16

// at returns the type of a field for readings in the journal's envelope at, "" for none, and the name that its values are
// stored by, "" for its own.
func (m *measurementTypes) at(field []byte, at uint64) (t FieldType, as string) {
	changes := m.Changes[string(field)]
	for i, c := range slices.Backward(changes) {
		if i == 0 || c.After < at {
			return c.Type, c.As
		}
	}
	return m.Fields[string(field)], ""
}

// rename gives the fields of r the names that they are stored by. Where two would have the same it returns that name,
// and does nothing.
func (m *measurementTypes) rename(r *wire.Reading, at uint64) (twice string) {
	names := make([][]byte, len(r.Fields))
	seen := make(map[string]bool, len(r.Fields))
	for i := range r.Fields {
		names[i] = r.Fields[i].Name
		if _, as := m.at(names[i], at); as != "" {
			names[i] = []byte(as)
		}
		if seen[string(names[i])] {
			return string(names[i])
		}
		seen[string(names[i])] = true
	}
	for i := range names {
		r.Fields[i].Name = names[i]
	}
	return ""
}

// TypeChange asks for another type of a field.
type TypeChange struct {
	Measurement, Field string
	Type               FieldType
	As                 string // the name that values are stored by; empty: the field's own, or one with the type behind it where the store holds another type
	By                 string // the operator
}

// retypeEntry is a change as the journal has it.
type retypeEntry struct {
	id                               uint64
	measurement, field, kind, as, by []byte
}

func appendRetype(dst []byte, id uint64, c *TypeChange, received int64) []byte {
	from := len(dst)
	dst = openEntry(dst, entryRetype)
	dst = appendText(dst, "")
	dst = binary.AppendUvarint(dst, 0)
	dst = binary.AppendUvarint(dst, id)
	dst = binary.AppendVarint(dst, received)
	for _, text := range []string{c.Measurement, c.Field, string(c.Type), c.As, c.By} {
		dst = appendText(dst, text)
	}
	closeEntry(dst, from)
	return dst
}

// retyping reads what appendRetype wrote after device and prior.
func (e *entry) retyping(s *source) {
	e.retype = &retypeEntry{id: s.uvarint()}
	e.received = s.varint()
	e.retype.measurement, e.retype.field, e.retype.kind = s.text(), s.text(), s.text()
	e.retype.as, e.retype.by = s.text(), s.text()
}

// retyping is the changes of types that operators wait for.
type retyping struct {
	one chan struct{} // who has put its element in appends

	mu      sync.Mutex
	waiting map[uint64]chan error
}

func newRetyping() *retyping {
	return &retyping{one: make(chan struct{}, 1), waiting: map[uint64]chan error{}}
}

func (r *retyping) wait(id uint64) chan error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := make(chan error, 1)
	r.waiting[id] = c
	return c
}

// end tells who waits for a change what came of it.
func (r *retyping) end(id uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.waiting[id]; c != nil {
		delete(r.waiting, id)
		c <- err
	}
}

// Reasons why a change of a type cannot be.
var (
	ErrFieldTaken = errors.New("the name is that of another field")
	ErrNoRoom     = errors.New("there is no room for one more field")
	ErrStoreBusy  = errors.New("it is not known which types the store holds")
)

// TypeState is how far a change of a type is.
type TypeState string

// The states. What is queued is durable, and goes on.
const (
	TypeApplied   TypeState = "applied"
	TypeQueued    TypeState = "queued"
	TypeUnchanged TypeState = "unchanged"
)

// TypeSet is what a change of a type came to.
type TypeSet struct {
	State TypeState
	Field FieldInfo
	Held  FieldType // another type that the store holds the field's own name as; empty: none, or it does not say
}

// SetType changes the type of a field for all readings that become durable after it. It returns once the writer has come
// to it, or with TypeQueued when ctx ends before that. Errors are ErrFieldTaken, ErrNoRoom, ErrStoreBusy (naming As avoids
// it), ErrStopped and those of ctx.
func (in *Ingest) SetType(ctx context.Context, c TypeChange) (TypeSet, error) {
	select {
	case in.writer.retyping.one <- struct{}{}:
		defer func() { <-in.writer.retyping.one }()
	case <-ctx.Done():
		return TypeSet{}, ctx.Err()
	}
	had, err := in.writer.types.look(ctx, c.Measurement)
	if err != nil {
		return TypeSet{}, err
	}
	held, err := in.held(ctx, had, &c)
	if err != nil && c.As == "" {
		return TypeSet{}, err
	}
	if err := c.chooseName(had, held); err != nil {
		return TypeSet{}, err
	}
	set := TypeSet{State: TypeUnchanged, Field: had.info(c.Field)}
	if t := held[c.Field]; t != c.Type {
		set.Held = t
	}
	if t, as := had.newest(c.Field); t == c.Type && as == c.As {
		return set, nil
	}
	applied, err := in.retype(ctx, &c)
	switch {
	case err != nil:
		return TypeSet{}, err
	case !applied:
		set.State = TypeQueued
		set.Field.Type, set.Field.StoredAs = c.Type, c.storedAs()
		return set, nil
	}
	if had, err = in.writer.types.look(ctx, c.Measurement); err != nil {
		return TypeSet{}, err
	}
	set.State, set.Field = TypeApplied, had.info(c.Field)
	return set, nil
}

func (c *TypeChange) storedAs() string {
	if c.As == "" {
		return c.Field
	}
	return c.As
}

// chooseName fills in c.As, empty for the field's own name, by what the store holds.
func (c *TypeChange) chooseName(m *measurementTypes, held map[string]FieldType) error {
	if c.As == "" {
		c.As = c.Field
		if t := held[c.Field]; t != "" && t != c.Type {
			c.As = c.Field + "_" + string(c.Type)
		}
		if t := held[c.As]; t != "" && t != c.Type {
			return fmt.Errorf("%w: the store holds %q as %s", ErrFieldTaken, c.As, t)
		}
	}
	if c.As == c.Field {
		c.As = ""
		return nil
	}
	if reason := wire.CheckFieldName(c.As); reason != "" {
		return fmt.Errorf("%w: %q cannot be stored (%s)", ErrFieldTaken, c.As, reason)
	}
	own := func(had typeChange) bool { return had.As == c.As }
	if t := m.Fields[c.As]; t != "" && (t != c.Type || !slices.ContainsFunc(m.Changes[c.Field], own)) {
		return fmt.Errorf("%w: %q is another field, of type %s", ErrFieldTaken, c.As, t)
	}
	return nil
}

// storedLook is how often SetType looks whether the writer has caught up.
const storedLook = 20 * time.Millisecond

// held returns the types that the store holds of a measurement, once it has the readings that came before now.
func (in *Ingest) held(ctx context.Context, m *measurementTypes, c *TypeChange) (map[string]FieldType, error) {
	typer, ok := in.writer.store.(FieldTyper)
	if !ok {
		return m.Fields, nil
	}
	if t, _ := m.newest(c.Field); c.As == "" && t != "" && t != c.Type {
		in.journal.mu.Lock()
		last := in.journal.last
		in.journal.mu.Unlock()
		for in.writer.reached() < last {
			if rest(ctx, storedLook) != nil {
				return nil, fmt.Errorf("%w: readings wait for it", ErrStoreBusy)
			}
		}
	}
	held, err := typer.FieldTypes(ctx, c.Measurement)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStoreBusy, err)
	}
	return held, nil
}

// reached returns the journal's sequence up to which all is accounted for.
func (w *writer) reached() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.position
}

// retype puts a change into the journal and waits for the writer to come to it.
func (in *Ingest) retype(ctx context.Context, c *TypeChange) (applied bool, err error) {
	id := rand.Uint64()
	done, committed := in.writer.retyping.wait(id), make(single, 1)
	defer in.writer.retyping.end(id, nil)
	if err := in.journal.retype(ctx, id, c, committed); err != nil {
		return false, err
	}
	select {
	case err = <-committed:
	case <-ctx.Done():
		select {
		case err = <-committed: // at the last moment
		default:
			err = ctx.Err()
		}
	}
	if err != nil {
		return false, err
	}
	select {
	case err := <-done:
		return err == nil, err
	case <-ctx.Done():
		return false, nil
	}
}

// retype appends a change to an envelope that has none: the registry knows changes by their envelopes. One may have been
// given up by who waited for it, and be in the open envelope still.
func (j *journal) retype(ctx context.Context, id uint64, c *TypeChange, w wire.Waiter) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	forget := context.AfterFunc(ctx, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.changed.Broadcast()
	})
	defer forget()
	for j.open.retyped && !j.stopping && ctx.Err() == nil {
		j.changed.Wait()
	}
	if j.open.retyped && !j.stopping {
		return ctx.Err()
	}
	b, err := j.take(ctx)
	if err != nil {
		return err
	}
	wasEmpty := b.empty()
	b.retyped = true
	b.envelope = appendRetype(b.envelope, id, c, time.Now().UnixMilli())
	b.waiters = append(b.waiters, w)
	if wasEmpty {
		j.changed.Broadcast()
	}
	return nil
}

// retype applies a change in the journal's order. It needs mu, and lets go of it while it waits.
func (w *writer) retype(ctx, hard context.Context, e *entry, sequence uint64) {
	c := TypeChange{
		Measurement: string(e.retype.measurement), Field: string(e.retype.field), Type: FieldType(e.retype.kind),
		As: string(e.retype.as), By: string(e.retype.by),
	}
	w.mu.Unlock()
	defer w.mu.Lock()
	refused := false
	w.work.left = w.types.persist(ctx, hard, func() (err error) {
		refused, err = w.types.change(hard, &c, sequence, time.UnixMilli(e.received).UTC())
		return err
	})
	switch {
	case w.work.left != nil:
		return
	case refused:
		w.log.Warn("the type of a field is not changed: there is no room for one more field", "measurement", c.Measurement, "field", c.Field)
		w.retyping.end(e.retype.id, ErrNoRoom)
		return
	}
	w.log.Info("the type of a field is changed", "measurement", c.Measurement, "field", c.Field, "type", string(c.Type), "stored_as", c.storedAs(), "operator", c.By)
	w.retyping.end(e.retype.id, nil)
}

// change writes a change that stands in the journal's envelope at into the registry, once.
func (ts *fieldTypes) change(ctx context.Context, c *TypeChange, at uint64, made time.Time) (refused bool, err error) {
	m, revision, err := ts.read(ctx, c.Measurement)
	if err != nil {
		return false, err
	}
	list := m.Changes[c.Field]
	if n := len(list); n > 0 && list[n-1].After >= at {
		return false, nil // it was read before
	}
	next := &measurementTypes{Fields: maps.Clone(m.Fields), Changes: maps.Clone(m.Changes)}
	if next.Changes == nil {
		next.Changes = map[string][]typeChange{}
	}
	if t := m.Fields[c.Field]; t != "" && len(list) == 0 {
		list = []typeChange{{Type: t}}
	}
	list = append(slices.Clone(list), typeChange{Type: c.Type, As: c.As, After: at, By: c.By, At: made})
	next.Changes[c.Field] = list[max(0, len(list)-mostChanges):]
	next.Fields[c.Field] = c.Type
	if c.As != "" && next.Fields[c.As] == "" {
		next.Fields[c.As] = c.Type // so that nobody else gets that name with another type
	}
	if added := len(next.Fields) - len(m.Fields); added > 0 && (len(next.Fields) > ts.limits.Measurement || ts.count+added > ts.limits.All) {
		return true, nil
	}
	written, err := ts.write(ctx, m, next, revision)
	return !written, err
}
