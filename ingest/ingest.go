package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/backbone"
	"telemetryhub/wire"
)

// TimeLimits bounds the times that readings may bear.
type TimeLimits struct {
	Past   time.Time     // not before
	Future time.Duration // not further ahead of the receipt
}

// FieldLimits bounds the distinct fields that the store gets: each is an entry of its index and memory for ever.
type FieldLimits struct {
	Device      int // of one device, over all its measurements, since the hub's start
	Measurement int // of one measurement
	All         int // of all of them; some tens of MB of memory for 100,000
}

// Config is what an operator can set of ingest.
type Config struct {
	Keep         time.Duration // envelopes that are written stay in the journal for so long
	KeepBytes    int64         // and are at most so much
	BatchLines   int           // points of one write to the store
	BatchAge     time.Duration // a batch is written when it is so old, however small
	SaveEvery    time.Duration // how often the writer's progress is saved
	Times        TimeLimits
	Fields       FieldLimits
	DeviceFields func(device string) int                        // how many distinct fields this device may have; nil: Fields.Device
	FieldType    func(device, field string) FieldType           // what the device's type says of a field, "" for nothing; nil: nothing
	Home         func(device string) string                     // measurement whose newest values are kept of this device, "" for the default one; nil: that for all
	Crowded      func(crowded bool)                             // told when devices begin to wait for those that are live, and when none has for a while; nil: nobody
	SetAside     func(device, reason, message string, n uint64) // told of readings that are in the quarantine now; it must not wait; nil: nobody

	ReceivedField string // the field that the store gets the time of receipt in, ms as integer; empty: none
}

func (c Config) deviceFields(device string) int {
	if c.DeviceFields == nil {
		return c.Fields.Device
	}
	return c.DeviceFields(device)
}

// Bus is the NATS that ingest lives in.
type Bus interface {
	JetStream() jetstream.JetStream
	Bucket(ctx context.Context, name string) (jetstream.KeyValue, error)
	MaxMessage() int
	// LostEnvelopes returns what was left of damaged ones, in the journal's order, until named is called.
	LostEnvelopes() (left [][]byte, named func() error, err error)
}

// Ingest is the journal, the writer and the account of both.
type Ingest struct {
	Latest *Latest
	Feed   *Feed

	arrivals *arrivals
	journal  *journal
	writer   *writer
	replayer *replayer
	stop     context.CancelFunc // the writer's gentle end
	cut      context.CancelFunc // its hard one
	done     chan error
	naming   chan struct{} // closed when what was lost has been named, or the journal has stopped
}

// Open reads what the hub knew, and what is in the journal beyond it, and starts the journal and the writer.
func Open(ctx context.Context, cfg Config, bus Bus, store Store, reg prometheus.Registerer, log *slog.Logger) (*Ingest, error) {
	in := &Ingest{
		Latest:   &Latest{home: cfg.Home},
		Feed:     &Feed{subs: map[*Subscription]bool{}},
		arrivals: &arrivals{byDevice: map[string]*arrival{}},
		done:     make(chan error, 1),
		naming:   make(chan struct{}),
	}
	w, err := in.newWriter(ctx, cfg, bus, store, log)
	if err != nil {
		return nil, err
	}
	w.metrics = newMetrics(reg)
	last, err := in.readAhead(ctx)
	if err != nil {
		return nil, err
	}
	lost, named, err := in.recallLost(bus)
	if err != nil {
		return nil, err
	}
	for _, a := range in.arrivals.byDevice {
		a.appended = a.received
	}
	if in.journal, err = newJournal(bus.JetStream(), in.arrivals, cfg, bus.MaxMessage(), in.Feed, w.metrics, log, last); err != nil {
		return nil, err
	}
	in.replayer = &replayer{w: w, backlog: func() uint64 { return in.Status().Backlog }}
	w.keepAll = in.replayer.active.Load
	in.journal.onFull = w.wake // nothing is published before Open returns
	w.currentRun, w.journalFull, w.mayPurge = in.journal.run, in.journal.isFull, in.journal.mayPurge
	gentle, stop := context.WithCancel(context.WithoutCancel(ctx))
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	in.stop, in.cut = stop, cut
	go func() { in.done <- w.run(gentle, hard) }()
	reg.MustRegister(in)
	go in.nameLost(lost, named, log)
	return in, nil
}

func (in *Ingest) newWriter(ctx context.Context, cfg Config, bus Bus, store Store, log *slog.Logger) (*writer, error) {
	js := bus.JetStream()
	journal, err := js.Stream(ctx, backbone.Journal)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	aside, err := js.Stream(ctx, backbone.Quarantine)
	if err != nil {
		return nil, fmt.Errorf("open the quarantine: %w", err)
	}
	kv, err := bus.Bucket(ctx, backbone.Progress)
	if err != nil {
		return nil, err
	}
	w := &writer{
		cfg: cfg, receivedField: []byte(cfg.ReceivedField), store: store, journal: journal, latest: in.Latest, log: log,
		quarantine: &quarantine{js: js, stream: aside, most: bus.MaxMessage() - messageMargin}, settling: newSettling(), retyping: newRetyping(), progress: &progress{kv: kv},
		dirty: map[string]bool{}, savedAt: time.Now(),
	}
	at, accounts, err := w.progress.load(ctx)
	if err != nil {
		return nil, err
	}
	types, err := bus.Bucket(ctx, backbone.Types)
	if err != nil {
		return nil, err
	}
	w.types = &fieldTypes{
		kv: types, store: store, ofOwn: cfg.ownType, limits: cfg.Fields, most: bus.MaxMessage() - messageMargin, log: log, fault: w.setFault,
		by: map[string]*measurementTypes{},
	}
	if err := w.types.load(ctx); err != nil {
		return nil, err
	}
	w.position, w.saved, w.runs, w.accounts = at.Position, at.Position, at.Runs, accounts
	if err := w.quarantine.recall(ctx, w.position); err != nil {
		return nil, err
	}
	in.writer = w
	return w, nil
}

// readAhead learns from the journal, beyond the writer's position, what each device has made durable: the numbers for
// hello's answer and the readings that are queued. It returns the sequence of the journal's last envelope.
func (in *Ingest) readAhead(ctx context.Context) (last uint64, err error) {
	w := in.writer
	for device, a := range w.accounts {
		d := in.arrivals.of(device)
		d.received, d.clock, d.top = a.Received, a.Clock, a.Top
		for i := range a.Boots {
			n := a.Boots[i]
			n.Spans = slices.Clone(n.Spans) // the writer goes on with its own
			d.boots = append(d.boots, n)
		}
	}
	info, err := w.journal.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the journal: %w", err)
	}
	if info.State.LastSeq < w.position {
		return 0, fmt.Errorf("the journal ends at %d and the writer's progress is at %d: the data folder was put together from two states", info.State.LastSeq, w.position)
	}
	messages, pending, err := w.follow(ctx, w.position)
	if err != nil {
		return 0, err
	}
	defer func() {
		if messages != nil { // opened again in vain, as the start was given up
			messages.Stop()
		}
	}()
	if pending == 0 {
		w.position = info.State.LastSeq // what lay between was taken out of the journal
	}
	runs, read := map[uint64]uint64{}, w.position
	for pending > 0 && read < info.State.LastSeq {
		next, cancel := context.WithTimeout(ctx, idleWait)
		msg, err := messages.Next(jetstream.NextContext(next))
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			if !w.unreadable(ctx, read) {
				continue
			}
			read++ // the writer says so when it comes there
			messages.Stop()
			if messages, pending, err = w.follow(ctx, read); err != nil {
				return 0, err
			}
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read the journal: %w", err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return 0, fmt.Errorf("read the journal: %w", err)
		}
		pending, read = meta.NumPending, meta.Sequence.Stream
		in.readAheadOf(msg.Data(), read, runs)
	}
	return info.State.LastSeq, nil
}

func (in *Ingest) readAheadOf(data []byte, sequence uint64, runs map[uint64]uint64) {
	env, err := openEnvelope(data)
	if err != nil || env.number <= max(runs[env.run], in.writer.runs[env.run]) {
		return // the writer says so when it comes there
	}
	runs[env.run] = env.number
	var e entry
	for env.next(&e) {
		if e.kind == entryRetype {
			continue // of no device
		}
		if e.settles > 0 {
			in.writer.settling.expect(e.settles, sequence)
			in.writer.quarantine.there[e.place] = true // it was: put again, it would have another id
			e.count = 0
		}
		if a := in.writer.accounts[string(e.device)]; a != nil && a.asOf >= sequence {
			continue
		}
		m := mark{of: in.arrivals.of(string(e.device)), count: e.count}
		m.of.received = max(m.of.received, e.prior) // more, where an envelope between cannot be read
		m.of.clock, m.of.top = max(m.of.clock, e.clock), max(m.of.top, e.after)
		if e.seq > 0 {
			m.boot, m.last = string(e.boot), e.seq+e.count-1
		}
		in.arrivals.commit([]mark{m})
	}
}

// Append copies t into the next envelope, having given each reading its time, or its flaw where it breaks a limit, and
// lets w join that commit. It waits while the journal is behind. The error is ErrStopped, or a *wire.Error for a frame
// that is too large for the journal.
func (in *Ingest) Append(device string, t *wire.Telemetry, receivedMs int64, w wire.Waiter) (gen uint64, err error) {
	return in.journal.append(context.Background(), device, t, receivedMs, w)
}

// AppendWithin is Append that waits for room for no longer than ctx lives.
func (in *Ingest) AppendWithin(ctx context.Context, device string, t *wire.Telemetry, receivedMs int64, w wire.Waiter) (gen uint64, err error) {
	return in.journal.append(ctx, device, t, receivedMs, w)
}

// Commit appends t and returns once it is durable. When ctx ends first, t may still become durable.
func (in *Ingest) Commit(ctx context.Context, device string, t *wire.Telemetry) error {
	committed := make(single, 1)
	if _, err := in.journal.append(ctx, device, t, time.Now().UnixMilli(), committed); err != nil {
		return err
	}
	select {
	case err := <-committed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Refuse counts one frame of the device that could not be used.
func (in *Ingest) Refuse(device, reason string) { in.journal.refuse(device, reason) }

// Durable returns the last durable number of a device's boot, 0 if none, and the gaps below it, from and to: numbers
// of which not all have come.
func (in *Ingest) Durable(device, boot string) (last uint64, gaps [][2]uint64) {
	return in.arrivals.durable(device, boot)
}

// Status is how journal and writer are.
type Status struct {
	Journal error  // why nothing can be committed at present
	Store   error  // why the store takes nothing at present
	Backlog uint64 // envelopes that wait for the writer
}

// Status returns how journal and writer are now.
func (in *Ingest) Status() Status {
	in.journal.mu.Lock()
	s := Status{Journal: in.journal.fault}
	last := in.journal.last
	in.journal.mu.Unlock()
	in.writer.mu.Lock()
	defer in.writer.mu.Unlock()
	s.Store, s.Backlog = in.writer.fault, max(last, in.writer.position)-in.writer.position
	return s
}

// Stop commits what was appended, ends the writer gently, and hard when ctx ends. What is then not in the store is in
// the journal, and goes on after the next start.
func (in *Ingest) Stop(ctx context.Context) error {
	in.replayer.stop(true)
	err := in.journal.stop(ctx)
	<-in.naming
	in.stop()
	select {
	case writeErr := <-in.done:
		in.cut()
		return errors.Join(err, writeErr)
	case <-ctx.Done():
		in.cut()
		return errors.Join(err, <-in.done)
	}
}
