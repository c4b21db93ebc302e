package ingest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"telemetryhub/backbone"
	"telemetryhub/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const received = 1_700_000_000_000 // when test frames come, Unix ms

// memoryStore is a store that does what it is told.
type memoryStore struct {
	mu     sync.Mutex
	lines  []string                                      // that were accepted, in order
	writes int                                           // calls of Write
	answer func(ctx context.Context, lines []byte) error // nil: accepts all
}

func (s *memoryStore) Write(ctx context.Context, lines []byte) error {
	s.mu.Lock()
	s.writes++
	answer := s.answer
	s.mu.Unlock()
	if answer != nil {
		if err := answer(ctx, lines); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, splitLines(lines)...)
	return nil
}

func (s *memoryStore) answers(f func(ctx context.Context, lines []byte) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// accepted gives the lines with their times in ms.
func (s *memoryStore) accepted() []string {
	lines := s.acceptedInNanos()
	for i := range lines {
		lines[i] = strings.TrimSuffix(withMillis([]byte(lines[i])), "\n")
	}
	return lines
}

func (s *memoryStore) acceptedInNanos() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

func (s *memoryStore) tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

func splitLines(lines []byte) []string {
	return strings.Split(strings.TrimSuffix(string(lines), "\n"), "\n")
}

// away is a store's answer while it is away.
func away(context.Context, []byte) error { return errAway }

var errAway = fmt.Errorf("the store is away")

// hang is a store's answer that never comes.
func hang(ctx context.Context, _ []byte) error {
	<-ctx.Done()
	return ctx.Err()
}

// hub is an ingest on a NATS of its own.
type hub struct {
	t     *testing.T
	bus   *backbone.Backbone
	store *memoryStore
	*Ingest
	stopped bool
}

func testConfig() Config {
	return Config{
		Keep: time.Hour, KeepBytes: 1 << 30, BatchLines: 1000, BatchAge: time.Millisecond, SaveEvery: time.Millisecond,
		Times:  TimeLimits{Past: time.UnixMilli(946684800000), Future: 10 * time.Minute},
		Fields: FieldLimits{Device: maxNames, Measurement: maxFieldsEach, All: maxFieldsAll},
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func openBus(t *testing.T, cfg backbone.Config) *backbone.Backbone {
	t.Helper()
	bus, err := backbone.Open(context.Background(), cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close() })
	return bus
}

// openHub opens an ingest on dir. It is stopped at the end of the test, and its accounts must add up then.
func openHub(t *testing.T, dir string, cfg Config, store *memoryStore) *hub {
	t.Helper()
	return openHubOn(t, openBus(t, backbone.Config{Dir: dir}), cfg, store)
}

func openHubOn(t *testing.T, bus *backbone.Backbone, cfg Config, store *memoryStore) *hub {
	t.Helper()
	return openHubOver(t, bus, bus, cfg, store)
}

// openHubOver opens an ingest that sees bus by way of over.
func openHubOver(t *testing.T, bus *backbone.Backbone, over Bus, cfg Config, store *memoryStore) *hub {
	t.Helper()
	return openHubStoring(t, bus, over, cfg, store, store)
}

// openHubStoring opens an ingest whose store has memory within.
func openHubStoring(t *testing.T, bus *backbone.Backbone, over Bus, cfg Config, store Store, memory *memoryStore) *hub {
	t.Helper()
	in, err := Open(context.Background(), cfg, over, store, prometheus.NewRegistry(), quiet())
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{t: t, bus: bus, store: memory, Ingest: in}
	t.Cleanup(func() {
		if !h.stopped {
			ended, end := context.WithCancel(context.Background())
			end()
			h.Stop(ended)
		}
		h.mustAddUp()
	})
	return h
}

// close stops the hub gently, and its NATS.
func (h *hub) close() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h.stopped = true
	if err := h.Stop(ctx); err != nil {
		h.t.Fatalf("stop: %v", err)
	}
	h.bus.Close()
}

// mustAddUp checks the account of each device.
func (h *hub) mustAddUp() Counts {
	h.t.Helper()
	audit := h.Audit()
	for _, d := range audit.Devices {
		if err := d.Check(); err != nil {
			h.t.Errorf("%s: %v", d.Device, err)
		}
	}
	if err := audit.Total.Check(); err != nil {
		h.t.Errorf("total: %v", err)
	}
	return audit.Total
}

func (h *hub) of(device string) Counts {
	h.t.Helper()
	for _, d := range h.Audit(device).Devices {
		return d.Counts
	}
	return Counts{}
}

// settled waits until nothing of the device is queued.
func (h *hub) settled(device string, received uint64) Counts {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("%d readings of %s are settled", received, device), func() bool {
		c := h.of(device)
		return c.Queued == 0 && c.Received == received
	})
	return h.of(device)
}

// send commits one payload.
func (h *hub) send(device, payload string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.sendBy(ctx, device, payload); err != nil {
		h.t.Fatalf("commit: %v", err)
	}
}

func (h *hub) sendBy(ctx context.Context, device, payload string) error {
	committed := make(single, 1)
	if _, err := h.journal.append(ctx, device, telemetry(h.t, payload), received, committed); err != nil {
		return err
	}
	select {
	case err := <-committed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// quarantined returns the quarantine, the oldest first.
func (h *hub) quarantined() []Quarantined {
	h.t.Helper()
	items, _, err := h.Quarantine(context.Background(), Filter{}, 0, 1000)
	if err != nil {
		h.t.Fatal(err)
	}
	slices.Reverse(items)
	return items
}

// journalState is what the stream holds.
func journalState(t *testing.T, bus *backbone.Backbone) jetstream.StreamState {
	t.Helper()
	info, err := journalStream(t, bus).Info(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return info.State
}

func journalStream(t *testing.T, bus *backbone.Backbone) jetstream.Stream {
	t.Helper()
	stream, err := bus.JetStream().Stream(context.Background(), backbone.Journal)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// telemetry decodes a payload as devices send it.
func telemetry(t testing.TB, payload string) *wire.Telemetry {
	t.Helper()
	var d wire.Decoder
	var decoded wire.Telemetry
	if err := d.DecodePayload([]byte(payload), &decoded); err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	return &decoded
}

// numbered is a payload with one reading that has a number and a time of its own.
func numbered(boot string, seq uint64) string {
	return fmt.Sprintf(`{"boot":%q,"seq":%d,"ts":%d,"values":{"n":%d}}`, boot, seq, received-100_000+int64(seq), seq)
}

// eventually waits for a condition that nobody tells of.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// recorder is a waiter that remembers what it was told.
type recorder struct {
	mu     sync.Mutex
	joined map[uint64]bool
	told   map[uint64][]error
	order  []uint64
	look   func(gen uint64, err error) // called within Committed
	c      chan uint64
}

func newRecorder() *recorder {
	return &recorder{joined: map[uint64]bool{}, told: map[uint64][]error{}, c: make(chan uint64, 10_000)}
}

func (r *recorder) Join(gen uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := !r.joined[gen]
	r.joined[gen] = true
	return first
}

func (r *recorder) Committed(gen uint64, err error) {
	if r.look != nil {
		r.look(gen, err)
	}
	r.mu.Lock()
	r.told[gen] = append(r.told[gen], err)
	r.order = append(r.order, gen)
	r.mu.Unlock()
	r.c <- gen
}

// mustBeTold checks that each commit that was joined was told once.
func (r *recorder) mustBeTold(t *testing.T, want error) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.IsSorted(r.order) {
		t.Errorf("commits were told in the order %v", r.order)
	}
	for gen := range r.joined {
		if len(r.told[gen]) != 1 || r.told[gen][0] != want {
			t.Errorf("commit %d was told %v; want once %v", gen, r.told[gen], want)
		}
	}
	if len(r.told) != len(r.joined) {
		t.Errorf("told of %d commits, joined %d", len(r.told), len(r.joined))
	}
}

func countLines(lines []string, part string) (n int) {
	for _, l := range lines {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

func joinLines(lines []string) string {
	return string(bytes.TrimSpace([]byte(strings.Join(lines, "\n"))))
}
