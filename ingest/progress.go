package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What the writer knows is saved in shards of devices, and after all of them the position. Each shard says as of which
// sequence it is, so a crash between two shards splits nothing: a device passes over the envelopes that it counted.
const (
	progressShards = 64
	positionKey    = "position"
	maxRuns        = 32
)

// progress is where the writer's knowledge is kept.
type progress struct{ kv jetstream.KeyValue }

type savedShard struct {
	AsOf    uint64              `json:"as_of"`
	Devices map[string]*account `json:"devices"`
}

type savedPosition struct {
	Position uint64            `json:"position"`
	Runs     map[uint64]uint64 `json:"runs"`
}

func shardOf(device string) int {
	h := fnv.New32a()
	h.Write([]byte(device))
	return int(h.Sum32() % progressShards)
}

// load reads what was saved; of a new hub, nothing.
func (p *progress) load(ctx context.Context) (savedPosition, map[string]*account, error) {
	var at savedPosition
	accounts := map[string]*account{}
	if err := p.get(ctx, positionKey, &at); err != nil {
		return at, nil, err
	}
	for i := range progressShards {
		var shard savedShard
		if err := p.get(ctx, strconv.Itoa(i), &shard); err != nil {
			return at, nil, err
		}
		for device, a := range shard.Devices {
			a.device, a.asOf = device, shard.AsOf
			accounts[device] = a
		}
	}
	if at.Runs == nil {
		at.Runs = map[uint64]uint64{}
	}
	return at, accounts, nil
}

func (p *progress) get(ctx context.Context, key string, into any) error {
	e, err := p.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(e.Value(), into)
	}
	if err != nil {
		return fmt.Errorf("read the writer's progress: %s: %w", key, err)
	}
	return nil
}

func (p *progress) put(ctx context.Context, key string, value any) error {
	data, err := json.Marshal(value)
	if err == nil {
		_, err = p.kv.Put(ctx, key, data)
	}
	if err != nil {
		return fmt.Errorf("save the writer's progress: %s: %w", key, err)
	}
	return nil
}

// save saves what changed since it was last saved. A failure loses nothing: the next save has it all.
func (w *writer) save(ctx context.Context) {
	w.savedAt = time.Now()
	if w.saved == w.position {
		return
	}
	shards := map[int]*savedShard{}
	for device := range w.dirty {
		shards[shardOf(device)] = &savedShard{AsOf: w.position, Devices: map[string]*account{}}
	}
	w.mu.Lock()
	for device, a := range w.accounts {
		if shard := shards[shardOf(device)]; shard != nil {
			shard.Devices[device] = a
		}
	}
	w.mu.Unlock()
	// Only this goroutine changes accounts, so they can be encoded without the lock.
	for i, shard := range shards {
		if err := w.progress.put(ctx, strconv.Itoa(i), shard); err != nil {
			w.log.Warn("the writer's progress was not saved; it is tried again", "err", err)
			return
		}
	}
	if err := w.progress.put(ctx, positionKey, savedPosition{Position: w.position, Runs: w.recentRuns()}); err != nil {
		w.log.Warn("the writer's progress was not saved; it is tried again", "err", err)
		return
	}
	w.saved = w.position
	clear(w.dirty)
}

// recentRuns bounds the runs that are remembered. Which of the older ones go does not matter: their envelopes are long
// out of NATS's own window of duplicates.
func (w *writer) recentRuns() map[uint64]uint64 {
	for run := range w.runs {
		if len(w.runs) <= maxRuns {
			break
		}
		if run != w.currentRun {
			delete(w.runs, run)
		}
	}
	return w.runs
}
