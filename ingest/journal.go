package ingest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/backbone"
	"telemetryhub/wire"
)

// envelopeFull is the size in bytes at which an open envelope takes no more: 64 KB carry some hundreds of readings an
// fsync, and 256 KB are the knee of throughput.
const envelopeFull = 256 << 10

// messageMargin is the room in bytes for NATS's headers and the envelope's own.
const messageMargin = 8 << 10

// ErrStopped is the fate of what was appended and not committed when the hub stopped.
var ErrStopped = errors.New("the hub is stopping; send it again")

// journal gathers frames into an envelope while the one before is being synced: at most one is on its way, so the
// order of the journal is the order of Append.
type journal struct {
	js       jetstream.JetStream
	arrivals *arrivals
	limits   TimeLimits
	names    func(device string) int // fields of a device
	room     int                     // bytes at which an envelope is full
	liveRoom int                     // bytes beyond that for devices that do not catch up
	most     int                     // bytes of the largest frame that fits after that
	run      uint64
	log      *slog.Logger
	feed     *Feed
	metrics  *metrics
	onFull   func()             // told each time that NATS has no room
	crowded  func(crowded bool) // told when it changes whether devices have to wait for turns; may be nil

	mu       sync.Mutex
	changed  sync.Cond // an envelope was taken for publishing, something was appended, or the journal stopped
	open     *batch
	spare    *batch
	stopping bool
	fault    error         // why publishing does not succeed at present
	last     uint64        // sequence of the last envelope that is durable
	durable  uint64        // its number
	synced   time.Duration // how long it took
	pace     pace
	done     chan struct{}
	giveUp   context.Context // ends when what could not be published is given up
	abandon  context.CancelFunc
}

// batch is an envelope and who waits for it.
type batch struct {
	gen      uint64
	header   int // size of the header
	envelope []byte
	marks    []mark
	waiters  []wire.Waiter
	retyped  bool // has a change of a type
}

func newJournal(js jetstream.JetStream, a *arrivals, cfg Config, maxMessage int, feed *Feed, m *metrics, log *slog.Logger, last uint64) (*journal, error) {
	var run [8]byte
	if _, err := rand.Read(run[:]); err != nil {
		return nil, fmt.Errorf("name this run: %w", err)
	}
	j := &journal{
		js: js, arrivals: a, limits: cfg.Times, names: cfg.deviceFields, room: min(maxMessage/2, envelopeFull), run: binary.LittleEndian.Uint64(run[:]),
		log: log, feed: feed, metrics: m, last: last, spare: &batch{}, done: make(chan struct{}),
		pace: newPace(m), crowded: cfg.Crowded,
	}
	j.liveRoom = j.room / 4
	j.most = maxMessage - j.room - j.liveRoom - messageMargin
	j.changed.L = &j.mu
	j.giveUp, j.abandon = context.WithCancel(context.Background())
	j.open = j.reuse(&batch{}, 1)
	go j.commit()
	return j, nil
}

// reuse makes b the empty envelope number gen.
func (j *journal) reuse(b *batch, gen uint64) *batch {
	clear(b.marks)
	clear(b.waiters)
	b.gen, b.marks, b.waiters, b.retyped = gen, b.marks[:0], b.waiters[:0], false
	b.envelope = appendHeader(b.envelope[:0], j.run, gen)
	b.header = len(b.envelope)
	return b
}

func (b *batch) empty() bool { return len(b.envelope) == b.header }

// take returns the open envelope once it has room. It needs mu.
func (j *journal) take(ctx context.Context) (*batch, error) { return j.takeBelow(ctx, j.room) }

// takeBelow returns the open envelope once it has less than room bytes. It needs mu.
func (j *journal) takeBelow(ctx context.Context, room int) (*batch, error) {
	if len(j.open.envelope) >= room && ctx.Done() != nil {
		forget := context.AfterFunc(ctx, func() {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.changed.Broadcast()
		})
		defer forget()
	}
	for len(j.open.envelope) >= room && !j.stopping && ctx.Err() == nil {
		j.changed.Wait()
	}
	switch {
	case j.stopping:
		return nil, ErrStopped
	case len(j.open.envelope) >= room:
		return nil, ctx.Err()
	}
	return j.open, nil
}

// append implements Ingest.Append; ctx bounds how long it waits for room.
func (j *journal) append(ctx context.Context, device string, t *wire.Telemetry, received int64, w wire.Waiter) (uint64, error) {
	a := j.arrivals.of(device)
	j.mu.Lock()
	defer j.mu.Unlock()
	room, err := j.admit(ctx, a)
	if err != nil {
		return 0, err
	}
	b, err := j.takeBelow(ctx, room)
	if err != nil {
		j.giveBack(a)
		return 0, err
	}
	o := origin{device: device, prior: a.appended, received: received, top: a.top}
	if a.timeReadings(t, received, j.limits, j.names) {
		o.clock = uint64(a.clock-received) + 1
	}
	o.rise = uint64(a.top - o.top)
	m := mark{of: a, count: uint64(len(t.Readings))}
	if t.Seq > 0 {
		m.boot, m.last = j.bootOf(a, t.Boot), t.Seq+m.count-1
	}
	wasEmpty, from := b.empty(), len(b.envelope)
	b.envelope = appendReadings(b.envelope, o, t)
	size := len(b.envelope) - from
	if size > j.most {
		b.envelope = b.envelope[:from]
		j.giveBack(a)
		return 0, &wire.Error{
			Code: wire.CodeTooLarge, Reason: wire.ReasonTooLarge, Limit: int64(j.most), Value: int64(size),
			Message: fmt.Sprintf("the frame's readings take %d bytes in the journal, which takes %d; send fewer in a frame", size, j.most),
		}
	}
	a.appended += m.count
	a.pace.put(b.gen, size)
	b.marks = append(b.marks, m)
	if w.Join(b.gen) {
		b.waiters = append(b.waiters, w)
	}
	if wasEmpty {
		j.changed.Broadcast()
	}
	return b.gen, nil
}

func (j *journal) bootOf(a *arrival, boot []byte) string {
	j.arrivals.mu.Lock()
	defer j.arrivals.mu.Unlock()
	return a.bootOf(boot)
}

// refuse counts a frame that could not be used, durably. When the hub stops it is not counted: nothing was acked.
func (j *journal) refuse(device, reason string) {
	a := j.arrivals.of(device)
	j.mu.Lock()
	defer j.mu.Unlock()
	b, err := j.take(context.Background())
	if err != nil {
		return
	}
	b.envelope = appendRefusal(b.envelope, origin{device: device, prior: a.appended, received: time.Now().UnixMilli()}, reason, 1)
	a.appended++
	b.marks = append(b.marks, mark{of: a, count: 1})
	j.changed.Broadcast()
}

// commit publishes envelope after envelope until the journal has stopped and the last is out.
func (j *journal) commit() {
	defer close(j.done)
	wasCrowded := false
	for {
		j.mu.Lock()
		for j.open.empty() && !j.stopping {
			j.changed.Wait()
		}
		b := j.open
		if b.empty() {
			j.mu.Unlock()
			return
		}
		j.open = j.reuse(j.spare, b.gen+1)
		j.newRound()
		crowded := b.gen < j.pace.crowdedUntil
		j.changed.Broadcast()
		j.mu.Unlock()

		if crowded != wasCrowded && j.crowded != nil {
			j.crowded(crowded)
		}
		wasCrowded = crowded
		err := j.publish(b)
		if err == nil {
			j.arrivals.commit(b.marks)
		}
		for _, w := range b.waiters {
			w.Committed(b.gen, err)
		}
		if err == nil {
			j.feed.publish(b.envelope)
		}
		j.spare = b
	}
}

// Publishing is tried again until it succeeds: the readings are in memory only, and their devices wait.
const (
	publishTimeout = 10 * time.Second
	firstPause     = 20 * time.Millisecond
	longestPause   = 2 * time.Second
)

// publish returns when the envelope is synced. The message id makes the tries one message; the writer passes over an
// envelope that came twice all the same.
func (j *journal) publish(b *batch) error {
	sealed := seal(b.envelope)
	b.envelope = sealed
	msg := &nats.Msg{Subject: backbone.JournalSubject, Data: sealed}
	id := fmt.Sprintf("%x-%d", j.run, b.gen)
	pause := firstPause
	for {
		start := time.Now()
		ctx, cancel := context.WithTimeout(j.giveUp, publishTimeout)
		ack, err := j.js.PublishMsg(ctx, msg, jetstream.WithMsgID(id))
		cancel()
		if err == nil {
			took := time.Since(start)
			j.metrics.committed(took, len(b.marks), len(sealed))
			j.succeeded(b.gen, ack.Sequence, took)
			return nil
		}
		if j.giveUp.Err() != nil {
			return ErrStopped
		}
		j.setFault(err)
		if backbone.IsFull(err) {
			j.onFull()
		}
		select {
		case <-time.After(pause/2 + mathrand.N(pause)):
		case <-j.giveUp.Done():
			return ErrStopped
		}
		pause = min(2*pause, longestPause)
	}
}

func (j *journal) succeeded(gen, sequence uint64, took time.Duration) {
	j.mu.Lock()
	j.durable, j.synced = gen, took
	j.last = max(j.last, sequence)
	j.mu.Unlock()
	j.setFault(nil)
}

// purgeRoom is the free disk in bytes below which nothing is purged: to purge, NATS writes, and a write that fails locks
// its stream up (nats-server 2.15.2, fileStore.compact).
const purgeRoom = 8 << 20

// isFull reports whether the journal waits for room.
func (j *journal) isFull() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return backbone.IsFull(j.fault)
}

// mayPurge reports whether the disk has room to purge.
func (j *journal) mayPurge() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	no, ok := errors.AsType[*backbone.NoRoomError](j.fault)
	return !ok || no.Free >= purgeRoom
}

// setFault notes whether the journal can be written, and logs when that changes.
func (j *journal) setFault(err error) {
	j.mu.Lock()
	before := j.fault
	j.fault = err
	j.mu.Unlock()
	switch {
	case err != nil && before == nil && backbone.IsFull(err):
		j.log.Error("the journal is full: devices wait and nothing is acked until there is room", "err", err)
	case err != nil && before == nil:
		j.log.Error("the journal cannot be written: devices wait and nothing is acked", "err", err)
	case err == nil && before != nil:
		j.log.Info("the journal can be written again")
	}
}

// stop commits what was appended and lets nothing more in. When ctx ends before that, the rest is given up: it was
// never acked.
func (j *journal) stop(ctx context.Context) error {
	j.mu.Lock()
	j.stopping = true
	j.changed.Broadcast()
	j.endWaits()
	j.mu.Unlock()
	select {
	case <-j.done:
		j.abandon()
		return nil
	case <-ctx.Done():
		j.abandon()
		<-j.done
		return fmt.Errorf("flush the journal: %w; what was given up had not been acked", ctx.Err())
	}
}

// single waits for one commit.
type single chan error

// Join implements wire.Waiter.
func (single) Join(uint64) bool { return true }

// Committed implements wire.Waiter.
func (s single) Committed(_ uint64, err error) { s <- err }
