package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/backbone"
)

// shardStore keeps one type a field, as a shard of InfluxDB does, and rejects a write with another.
type shardStore struct{ typedStore }

func newShardStore() *shardStore {
	s := &shardStore{typedStore{memoryStore: &memoryStore{}, types: map[string]map[string]FieldType{}}}
	s.answers(func(_ context.Context, lines []byte) error {
		s.typesMu.Lock()
		defer s.typesMu.Unlock()
		for _, line := range splitLines(lines) {
			series, rest, _ := strings.Cut(line, " ")
			measurement, _, _ := strings.Cut(series, ",")
			if s.types[measurement] == nil {
				s.types[measurement] = map[string]FieldType{}
			}
			rest = rest[:strings.LastIndexByte(rest, ' ')]
			for field := range strings.SplitSeq(rest, ",") {
				name, value, _ := strings.Cut(field, "=")
				kind := FloatField
				switch {
				case value[0] == '"':
					kind = StringField
				case value == "true", value == "false":
					kind = BooleanField
				case value[len(value)-1] == 'i':
					kind = IntegerField
				}
				if had := s.types[measurement][name]; had != "" && had != kind {
					return &RejectedError{Message: fmt.Sprintf("field type conflict: %s is %s", name, had)}
				}
				s.types[measurement][name] = kind
			}
		}
		return nil
	})
	return s
}

func openShardHub(t *testing.T, dir string, store *shardStore) *hub {
	t.Helper()
	bus := openBus(t, backbone.Config{Dir: dir})
	return openHubStoring(t, bus, bus, testConfig(), store, store.memoryStore)
}

func (h *hub) setType(c TypeChange) FieldInfo {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	set, err := h.SetType(ctx, c)
	if err != nil || set.State == TypeQueued {
		h.t.Fatalf("set %+v: %+v, %v", c, set, err)
	}
	return set.Field
}

// TestAWrongFirstValueIsMendedByAChangeOfTheTypeAndARetry is the operators' case: a device that was not ready said true
// where a number was meant.
func TestAWrongFirstValueIsMendedByAChangeOfTheTypeAndARetry(t *testing.T) {
	dir, store := t.TempDir(), newShardStore()
	h := openShardHub(t, dir, store)
	h.send("a", `{"boot":"b","seq":1,"readings":[{"values":{"temp":true}},{"values":{"temp":20.5}},{"values":{"temp":"21"}},{"values":{"temp":"n/a"}}]}`)
	if c := h.settled("a", 4); c.Stored != 1 || c.Quarantined != 3 {
		t.Fatalf("counts %+v", c)
	}
	now := h.setType(TypeChange{Measurement: "telemetry", Field: "temp", Type: FloatField, By: "ada"})
	if now.Type != FloatField || now.StoredAs != "temp_float" || now.By != "ada" || now.At.IsZero() ||
		len(now.Earlier) != 1 || now.Earlier[0] != (EarlierType{BooleanField, "temp"}) {
		t.Fatalf("the field is now %+v", now)
	}
	bulk, err := h.RetryAll(t.Context(), Filter{Reason: reasonTypeConflict}, 0, 100)
	if err != nil || !maps.Equal(bulk.Fates, map[Fate]uint64{FateStored: 2, FateQuarantined: 1}) {
		t.Fatalf("retried: %+v, %v", bulk, err)
	}
	h.send("a", `{"boot":"b","seq":5,"values":{"temp":22}}`)
	if c := h.settled("a", 5); c.Stored != 4 || c.Quarantined != 1 {
		t.Fatalf("counts %+v", c)
	}
	h.close()

	h = openShardHub(t, dir, store) // what was set outlives the hub
	h.send("b", `{"values":{"temp":false}}`)
	h.send("b", `{"values":{"temp":"23"}}`)
	if c := h.settled("b", 2); c.Stored != 1 || c.Quarantined != 1 {
		t.Fatalf("counts after a restart %+v", c)
	}
	var fields []string
	for _, line := range store.accepted() {
		fields = append(fields, strings.Fields(line)[1])
	}
	want := "temp=true temp_float=21 temp_float=20.5 temp_float=22 temp_float=23"
	if got := strings.Join(fields, " "); got != want {
		t.Fatalf("stored %s; want %s", got, want)
	}
	if q := h.quarantined(); len(q) != 2 || !strings.Contains(q[0].Message, `"temp" is stored as float, and came as string`) {
		t.Fatalf("quarantine %+v", q)
	}
	all, err := h.Types(t.Context(), "")
	if err != nil || len(all) != 2 || all[0].Field != "temp" || all[1].Field != "temp_float" || all[1].StoredAs != "temp_float" {
		t.Fatalf("types %+v, %v", all, err)
	}
}

// TestAFieldThatTheStoreDoesNotHoldKeepsItsName: the device's type said integer, and no value was one.
func TestAFieldThatTheStoreDoesNotHoldKeepsItsName(t *testing.T) {
	store := newShardStore()
	h := openShardHub(t, t.TempDir(), store)
	for _, field := range []string{"Wh", "new"} {
		now := h.setType(TypeChange{Measurement: "power", Field: field, Type: IntegerField})
		if now.StoredAs != field || len(now.Earlier) != 0 {
			t.Errorf("%+v", now)
		}
	}
	h.send("a", `{"measurement":"power","values":{"Wh":1.5}}`)
	if c := h.settled("a", 1); c.Quarantined != 1 {
		t.Fatalf("counts %+v", c)
	}
	if now := h.setType(TypeChange{Measurement: "power", Field: "Wh", Type: FloatField}); now.StoredAs != "Wh" {
		t.Errorf("%+v", now)
	}
	if s := h.retry(h.quarantined()[0].ID); s.Fate != FateStored {
		t.Errorf("retried: %+v", s)
	}
	if again := h.setType(TypeChange{Measurement: "power", Field: "Wh", Type: FloatField}); len(again.Earlier) != 1 {
		t.Errorf("setting what is set already made a change: %+v", again)
	}
}

// TestAConflictInTheStoreStopsNobody forces values of a new type into the name of the old one.
func TestAConflictInTheStoreStopsNobody(t *testing.T) {
	store := newShardStore()
	h := openShardHub(t, t.TempDir(), store)
	h.send("a", `{"values":{"temp":"n/a"}}`)
	h.settled("a", 1)
	if now := h.setType(TypeChange{Measurement: "telemetry", Field: "temp", Type: FloatField, As: "temp"}); now.StoredAs != "temp" {
		t.Fatalf("%+v", now)
	}
	h.send("a", `{"readings":[{"values":{"temp":1}},{"values":{"other":2}}]}`)
	if c := h.settled("a", 3); c.Stored != 2 || c.Quarantined != 1 {
		t.Fatalf("counts %+v", c)
	}
	if q := h.quarantined(); len(q) != 1 || q[0].Reason != "store_rejected" || q[0].Message != "field type conflict: temp is string" {
		t.Fatalf("quarantine %+v", q)
	}
	h.setType(TypeChange{Measurement: "telemetry", Field: "temp", Type: FloatField, As: "celsius"})
	if s := h.retry(h.quarantined()[0].ID); s.Fate != FateStored {
		t.Fatalf("retried: %+v", s)
	}
	if lines := joinLines(store.accepted()); !strings.Contains(lines, "celsius=1 ") {
		t.Fatal(lines)
	}
}

func TestTwoFieldsAreNotStoredByOneName(t *testing.T) {
	store := newShardStore()
	h := openShardHub(t, t.TempDir(), store)
	h.send("a", `{"values":{"temp":"n/a","other":1}}`)
	h.settled("a", 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := h.SetType(ctx, TypeChange{Measurement: "telemetry", Field: "temp", Type: FloatField, As: "other"}); !errors.Is(err, ErrFieldTaken) {
		t.Errorf("the name of another field: %v", err)
	}
	h.setType(TypeChange{Measurement: "telemetry", Field: "temp", Type: FloatField})
	h.send("a", `{"readings":[{"values":{"temp":1,"temp_float":2}},{"values":{"temp_float":3}},{"values":{"temp_float":"x"}}]}`)
	if c := h.settled("a", 4); c.Stored != 2 || c.Quarantined != 2 {
		t.Fatalf("counts %+v", c)
	}
	if q := h.quarantined(); q[0].Reason != "field_twice" || !strings.Contains(q[0].Frame, "temp=1,temp_float=2") {
		t.Fatalf("quarantine %+v", q)
	}
}

// TestACrashAfterAChangeJudgesWhatCameBeforeItAsBefore stops hard once the registry has the change and before the store
// took what stood before and behind it in one batch, and goes on.
func TestACrashAfterAChangeJudgesWhatCameBeforeItAsBefore(t *testing.T) {
	dir, store, cfg := t.TempDir(), newShardStore(), testConfig()
	h := openShardHub(t, dir, store)
	h.send("a", `{"boot":"b","seq":1,"values":{"temp":true}}`)
	h.settled("a", 1)
	h.close()

	judge := store.answer
	store.answers(hang)
	cfg.BatchAge = time.Second
	bus := openBus(t, backbone.Config{Dir: dir})
	h = openHubStoring(t, bus, bus, cfg, store, store.memoryStore)
	h.send("a", `{"boot":"b","seq":2,"readings":[{"values":{"temp":1}},{"values":{"temp":false}}]}`)
	h.setType(TypeChange{Measurement: "telemetry", Field: "temp", Type: FloatField, As: "celsius"})
	h.send("a", `{"boot":"b","seq":4,"readings":[{"values":{"temp":2}},{"values":{"temp":true}}]}`)
	if c := h.mustAddUp(); c.Stored != 1 || c.Queued != 4 {
		t.Fatalf("the writer did not wait with the change in its hands: %+v", c)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	h.stopped = true
	if err := h.Stop(ended); err == nil {
		t.Fatal("the store took the batch")
	}
	h.bus.Close()

	store.answers(judge)
	for range 2 { // the second time all is behind the position
		h = openShardHub(t, dir, store)
		if c := h.settled("a", 5); c.Stored != 3 || c.Quarantined != 2 {
			t.Fatalf("counts %+v", c)
		}
		if all, err := h.Types(t.Context(), ""); err != nil || len(all) != 2 || all[1].StoredAs != "celsius" || len(all[1].Earlier) != 1 {
			t.Errorf("the change is there more than once: %+v, %v", all, err)
		}
		if devices := h.Audit().Devices; len(devices) != 1 {
			t.Errorf("the change is taken for a device's: %+v", devices)
		}
		h.close()
	}
	var fields []string
	for _, line := range store.accepted() {
		fields = append(fields, strings.Fields(line)[1])
	}
	if got := strings.Join(fields, " "); got != "temp=true temp=false celsius=2" {
		t.Fatalf("stored %s", got)
	}
}

// TestAReplayAfterAChangeMakesTheSamePoints goes over a change of the type.
func TestAReplayAfterAChangeMakesTheSamePoints(t *testing.T) {
	store := newShardStore()
	h := openShardHub(t, t.TempDir(), store)
	h.send("a", `{"boot":"b","seq":1,"values":{"temp":"n/a"}}`)
	h.settled("a", 1)
	h.setType(TypeChange{Measurement: "telemetry", Field: "temp", Type: FloatField})
	h.send("a", `{"boot":"b","seq":2,"values":{"temp":2}}`)
	h.settled("a", 2)
	made := store.acceptedInNanos()
	if _, err := h.StartReplay(time.UnixMilli(0), time.UnixMilli(received+1), ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replay is done", func() bool { r, _ := h.Replay(); return r.State == ReplayDone })
	again := store.acceptedInNanos()[len(made):]
	if strings.Join(again, "\n") != strings.Join(made, "\n") || len(made) != 2 {
		t.Fatalf("replayed\n%s\nmade\n%s", joinLines(again), joinLines(made))
	}
}

func TestAChangeWithoutRoomIsRefused(t *testing.T) {
	store, cfg := newShardStore(), testConfig()
	cfg.Fields.Measurement = 1
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	h := openHubStoring(t, bus, bus, cfg, store, store.memoryStore)
	h.send("a", `{"values":{"temp":"n/a"}}`)
	h.settled("a", 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := h.SetType(ctx, TypeChange{Measurement: "telemetry", Field: "temp", Type: FloatField}); !errors.Is(err, ErrNoRoom) {
		t.Errorf("one name more than there may be: %v", err)
	}
	h.send("a", `{"values":{"temp":1}}`)
	if c := h.settled("a", 2); c.Stored != 2 {
		t.Fatalf("counts %+v", c)
	}
}

func TestAStoreThatIsAwayIsAskedOrItsNamesAreGiven(t *testing.T) {
	store := newShardStore()
	h := openShardHub(t, t.TempDir(), store)
	var fault error = &retryLater{}
	store.fault.Store(&fault)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := h.SetType(ctx, TypeChange{Measurement: "m", Field: "f", Type: FloatField}); !errors.Is(err, ErrStoreBusy) {
		t.Errorf("a store that does not say: %v", err)
	}
	h.setType(TypeChange{Measurement: "m", Field: "f", Type: FloatField, As: "f"})
}

func TestAChangeThatTheWriterHasNotComeToIsQueued(t *testing.T) {
	dir, store := t.TempDir(), newShardStore()
	h := openShardHub(t, dir, store)
	judge := store.answer
	store.answers(hang)
	h.send("a", `{"values":{"temp":true}}`)
	eventually(t, "the store was tried", func() bool { return store.tries() >= 1 })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		eventually(t, "the change is in the journal", func() bool { return journalState(t, h.bus).LastSeq >= 2 })
		h.send("b", `{"measurement":"other","values":{"x":1}}`) // told behind it
	}()
	set, err := h.SetType(ctx, TypeChange{Measurement: "telemetry", Field: "temp", Type: FloatField, As: "celsius"})
	if err != nil || set.State != TypeQueued || set.Field.StoredAs != "celsius" {
		t.Fatalf("%+v, %v", set, err)
	}
	store.answers(judge)
	ended, end := context.WithCancel(t.Context())
	end()
	h.stopped = true
	_ = h.Stop(ended) // the batch that hangs is left
	h.bus.Close()
	h = openShardHub(t, dir, store)
	eventually(t, "the change is made after the restart", func() bool {
		all, err := h.Types(t.Context(), "telemetry")
		return err == nil && len(all) == 2 && all[0].Field == "celsius" && all[1].StoredAs == "celsius"
	})
}

func TestARetryKeepsToTheBudgetOfNames(t *testing.T) {
	dir, store, cfg := t.TempDir(), &memoryStore{}, testConfig()
	cfg.Fields.Device = 2
	h := openHub(t, dir, cfg, store)
	h.send("a", `{"readings":[{"values":{"x":true,"y":1}},{"values":{"z":1}},{"values":{"x":1}}]}`)
	if c := h.settled("a", 3); c.Stored != 1 || c.Quarantined != 2 {
		t.Fatalf("counts %+v", c)
	}
	aside := h.quarantined()
	if s := h.retry(aside[0].ID); s.Fate != FateQuarantined || s.Reason != "too_many_names" {
		t.Fatalf("retried within the old budget: %+v", s)
	}
	h.close()

	cfg.Fields.Device = 1
	h = openHub(t, dir, cfg, store)
	h.send("a", `{"values":{"q":1}}`)
	if s := h.retry(aside[1].ID); s.Fate != FateQuarantined || s.Reason != "too_many_names" {
		t.Fatalf("a line over the budget: %+v", s)
	}
	if q := h.quarantined(); len(q) != 2 || !strings.Contains(q[1].Frame, "telemetry,device=a x=1 ") {
		t.Fatalf("its line was not kept: %+v", q)
	}
	h.close()

	cfg.Fields.Device = 3
	h = openHub(t, dir, cfg, store)
	if s := h.retry(aside[0].ID); s.Fate != FateStored {
		t.Fatalf("retried within the raised budget: %+v", s)
	}
}

// TestASecondChangeIsNotLostWhileTheJournalIsStuck: the one before was given up by who asked for it, and stands in an envelope all
// the same; the two must not share it, for an envelope is a place of the journal.
func TestASecondChangeIsNotLostWhileTheJournalIsStuck(t *testing.T) {
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	over := &flakyBus{Backbone: bus}
	free := make(chan struct{})
	over.onPublish(func(_ context.Context, forward func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		select {
		case <-free:
			return forward()
		default:
			return nil, errFlaky
		}
	})
	store := newShardStore()
	h := openHubStoring(t, bus, over, testConfig(), store, store.memoryStore)
	h.Refuse("a", "any") // the envelope on its way
	c := TypeChange{Measurement: "telemetry", Field: "temp", Type: FloatField}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := h.SetType(short, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the first: %v", err)
	}
	c.Type = IntegerField
	told := make(chan error, 1)
	go func() {
		set, err := h.SetType(t.Context(), c)
		if err == nil && (set.State != TypeApplied || set.Field.Type != IntegerField) {
			err = fmt.Errorf("it came to %+v", set)
		}
		told <- err
	}()
	time.AfterFunc(300*time.Millisecond, func() { close(free) })
	if err := <-told; err != nil {
		t.Error(err)
	}
}
