package rollouts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The records of a rollout, by the end of their key after the id. The head is written last and removed first.
const (
	planKey    = ".plan"
	headKey    = ".head"
	devicesKey = ".devices." // and a shard's number: ids, in the order of sending
	notesKey   = ".notes."   // and a shard's number: what became of these devices
)

const (
	shardSize     = 500 // devices of one record, some 20 KB
	bucketTimeout = 10 * time.Second
	saveEvery     = 500 * time.Millisecond
	saveRetry     = 2 * time.Second
)

// head is what changes of a rollout: a small record.
type head struct {
	State   State           `json:"state"`
	Limits  Limits          `json:"limits"`
	Run     int             `json:"run,omitempty"` // how often it was resumed after a stop; failures count from there
	Counts  map[Outcome]int `json:"counts"`        // as of the notes, for when these are not in memory
	Settled bool            `json:"settled,omitempty"`
	Ended   time.Time       `json:"ended,omitzero"`
	History []Change        `json:"history"`
}

// maxHistory bounds the story; its middle goes first.
const maxHistory = 100

func (h *head) record(step Change) {
	history := slices.Clone(h.History)
	if len(history) >= maxHistory {
		history = slices.Delete(history, maxHistory/2, maxHistory/2+1)
	}
	h.State, h.History = step.State, append(history, step)
	if step.State.Final() {
		h.Ended = step.Time
	}
}

// note is one device's line in a shard of notes.
type note struct {
	Outcome Outcome `json:"o"`
	Command string  `json:"c,omitempty"`
	Text    string  `json:"t,omitempty"`
	Run     int     `json:"r,omitempty"`
}

func shards(devices int) int { return (devices + shardSize - 1) / shardSize }

func shardRange(n, devices int) (from, to int) {
	return n * shardSize, min((n+1)*shardSize, devices)
}

// put writes one record.
func (s *Service) put(ctx context.Context, key string, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	if _, err := s.kv.Put(ctx, key, value); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

// get reads one record; a missing one is ErrNotFound.
func (s *Service) get(ctx context.Context, key string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	e, err := s.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("read %s: %w", key, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if err := json.Unmarshal(e.Value(), into); err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	return nil
}

func shardKey(id, kind string, n int) string { return id + kind + strconv.Itoa(n) }

// idOf is the rollout that a key belongs to.
func idOf(key string) string {
	id, _, _ := strings.Cut(key, ".")
	return id
}

// readShard reads the devices of one shard and what is noted of them.
func (s *Service) readShard(ctx context.Context, id string, n int) ([]string, []note, error) {
	var devices []string
	if err := s.get(ctx, shardKey(id, devicesKey, n), &devices); err != nil {
		return nil, nil, err
	}
	var notes []note
	if err := s.get(ctx, shardKey(id, notesKey, n), &notes); err != nil && !errors.Is(err, ErrNotFound) {
		return nil, nil, err
	}
	for len(notes) < len(devices) { // none was written before the first outcome
		notes = append(notes, note{Outcome: Pending})
	}
	return devices, notes, nil
}

// unwritten is what a save is to write.
type unwritten struct {
	version uint64
	head    head
	notes   map[int][]note // by shard
}

// toSave takes what is unsaved, if it is due or urgent. Called with mu.
func (r *rollout) toSave(now time.Time) (unwritten, bool) {
	l := r.live
	if !l.unsaved() || now.Before(l.saveAt) {
		return unwritten{}, false
	}
	r.head.Counts = maps.Clone(l.counts)
	u := unwritten{version: l.version, head: r.head, notes: map[int][]note{}}
	for n := range l.dirty {
		from, to := shardRange(n, len(l.targets))
		u.notes[n] = slices.Clone(l.targets[from:to])
	}
	clear(l.dirty)
	return u, true
}

// save writes the notes, then the head: a head that says settled has all its notes. It returns whether it succeeded.
func (s *Service) save(r *rollout, u unwritten) bool {
	err := s.write(r.plan.ID, u)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := r.live
	if err != nil {
		s.stats.SaveFailures++
		for n := range u.notes {
			l.dirty[n] = true
		}
		if l.saveErr == nil {
			s.log.Error("rollout: it could not be written; it is tried again", "rollout", r.plan.ID, "err", err)
		}
		l.saveErr, l.saveAt = err, time.Now().Add(saveRetry)
	} else {
		l.saveErr, l.saved, l.saveAt = nil, u.version, time.Now().Add(saveEvery)
	}
	close(l.tried)
	l.tried = make(chan struct{})
	s.feeds.Publish(r.view())
	return err == nil
}

func (s *Service) write(id string, u unwritten) error {
	for _, n := range slices.Sorted(maps.Keys(u.notes)) {
		if err := s.put(s.ctx, shardKey(id, notesKey, n), u.notes[n]); err != nil {
			return err
		}
	}
	return s.put(s.ctx, id+headKey, u.head)
}
