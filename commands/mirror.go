package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// mirror holds the open commands and the newest ended ones. It is guarded by Service.mu.
type mirror struct {
	byID  map[string]*entry
	order []*entry // by id, which is the order of making; evicted ones are removed in one go
	bytes int      // of the ended ones, about
	limit int      // of bytes

	archive archive
}

func newMirror() mirror { return mirror{byID: map[string]*entry{}, limit: MirrorBytes} }

func (m *mirror) add(e *entry) {
	m.byID[e.next.ID] = e
	i := len(m.order)
	if i > 0 && m.order[i-1].next.ID > e.next.ID { // an old one, read back for its late answer
		i, _ = slices.BinarySearchFunc(m.order, e.next.ID, func(have *entry, id string) int { return strings.Compare(have.next.ID, id) })
	}
	m.order = slices.Insert(m.order, i, e)
	m.archive.remove(e.next.ID)
	if e.next.State.Final() {
		m.weigh(e)
	}
}

// evict forgets ended and written commands that gone names, and beyond that moves the oldest to the archive while there
// are too many bytes.
func (m *mirror) evict(gone func(*Command) bool) {
	target := m.bytes
	if m.bytes > m.limit {
		target = m.limit / 10 * 9 // so that the walk is paid by many
	}
	var old []*entry
	m.order = slices.DeleteFunc(m.order, func(e *entry) bool {
		if !e.next.State.Final() || e.unsaved || e.queued || !e.shown {
			return false
		}
		isGone := gone != nil && gone(&e.next)
		if m.bytes <= target && !isGone {
			return false
		}
		if !isGone {
			old = append(old, e)
		}
		m.remove(e)
		return true
	})
	m.archive.add(old)
}

func (m *mirror) remove(e *entry) {
	delete(m.byID, e.next.ID)
	m.bytes -= e.weight
}

// weigh accounts for what an ended command costs in memory, about.
func (m *mirror) weigh(e *entry) {
	c := &e.next
	n := 600 + len(c.Params) + len(c.Result) + len(c.Error)
	for i := range c.History {
		n += 100 + len(c.History[i].Cause)
	}
	m.bytes += n - e.weight
	e.weight = n
}

// Get returns a command as it is durable. An unknown id is ErrNotFound.
func (s *Service) Get(id string) (Command, error) { return s.get(s.ctx, id) }

func (s *Service) get(ctx context.Context, id string) (Command, error) {
	s.mu.Lock()
	e, ok := s.mirror.byID[id]
	if ok && e.shown {
		defer s.mu.Unlock()
		return e.view, nil
	}
	s.mu.Unlock()
	if ok || !isID(id) {
		return Command{}, ErrNotFound // what is not yet durable does not exist for anybody
	}
	c, _, err := s.read(ctx, id)
	return c, err
}

// read takes a command from the bucket.
func (s *Service) read(ctx context.Context, id string) (Command, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	kve, err := s.kv.Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Command{}, 0, ErrNotFound
	}
	if err != nil {
		return Command{}, 0, fmt.Errorf("read command %s: %w", id, err)
	}
	c, err := decodeRecord(kve.Value())
	if err != nil {
		return Command{}, 0, fmt.Errorf("read command %s: %w", id, err)
	}
	return c, kve.Revision(), nil
}

// Wait returns the command once a final state is durable, or the state reached when ctx or the ledger ends.
func (s *Service) Wait(ctx context.Context, id string) (Command, error) {
	s.mu.Lock()
	e, ok := s.mirror.byID[id]
	s.mu.Unlock()
	if !ok {
		return s.get(ctx, id) // an old one, which has ended
	}
	select {
	case <-e.settled:
	case <-ctx.Done():
	case <-s.stop:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !e.shown {
		return Command{}, ErrNotFound
	}
	return e.view, nil
}

func decodeRecord(data []byte) (Command, error) {
	var c Command
	if err := json.Unmarshal(data, &c); err != nil {
		return Command{}, fmt.Errorf("record: %w", err)
	}
	if !isID(c.ID) || c.Device == "" || (!c.State.Final() && !c.State.atDevice() && c.State != Accepted && c.State != Queued) {
		return Command{}, fmt.Errorf("record: no command with state %q", c.State)
	}
	return c, nil
}
