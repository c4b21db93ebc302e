package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/backbone"
	"telemetryhub/wire"
)

// TestAnAckComesAfterTheEnvelopeIsInTheStream looks into the stream while the waiter is told.
func TestAnAckComesAfterTheEnvelopeIsInTheStream(t *testing.T) {
	store := &memoryStore{}
	store.answers(away) // nothing is purged or read
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	h := openHubOn(t, bus, testConfig(), store)
	stream := journalStream(t, bus)
	r := newRecorder()
	r.look = func(gen uint64, err error) {
		msg, getErr := stream.GetMsg(context.Background(), gen) // of a new journal, commit n is message n
		if err != nil || getErr != nil {
			t.Errorf("commit %d was told %v and is in the stream as %v", gen, err, getErr)
			return
		}
		if env, err := openEnvelope(msg.Data); err != nil || env.number != gen {
			t.Errorf("message %d is envelope %d, %v", gen, env.number, err)
		}
		if d := h.last("a", "b"); d < gen {
			t.Errorf("commit %d was told before it was noted: durable %d", gen, d)
		}
	}
	for seq := uint64(1); seq <= 20; seq++ {
		if _, err := h.Append("a", telemetry(t, numbered("b", seq)), received, r); err != nil {
			t.Fatal(err)
		}
		<-r.c
	}
	r.mustBeTold(t, nil)
}

// TestManyAppendsShareACommit sends from many sides at once: each waiter hears of each of its commits once, the order
// of each device is kept, and there are far fewer envelopes than frames.
func TestManyAppendsShareACommit(t *testing.T) {
	store := &memoryStore{}
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	h := openHubOn(t, bus, testConfig(), store)
	const devices, frames = 50, 40
	recorders := make([]*recorder, devices)
	var all sync.WaitGroup
	for i := range devices {
		r := newRecorder()
		recorders[i] = r
		all.Go(func() {
			device := fmt.Sprintf("d%d", i)
			for seq := uint64(1); seq <= frames; seq++ {
				if _, err := h.Append(device, telemetry(t, numbered("b", seq)), received, r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for i, r := range recorders {
		h.settled(fmt.Sprintf("d%d", i), frames)
		r.mustBeTold(t, nil)
	}
	if n := journalState(t, bus).LastSeq; n > devices*frames/10 {
		t.Errorf("%d envelopes for %d frames", n, devices*frames)
	}
	last := map[string]int{}
	for _, line := range store.accepted() {
		var device string
		var n int
		if _, err := fmt.Sscanf(line, "telemetry,device=%s n=%d", &device, &n); err != nil {
			t.Fatal(line, err)
		}
		if n != last[device]+1 {
			t.Fatalf("%s: %d after %d", device, n, last[device])
		}
		last[device] = n
	}
}

// TestAFullJournalHoldsDevicesUntilThereIsRoom fills a small journal while the store is away.
func TestAFullJournalHoldsDevicesUntilThereIsRoom(t *testing.T) {
	store := &memoryStore{}
	store.answers(away)
	bus := openBus(t, backbone.Config{Dir: t.TempDir(), JournalMaxBytes: 1 << 20})
	h := openHubOn(t, bus, testConfig(), store) // KeepBytes and Keep are beyond: only the full journal makes room
	text := strings.Repeat("x", 60<<10)
	var mu sync.Mutex
	acked := 0
	const frames = 40 // more than twice the journal
	done := make(chan error, 1)
	go func() {
		for seq := 1; seq <= frames; seq++ {
			payload := fmt.Sprintf(`{"boot":"b","seq":%d,"values":{"s":%q}}`, seq, text)
			if err := h.sendBy(context.Background(), "a", payload); err != nil {
				done <- err
				return
			}
			mu.Lock()
			acked++
			mu.Unlock()
		}
		done <- nil
	}()
	eventually(t, "the journal is full", func() bool { return h.Status().Journal != nil })
	if !backbone.IsFull(h.Status().Journal) {
		t.Fatalf("fault %v", h.Status().Journal)
	}
	mu.Lock()
	before := acked
	mu.Unlock()
	if got := h.last("a", "b"); got != uint64(before) || before == frames {
		t.Fatalf("%d acked, %d durable", before, got)
	}
	// One whose patience ends is not told that it is durable, and the others go on.
	impatient, end := context.WithCancel(t.Context())
	end()
	if err := h.sendBy(impatient, "c", numbered("b", 1)); !errors.Is(err, context.Canceled) {
		t.Fatalf("an impatient one is told %v", err)
	}
	store.answers(nil)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.settled("a", frames)
	if n := countLines(store.accepted(), "device=a"); n != frames {
		t.Fatalf("%d lines", n)
	}
}

// TestCommitGivesUpWaitingForRoom holds the journal with its one envelope on the way and the next one full.
func TestCommitGivesUpWaitingForRoom(t *testing.T) {
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	over := &flakyBus{Backbone: bus}
	h := openHubOver(t, bus, over, testConfig(), &memoryStore{})
	release := make(chan struct{})
	over.onPublish(func(_ context.Context, forward func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		<-release
		return forward()
	})
	r := newRecorder()
	big := telemetry(t, fmt.Sprintf(`{"a":%q,"b":%q,"c":%q,"d":%q,"e":%q,"f":%q}`, big60, big60, big60, big60, big60, big60))
	for h.fill() < 1 || !h.full() {
		if _, err := h.Append("a", big, received, r); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := h.Commit(ctx, "b", telemetry(t, `{"x":1}`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("commit: %v", err)
	}
	close(release)
	<-r.c
	h.send("b", `{"x":1}`)
	h.settled("b", 1)
}

var big60 = strings.Repeat("y", 60<<10)

// fill is how many envelopes are on their way, full whether the open one takes no more.
func (h *hub) fill() uint64 {
	h.journal.mu.Lock()
	defer h.journal.mu.Unlock()
	return h.journal.open.gen - 1
}

func (h *hub) full() bool {
	h.journal.mu.Lock()
	defer h.journal.mu.Unlock()
	return len(h.journal.open.envelope) >= h.journal.room+h.journal.liveRoom
}

// TestAStopTellsNobodyThatItIsDurable stops while the journal cannot be written, with one waiting for room.
func TestAStopTellsNobodyThatItIsDurable(t *testing.T) {
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	over := &flakyBus{Backbone: bus}
	over.onPublish(func(context.Context, func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		return nil, errFlaky
	})
	h := openHubOver(t, bus, over, testConfig(), &memoryStore{})
	r := newRecorder()
	big := telemetry(t, fmt.Sprintf(`{"a":%q,"b":%q,"c":%q,"d":%q,"e":%q,"f":%q}`, big60, big60, big60, big60, big60, big60))
	for h.fill() < 1 || !h.full() {
		if _, err := h.Append("a", big, received, r); err != nil {
			t.Fatal(err)
		}
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := h.Append("b", telemetry(t, `{"x":1}`), received, r)
		waiting <- err
	}()
	eventually(t, "the fault is known", func() bool { return errors.Is(h.Status().Journal, errFlaky) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.stopped = true
	if err := h.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("stop: %v", err)
	}
	if err := <-waiting; !errors.Is(err, ErrStopped) {
		t.Fatalf("the one that waited is told %v", err)
	}
	r.mustBeTold(t, ErrStopped)
	if _, err := h.Append("a", big, received, r); !errors.Is(err, ErrStopped) {
		t.Fatalf("append after the stop: %v", err)
	}
	h.Refuse("a", "bad_json") // neither blocks nor counts
	if c := h.mustAddUp(); c.Received != 0 {
		t.Fatalf("counts %+v", c)
	}
}

// TestALostAckMakesNoSecondEnvelope loses NATS's acks, and in the end sends an envelope that NATS no longer knows.
func TestALostAckMakesNoSecondReading(t *testing.T) {
	store := &memoryStore{}
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	over := &flakyBus{Backbone: bus}
	h := openHubOver(t, bus, over, testConfig(), store)
	lost := false
	over.onPublish(func(_ context.Context, forward func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		ack, err := forward()
		if lost = !lost; lost {
			return nil, errFlaky
		}
		return ack, err
	})
	for range 5 {
		h.send("a", `{"x":1}`) // without a number: only the envelope tells
	}
	if c := h.settled("a", 5); c.Stored != 5 {
		t.Fatalf("counts %+v", c)
	}
	msg, err := journalStream(t, bus).GetMsg(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.JetStream().Publish(t.Context(), backbone.JournalSubject, msg.Data); err != nil { // beyond NATS's window
		t.Fatal(err)
	}
	h.send("a", `{"x":1}`)
	if c := h.settled("a", 6); c.Stored != 6 || len(store.accepted()) != 6 {
		t.Fatalf("counts %+v", c)
	}
}

// TestAFrameThatNoEnvelopeTakesHarmsNoNeighbour puts one between two others in the same envelope.
func TestAFrameThatNoEnvelopeTakesHarmsNoNeighbour(t *testing.T) {
	store := &memoryStore{}
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	h := openHubOver(t, bus, smallBus{bus}, testConfig(), store)
	r := newRecorder()
	appendOne := func(payload string) error {
		_, err := h.Append("a", telemetry(t, payload), received, r)
		return err
	}
	if err := appendOne(numbered("b", 1)); err != nil {
		t.Fatal(err)
	}
	var refused *wire.Error
	err := appendOne(fmt.Sprintf(`{"boot":"b","seq":2,"values":{"s":%q}}`, big60))
	if !errors.As(err, &refused) || refused.Code != wire.CodeTooLarge || refused.Limit == 0 || refused.Value <= refused.Limit {
		t.Fatalf("the large one: %v", err)
	}
	if err := appendOne(numbered("b", 3)); err != nil {
		t.Fatal(err)
	}
	if err := appendOne(fmt.Sprintf(`{"boot":"b","seq":4,"values":{"s":%q}}`, big60[:refused.Limit-300])); err != nil {
		t.Fatal(err)
	}
	h.Refuse("a", wire.ReasonTooLarge)
	if c := h.settled("a", 4); c.Stored != 3 || c.Refused[wire.ReasonTooLarge] != 1 {
		t.Fatalf("counts %+v", c)
	}
	r.mustBeTold(t, nil)
	for i, want := range []string{" n=1 ", " n=3 ", ` s="yyy`} {
		if got := store.accepted()[i]; !strings.Contains(got, want) {
			t.Errorf("line %d is %.80s", i, got)
		}
	}
}

// smallBus takes messages of 64 KiB only.
type smallBus struct{ *backbone.Backbone }

func (smallBus) MaxMessage() int { return 64 << 10 }

// TestNothingOfAFrameIsKeptByReference changes what was appended at once.
func TestNothingOfAFrameIsKeptByReference(t *testing.T) {
	store := &memoryStore{}
	h := openHub(t, t.TempDir(), testConfig(), store)
	sub := h.Feed.Subscribe(10)
	defer sub.Close()
	r := newRecorder()
	var d wire.Decoder
	var decoded wire.Telemetry
	for i := range 100 {
		payload := fmt.Appendf(nil, `{"measurement":"m%d","boot":"b%d","seq":1,"readings":[{"values":{"n%d":"text %d"}},{"values":{"x":[%d]}}]}`, i, i, i, i, i)
		if err := d.DecodePayload(payload, &decoded); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Append("a", &decoded, received+int64(i), r); err != nil {
			t.Fatal(err)
		}
		for i := range payload {
			payload[i] = byte(rand.N(256))
		}
	}
	h.settled("a", 200)
	for i, line := range store.accepted() {
		if !strings.HasPrefix(line, fmt.Sprintf(`m%d,device=a n%d="text %d" `, i, i, i)) {
			t.Fatalf("line %d is %s", i, line)
		}
	}
	for i, q := range h.quarantined() {
		if want := fmt.Sprintf(`{"values":{"x":[%d]}}`, i); q.Frame != want || q.Boot != fmt.Sprintf("b%d", i) {
			t.Fatalf("quarantined %d is %+v", i, q)
		}
	}
}
