package acts_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"telemetryhub/auth/acts"
	"telemetryhub/backbone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine starts a real NATS in the process, on files of its own.
func engine(t testing.TB, cfg backbone.Config) *backbone.Backbone {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	bus, err := backbone.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close() })
	return bus
}

func open(t testing.TB, js jetstream.JetStream) *acts.Log {
	t.Helper()
	l, err := acts.Open(t.Context(), js, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, l) })
	return l
}

func shut(t testing.TB, l *acts.Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}

func appendAct(t testing.TB, l *acts.Log, a acts.Act) {
	t.Helper()
	if err := l.Append(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

// all returns the acts of an export, by a text of each.
func all(t testing.TB, l *acts.Log, q acts.Query) (texts []string) {
	t.Helper()
	err := l.Export(t.Context(), q, func(a acts.Act) error {
		texts = append(texts, strings.TrimSpace(a.Act+" "+a.Device+a.Target))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

func sent(id string, at time.Time) acts.Act {
	return acts.Act{Act: acts.CommandSend, Target: id, Time: at, Outcome: acts.Accepted}
}

func TestWhatWasAppendedIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	bus := engine(t, backbone.Config{Dir: dir})
	l := open(t, bus.JetStream())
	appendAct(t, l, acts.Act{
		Actor: "ada", Role: "admin", Origin: "10.0.0.7", Act: "device.create", Device: "d1", Facts: map[string]any{"type": "meter"}, Outcome: acts.Accepted,
	})
	_ = bus.Close()
	again := open(t, engine(t, backbone.Config{Dir: dir}).JetStream())
	found, next, err := again.List(t.Context(), acts.Query{Limit: 10})
	if err != nil || next != "" || len(found) != 1 {
		t.Fatalf("%+v, %q, %v", found, next, err)
	}
	a := found[0]
	if a.ID != "1-0" || a.Actor != "ada" || a.Role != "admin" || a.Origin != "10.0.0.7" || a.Device != "d1" || a.Facts["type"] != "meter" || a.Outcome != "accepted" || time.Since(a.Time) > time.Minute {
		t.Errorf("act %+v", a)
	}
}

func TestNobodyTakesAnActOut(t *testing.T) {
	js := engine(t, backbone.Config{}).JetStream()
	appendAct(t, open(t, js), acts.Act{Act: "device.delete"})
	stream, err := js.Stream(t.Context(), backbone.Acts)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("an act was deleted")
	}
	if err := stream.Purge(t.Context()); err == nil {
		t.Error("the log was purged")
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 1 || info.Config.MaxAge != backbone.DefaultActsKeep || info.Config.MaxBytes != backbone.DefaultActsMaxBytes {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestTheLogIsBoundedByBytesAndTheOldestGo(t *testing.T) {
	const most = 1 << 20
	js := engine(t, backbone.Config{ActsMaxBytes: most, ActsKeep: 2 * time.Hour}).JetStream()
	l := open(t, js)
	text := strings.Repeat("x", 4000)
	for i := range 600 {
		l.Note(acts.Act{Act: fmt.Sprintf("act.n%d", i), Facts: map[string]any{"text": text}})
	}
	appendAct(t, l, acts.Act{Act: "act.last"})
	stream, err := js.Stream(t.Context(), backbone.Acts)
	if err != nil {
		t.Fatal(err)
	}
	if info := stream.CachedInfo(); info.State.Bytes > most || info.State.FirstSeq == 1 || info.Config.MaxAge != 2*time.Hour {
		t.Errorf("%d bytes from place %d on, kept for %v", info.State.Bytes, info.State.FirstSeq, info.Config.MaxAge)
	}
	kept := all(t, l, acts.Query{})
	if n := len(kept); n < 100 || n > 400 || kept[n-1] != "act.last" || kept[n-2] != "act.n599" || kept[0] == "act.n0" {
		t.Errorf("%d acts are kept, from %s to %s", len(kept), kept[0], kept[len(kept)-1])
	}
}

func TestWhatIsTooLongIsCut(t *testing.T) {
	l := open(t, engine(t, backbone.Config{}).JetStream())
	appendAct(t, l, acts.Act{Act: "command.x", Detail: strings.Repeat("é", 5000), Facts: map[string]any{"params": strings.Repeat("x", 9000), "method": "set"}})
	found, _, err := l.List(t.Context(), acts.Query{Limit: 1})
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if a := found[0]; len(a.Detail) > 1100 || a.Facts["params"] != "[left out]" || a.Facts["method"] != "set" {
		t.Errorf("detail of %d bytes, facts %v", len(a.Detail), a.Facts)
	}
}

func TestListPagesAndFilters(t *testing.T) {
	l := open(t, engine(t, backbone.Config{}).JetStream())
	began := time.Now()
	var want []string
	for i := range 150 {
		a := acts.Act{Act: "device.update", Device: fmt.Sprintf("d%d", i), Actor: []string{"ada", "otto"}[i%2], Outcome: acts.Accepted}
		if i%50 == 49 {
			a.Act, a.Outcome = "login.failed", acts.Refused
		}
		l.Note(a) // in batches of 64
		want = append(want, a.Device)
	}
	appendAct(t, l, acts.Act{Act: "deviceless"})
	slices.Reverse(want)

	var got []string
	pages := 0
	for q := (acts.Query{Limit: 40, Act: ""}); ; {
		found, next, err := l.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range found {
			if a.Act != "deviceless" {
				got = append(got, a.Device)
			}
		}
		if pages++; next == "" {
			break
		}
		q.Cursor = next
	}
	if !slices.Equal(got, want) || pages != 4 {
		t.Errorf("%d pages of\n%v, want 4 of\n%v", pages, got, want)
	}
	for _, test := range []struct {
		q    acts.Query
		want int
	}{
		{acts.Query{Actor: "ada"}, 75},
		{acts.Query{Device: "d7"}, 1},
		{acts.Query{Act: "device"}, 147}, // and not what only begins so
		{acts.Query{Act: "login.failed"}, 3},
		{acts.Query{Outcome: acts.Refused}, 3},
		{acts.Query{From: began.Add(-time.Minute), To: time.Now().Add(time.Minute)}, 151},
		{acts.Query{From: time.Now().Add(time.Minute)}, 0},
		{acts.Query{To: began.Add(-time.Minute)}, 0},
	} {
		test.q.Limit = 1000
		found, _, err := l.List(t.Context(), test.q)
		if err != nil || len(found) != test.want {
			t.Errorf("%+v: %d acts, %v, want %d", test.q, len(found), err, test.want)
		}
		if exported := all(t, l, test.q); len(exported) != test.want {
			t.Errorf("%+v: %d exported, want %d", test.q, len(exported), test.want)
		}
	}
	if _, _, err := l.List(t.Context(), acts.Query{Limit: 1, Cursor: "x"}); !errors.Is(err, acts.ErrCursor) {
		t.Errorf("a cursor that is none: %v", err)
	}
}

func TestFollowWritesWhatACrashCameBefore(t *testing.T) {
	js := engine(t, backbone.Config{}).JetStream()
	now := time.Now()
	l := open(t, js)
	asked := 0
	if err := l.Follow(t.Context(), func(context.Context, time.Time) ([]acts.Act, error) { asked++; return nil, nil }); err != nil || asked != 0 {
		t.Errorf("an empty log asked the ledger %d times: %v", asked, err)
	}
	l.Note(sent("c1", now))
	appendAct(t, l, sent("c2", now))
	shut(t, l)

	// c3 was in the ledger and not here when the process ended.
	again := open(t, js)
	var since time.Time
	ledger := func(_ context.Context, from time.Time) ([]acts.Act, error) {
		since = from
		return []acts.Act{sent("c3", now), sent("c2", now), sent("c1", now)}, nil
	}
	if err := again.Follow(t.Context(), ledger); err != nil {
		t.Fatal(err)
	}
	appendAct(t, again, acts.Act{Act: "end"})
	want := []string{"command.send c1", "command.send c2", "command.send c3", "end"}
	if got := all(t, again, acts.Query{}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if found, _, _ := again.List(t.Context(), acts.Query{Act: acts.CommandSend, Limit: 1}); len(found) != 1 || !found[0].Recovered {
		t.Errorf("%+v is not marked as recovered", found)
	}
	// The ledger is asked for little more than what may be missing.
	if gap := now.Sub(since); gap < 50*time.Second || gap > 70*time.Second {
		t.Errorf("the ledger was asked from %v before", gap)
	}
	shut(t, again)
	once := open(t, js)
	if err := once.Follow(t.Context(), ledger); err != nil {
		t.Fatal(err)
	}
	appendAct(t, once, acts.Act{Act: "end"})
	if got := all(t, once, acts.Query{}); !slices.Equal(got, append(want, "end")) {
		t.Errorf("at the next start: %q", got)
	}
}

// stubborn is a JetStream that does not publish while a test says so.
type stubborn struct {
	jetstream.JetStream
	mu      sync.Mutex
	refuses bool
	unheard bool // the next one is written, and answered with an error all the same
	tried   chan struct{}
}

func (s *stubborn) Publish(ctx context.Context, subject string, data []byte, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	s.mu.Lock()
	refuses, unheard := s.refuses, s.unheard
	s.unheard = false
	s.mu.Unlock()
	if refuses {
		select {
		case s.tried <- struct{}{}:
		default:
		}
		return nil, errors.New("no room")
	}
	ack, err := s.JetStream.Publish(ctx, subject, data, opts...)
	if unheard && err == nil {
		return nil, errors.New("the answer was lost")
	}
	return ack, err
}

func (s *stubborn) set(refuses, unheard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses, s.unheard = refuses, unheard
}

func TestALogThatCannotBeWrittenSaysSoAndKeepsWhatItHas(t *testing.T) {
	js := &stubborn{JetStream: engine(t, backbone.Config{}).JetStream(), tried: make(chan struct{}, 1)}
	l := open(t, js)
	now := time.Now()
	if err := l.Follow(t.Context(), func(context.Context, time.Time) ([]acts.Act, error) {
		found := make([]acts.Act, 0, acts.MaxPending+2)
		for i := range acts.MaxPending + 2 {
			found = append(found, sent(fmt.Sprint(i), now))
		}
		return found, nil
	}); err != nil {
		t.Fatal(err)
	}
	js.set(true, false)
	l.Note(sent("0", now))
	<-js.tried
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Append(ctx, acts.Act{Act: "device.create"}); err == nil || !strings.Contains(err.Error(), "no room") || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("append: %v", err)
	}
	if err := l.Err(); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("Err: %v", err)
	}
	for i := 1; i < acts.MaxPending+2; i++ { // two more than there is room for
		l.Note(sent(fmt.Sprint(i), now))
	}
	l.Note(acts.Act{Act: "login.failed"})
	if err := l.Append(t.Context(), acts.Act{Act: "device.create"}); !errors.Is(err, acts.ErrFull) {
		t.Errorf("append to a full queue: %v", err)
	}
	if s := l.Stats(); s.Pending != acts.MaxPending || s.Lost != 1 || s.Failures == 0 {
		t.Errorf("%+v", s)
	}

	js.set(false, true) // and the first that is written is written unheard
	ids := map[string]int{}
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for len(ids) < acts.MaxPending+2 {
		select {
		case <-deadline.C:
			t.Fatalf("only %d commands are in the log", len(ids))
		case <-time.After(20 * time.Millisecond):
		}
		clear(ids)
		if err := l.Export(t.Context(), acts.Query{Act: acts.CommandSend}, func(a acts.Act) error { ids[a.Target]++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for id, n := range ids {
		if n != 1 {
			t.Errorf("command %s is in the log %d times", id, n)
		}
	}
	if got := all(t, l, acts.Query{Act: "device"}); !slices.Equal(got, []string{"device.create"}) {
		t.Errorf("%q: what nobody waited for any more must be there, once", got)
	}
	if err := l.Err(); err != nil {
		t.Errorf("Err: %v, though it is written again", err)
	}
}

func TestCommandsShareWritesAndSomebodyWhoWaitsDoesNotLinger(t *testing.T) {
	js := engine(t, backbone.Config{}).JetStream()
	l := open(t, js)
	for i := range 640 {
		l.Note(sent(fmt.Sprint(i), time.Now()))
	}
	appendAct(t, l, acts.Act{Act: "end"})
	stream, err := js.Stream(t.Context(), backbone.Acts)
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n > 30 {
		t.Errorf("641 acts took %d writes", n)
	}
	if got := len(all(t, l, acts.Query{})); got != 641 {
		t.Errorf("%d acts", got)
	}
}

func TestACloseWritesWhatWaitsAndThenNothingIsTaken(t *testing.T) {
	js := engine(t, backbone.Config{}).JetStream()
	l := open(t, js)
	for i := range 100 {
		l.Note(sent(fmt.Sprint(i), time.Now()))
	}
	shut(t, l)
	if err := l.Append(t.Context(), acts.Act{Act: "late"}); !errors.Is(err, acts.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if got := len(all(t, l, acts.Query{})); got != 100 {
		t.Errorf("%d acts, want 100", got)
	}
}
