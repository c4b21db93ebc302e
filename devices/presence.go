package devices

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

// Presence is what is known of a device's connection: of the one that it has, or of its last one. The end is that of
// the last one that ended, also while the device is connected again.
type Presence struct {
	Online         bool      `json:"online,omitempty"`
	Transport      string    `json:"transport,omitempty"`
	Remote         string    `json:"remote,omitempty"`
	ConnectedAt    time.Time `json:"connected_at,omitzero"`
	LastSeen       time.Time `json:"last_seen,omitzero"`
	DisconnectedAt time.Time `json:"disconnected_at,omitzero"`
	Cause          string    `json:"cause,omitempty"` // of the end
	Session        uint64    `json:"session,omitempty"`
	Version        uint64    `json:"version,omitempty"` // of the device's last change; larger than those before it, over restarts too
	Boot           string    `json:"boot,omitempty"`
	Frozen         *Freeze   `json:"frozen,omitempty"`
	Unresponsive   int64     `json:"-"`                    // Unix ms since when its program says nothing, and did not answer a probe; 0: it is not
	Credential     string    `json:"credential,omitempty"` // id of what it proved itself with
	Firmware       string    `json:"firmware,omitempty"`
	Model          string    `json:"model,omitempty"`
	Methods        []string  `json:"methods,omitempty"` // announced in hello; not changed once given out
	Silence        Silence   `json:"silence,omitzero"`
	Clock
}

// remembered is what is written of a device.
type remembered struct {
	Presence
	Units map[string]string `json:"units,omitempty"`
	Uses  []use             `json:"uses,omitempty"`
}

// Presence returns what is known of the device; of one that was never connected, nothing.
func (s *Sessions) Presence(device string) Presence {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.present(device)
}

// present needs mu.
func (s *Sessions) present(device string) Presence {
	if n, ok := s.byDevice[device]; ok {
		return n.presence()
	}
	p := s.last[device]
	p.Frozen = s.frozen[device]
	return p
}

// presence needs sessions.mu.
func (s *Session) presence() Presence {
	unresponsive := int64(0)
	if since := s.unresponsiveSince(); !since.IsZero() {
		unresponsive = since.UnixMilli()
	}
	return Presence{
		Unresponsive: unresponsive,

		Online: true, Transport: s.Transport, Remote: s.Remote, ConnectedAt: s.connected, LastSeen: s.Seen(),
		DisconnectedAt: s.before.DisconnectedAt, Cause: s.before.Cause,
		Session: s.id, Credential: s.proof.ID, Version: s.version, Boot: s.boot, Frozen: s.sessions.frozen[s.Device], Firmware: s.firmware, Model: s.model, Methods: s.methods, Silence: s.silence, Clock: s.clock,
	}
}

// change numbers a change of what is known of the device's connection, tells the feeds and marks the device for the next
// write. It needs mu.
func (s *Sessions) change(device, what string, p Presence) {
	s.version++
	p.Version = s.version
	if n, ok := s.byDevice[device]; ok {
		n.version = p.Version
	} else {
		last := s.last[device]
		last.Version = p.Version
		s.last[device] = last
	}
	s.dirty[device] = true
	s.feeds.Publish(PresenceChange{Device: device, What: what, Version: p.Version, At: time.Now(), Presence: p})
}

// Presence is written in shards, some seconds of changes at a time: a durable write per connection would make a herd
// of them wait for the disk (DESIGN: session leases in memory, last-seen in batches).
const (
	presenceShards = 64
	presenceEvery  = 2 * time.Second  // changes of presence
	lastSeenEvery  = 30 * time.Second // signs of life
)

const causeHubStopped = "the hub stopped without a goodbye"

func shardOf(device string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(device))
	return h.Sum32() % presenceShards
}

// Restore reads what was known when the hub ended. A device that was connected then is not connected now.
func (s *Sessions) Restore(ctx context.Context, kv jetstream.KeyValue) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lapsed []string
	for shard := range presenceShards {
		e, err := kv.Get(ctx, strconv.Itoa(shard))
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read presence: %w", err)
		}
		known := map[string]remembered{}
		if err := json.Unmarshal(e.Value(), &known); err != nil {
			return fmt.Errorf("read presence: shard %d: %w", shard, err)
		}
		for device, p := range known {
			if p.Online {
				p.Online, p.DisconnectedAt, p.Cause = false, p.LastSeen, causeHubStopped
				lapsed = append(lapsed, device)
			}
			if p.Frozen.lasts(time.Now()) {
				s.frozen[device] = p.Frozen
			}
			p.Frozen = nil
			s.version = max(s.version, p.Version)
			s.last[device] = p.Presence
			if p.Units != nil {
				s.units[device] = p.Units
			}
			if p.Uses != nil {
				s.uses[device] = p.Uses
			}
			s.lastID = max(s.lastID, p.Session) // the clock may have been set back since
		}
	}
	for _, device := range lapsed {
		s.change(device, ChangeDisconnected, s.last[device])
	}
	return nil
}

// Keep writes changes of presence to kv until ctx ends, and a last time then.
func (s *Sessions) Keep(ctx context.Context, kv jetstream.KeyValue) {
	changes, signs := time.NewTicker(presenceEvery), time.NewTicker(lastSeenEvery)
	defer changes.Stop()
	defer signs.Stop()
	for {
		select {
		case <-changes.C:
		case <-signs.C:
			s.markSeen()
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			s.markSeen()
			s.write(last, kv)
			cancel()
			return
		}
		s.write(ctx, kv)
	}
}

// markSeen marks the devices that gave a sign of life since it was last written.
func (s *Sessions) markSeen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for device, n := range s.byDevice {
		if seen := n.seen.Load(); seen != n.saved {
			n.saved = seen
			s.dirty[device] = true
		}
	}
}

// write writes the shards of the devices that are marked. What could not be written stays marked.
func (s *Sessions) write(ctx context.Context, kv jetstream.KeyValue) {
	shards, version := s.dirtyShards()
	failed := false
	for shard, known := range shards {
		value, err := json.Marshal(known)
		if err == nil {
			_, err = kv.Put(ctx, strconv.Itoa(int(shard)), value)
		}
		if err != nil {
			failed = true
			s.log.Warn("presence was not written; it is tried again", "err", err)
			s.mu.Lock()
			for device := range known {
				s.dirty[device] = true
			}
			s.mu.Unlock()
		}
	}
	if !failed {
		s.written.Store(version)
	}
}

// dirtyShards returns the shards to be written, and the version of the newest change that is in them or was written before.
func (s *Sessions) dirtyShards() (shards map[uint32]map[string]remembered, version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	shards = map[uint32]map[string]remembered{}
	for device := range s.dirty {
		shards[shardOf(device)] = map[string]remembered{}
	}
	clear(s.dirty)
	if len(shards) == 0 {
		return nil, s.version
	}
	for device := range s.last {
		if known, ok := shards[shardOf(device)]; ok {
			known[device] = remembered{Presence: s.present(device)}
		}
	}
	for device, n := range s.byDevice {
		if known, ok := shards[shardOf(device)]; ok {
			known[device] = remembered{Presence: n.presence()}
		}
	}
	for device, units := range s.units {
		if known, ok := shards[shardOf(device)]; ok {
			known[device] = remembered{Presence: known[device].Presence, Units: units}
		}
	}
	for device, uses := range s.uses {
		if known, ok := shards[shardOf(device)]; ok {
			of := known[device]
			of.Uses = uses
			known[device] = of
		}
	}
	return shards, s.version
}

// Forget drops what is known of a device that was deleted.
func (s *Sessions) Forget(device string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.last, device)
	delete(s.units, device)
	delete(s.frozen, device)
	delete(s.contests, device)
	delete(s.uses, device)
	s.dirty[device] = true
	s.recorder.forget(device)
}
