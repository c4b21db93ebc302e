package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/backbone"
)

// TestAWriterFasterThanTheCommitsNoteLeavesNothingQueued holds NATS's ack back until the reading is in the store.
func TestAWriterFasterThanTheCommitsNoteLeavesNothingQueued(t *testing.T) {
	store := &memoryStore{}
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	over := &flakyBus{Backbone: bus}
	h := openHubOver(t, bus, over, testConfig(), store)
	h.send("a", numbered("b", 1))
	h.settled("a", 1)
	over.onPublish(func(_ context.Context, forward func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		ack, err := forward()
		eventually(t, "the writer has it", func() bool { return h.mustAddUp().Stored == 2 })
		if c := h.of("a"); c.Queued != 0 || c.Received != 2 {
			t.Errorf("counts %+v before the ack", c)
		}
		if d := h.last("a", "b"); d != 1 {
			t.Errorf("durable %d before the ack", d)
		}
		return ack, err
	})
	h.send("a", numbered("b", 2))
	if c := h.of("a"); c.Queued != 0 || c.Received != 2 || c.Stored != 2 {
		t.Fatalf("counts %+v", c)
	}
}

// TestEverythingAtOnce lets all the callers work while the store comes and goes and NATS fails now and then, and stops
// in the middle. What was acked is there after the next start, each reading once.
func TestEverythingAtOnce(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	store.answers(func(context.Context, []byte) error {
		if rand.N(3) == 0 {
			return &retryLater{time.Millisecond}
		}
		return nil
	})
	bus := openBus(t, backbone.Config{Dir: dir})
	over := &flakyBus{Backbone: bus}
	over.failEvery.Store(20)
	over.onPublish(func(_ context.Context, forward func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		ack, err := forward()
		if rand.N(50) == 0 {
			return nil, errFlaky
		}
		return ack, err
	})
	cfg := testConfig()
	cfg.Keep = 0 // purged all the time
	h := openHubOver(t, bus, over, cfg, store)
	reg := prometheus.NewRegistry()
	reg.MustRegister(h.Ingest)

	const devices = 20
	var acked [devices]atomic.Uint64
	var refused atomic.Uint64
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range devices {
		device := fmt.Sprintf("d%d", i)
		all.Go(func() {
			for seq := uint64(1); ; seq++ {
				err := h.sendBy(context.Background(), device, numbered("b", seq))
				if errors.Is(err, ErrStopped) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				acked[i].Store(seq)
				if got := h.last(device, "b"); got != seq {
					t.Errorf("%s: durable %d after the ack of %d", device, got, seq)
				}
			}
		})
	}
	for _, look := range []func(){
		func() { h.mustAddUp() },
		func() { h.Status() },
		func() { h.Refuse("refused", "bad_json"); refused.Add(1) },
		func() { s := h.Feed.Subscribe(1); defer s.Close(); h.Latest.Get("d1") },
		func() {
			if _, err := reg.Gather(); err != nil {
				t.Error(err)
			}
		},
		func() {
			w := h.writer
			w.mu.Lock()
			defer w.mu.Unlock()
			for device, a := range w.accounts {
				if err := a.Check(); err != nil {
					t.Errorf("%s: %v", device, err)
				}
			}
		},
	} {
		all.Go(func() {
			for ctx.Err() == nil {
				look()
			}
		})
	}
	eventually(t, "each device has some", func() bool {
		for i := range acked {
			if acked[i].Load() < 10 {
				return false
			}
		}
		return true
	})
	stop()
	h.close()
	all.Wait()

	store.answers(nil)
	h = openHub(t, dir, cfg, store)
	for i := range acked {
		device := fmt.Sprintf("d%d", i)
		eventually(t, "nothing is queued", func() bool { return h.of(device).Queued == 0 })
		c, n := h.of(device), acked[i].Load()
		// One more may have become durable and its ack been lost by the stop.
		if c.Stored != c.Received || c.Stored < n || c.Stored > n+1 {
			t.Errorf("%s: %+v; %d were acked", device, c, n)
		}
		if lines := uint64(countLines(store.accepted(), "device="+device+" ")); lines != c.Stored {
			t.Errorf("%s: %d lines of %d", device, lines, c.Stored)
		}
	}
	if got := h.of("refused").Refused["bad_json"]; got > refused.Load() {
		t.Errorf("%d refused of %d", got, refused.Load())
	}
}

// TestAFrameOfAnySizeFitsTheQuarantine sets aside what JSON would blow up, and a line that is longer than its reading.
func TestAFrameOfAnySizeFitsTheQuarantine(t *testing.T) {
	store := &memoryStore{}
	store.answers(func(context.Context, []byte) error {
		return &RejectedError{Message: strings.Repeat("långt ", 1000)}
	})
	h := openHub(t, t.TempDir(), testConfig(), store)
	text := strings.Repeat(`<\"\u0001`, 7000)
	h.send("a", fmt.Sprintf(`{"readings":[{"values":{"s":"%s","x":[]}},{"values":{"s":"%s"}}]}`, text, text))
	if c := h.settled("a", 2); c.Quarantined != 2 {
		t.Fatalf("counts %+v", c)
	}
	items := h.quarantined()
	if want := fmt.Sprintf(`{"values":{"s":"%s","x":[]}}`, text); len(items) != 2 || items[0].Frame != want {
		t.Fatalf("the quarantine has %d items, the first of %d bytes", len(items), len(items[0].Frame))
	}
	if len(items[1].Message) > longestMessage || !strings.HasPrefix(items[1].Message, "långt ") {
		t.Fatalf("message of %d bytes", len(items[1].Message))
	}

	q := &quarantine{most: 100}
	msg, err := q.message(Quarantined{Device: "a", Reason: "store_rejected", Message: "the store's words", Frame: strings.Repeat("ö", 80)})
	if err != nil || len(msg.Data) != 100 || !strings.Contains(msg.Header.Get(quarantineHeader), "of 160 bytes the first 100 are kept; the store's words") {
		t.Fatalf("message %v %v", msg, err)
	}
}
