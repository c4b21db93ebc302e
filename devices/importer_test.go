package devices_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/backbone"
	"telemetryhub/devices"
)

var errCrashed = errors.New("crashed")

// crashingKV is a real bucket that takes so many writes more and then none, as if the process had been killed.
type crashingKV struct {
	jetstream.KeyValue
	batch devices.Batch // nil: there are no batches
	left  int           // below 0: it never crashes
}

func (c *crashingKV) write() error {
	if c.left == 0 {
		return errCrashed
	}
	c.left--
	return nil
}

func (c *crashingKV) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	if err := c.write(); err != nil {
		return 0, err
	}
	return c.KeyValue.Put(ctx, key, value)
}

func (c *crashingKV) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if err := c.write(); err != nil {
		return 0, err
	}
	return c.KeyValue.Update(ctx, key, value, revision)
}

func (c *crashingKV) Purge(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	if err := c.write(); err != nil {
		return err
	}
	return c.KeyValue.Purge(ctx, key, opts...)
}

func (c *crashingKV) PutAll(ctx context.Context, keys []string, values [][]byte, revisions []uint64) (uint64, error) {
	if c.batch == nil {
		return 0, errors.New("no batches")
	}
	if err := c.write(); err != nil {
		return 0, err
	}
	return c.batch.PutAll(ctx, keys, values, revisions)
}

func openImporter(t *testing.T, r *devices.Registry, batch devices.Batch) *devices.Importer {
	t.Helper()
	m, err := devices.OpenImporter(t.Context(), r, batch, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func realBucket(t *testing.T) (jetstream.KeyValue, *backbone.Batch) {
	t.Helper()
	b, err := backbone.Open(t.Context(), backbone.Config{Dir: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	kv, err := b.Bucket(t.Context(), backbone.Devices)
	if err != nil {
		t.Fatal(err)
	}
	return kv, b.Batch(backbone.Devices)
}

// fleet is an import of some new devices and one that exists, with long attributes so that its plan has several parts.
func fleet(round int) []devices.Entry {
	long := map[string]*string{}
	for i := range 60 {
		long[fmt.Sprintf("note%d", i)] = new(fmt.Sprintf("%01000d", i))
	}
	var entries []devices.Entry
	for i := range 5 {
		entries = append(entries, devices.Entry{ID: fmt.Sprintf("r%d:%d.", round, i), Type: new("pump"), Attributes: long})
	}
	return append(entries, devices.Entry{ID: "old", Type: new(fmt.Sprintf("round%d", round)), Enabled: new(false)})
}

// TestAnImportIsWholeOrNotAtAllWhereverItStops stops an import before each of its writes in turn, starts the registry
// again, and looks.
func TestAnImportIsWholeOrNotAtAllWhereverItStops(t *testing.T) {
	for _, batches := range []bool{true, false} {
		t.Run(fmt.Sprintf("batches=%v", batches), func(t *testing.T) {
			kv, batch := realBucket(t)
			if _, _, err := openRegistry(t, kv).Create(t.Context(), devices.Device{ID: "old"}); err != nil {
				t.Fatal(err)
			}
			outcomes := map[string]int{}
			for round := 0; ; round++ {
				crashing := &crashingKV{KeyValue: kv, left: -1}
				if batches {
					crashing.batch = batch
				}
				r := openRegistry(t, crashing)
				m := openImporter(t, r, crashing)
				crashing.left = round
				ctx, cancel := context.WithCancel(t.Context())
				_, err := m.Import(ctx, fleet(round), devices.UpdateExisting, false)
				cancel()
				finished := crashing.left > 0

				again := openRegistry(t, kv)
				openImporter(t, again, batch)
				made := 0
				for _, e := range fleet(round) {
					if d, ok := again.Get(e.ID); ok && d.Type == *e.Type {
						made++
					}
				}
				switch {
				case made != 0 && made != len(fleet(round)):
					t.Fatalf("stopped before write %d: %d of %d devices are there (%v)", round, made, len(fleet(round)), err)
				case err == nil && made == 0:
					t.Fatalf("stopped before write %d: said it was done, and nothing is there", round)
				}
				outcomes[fmt.Sprintf("made %v, error %v", made > 0, err != nil)]++
				if finished {
					break
				}
			}
			if outcomes["made false, error true"] == 0 || outcomes["made true, error true"] == 0 || outcomes["made true, error false"] == 0 {
				t.Errorf("not all outcomes were met: %v", outcomes)
			}
			t.Log(outcomes)
		})
	}
}

func TestAnImportThatIsFinishedLaterLeavesWhatWasChangedSince(t *testing.T) {
	kv, batch := realBucket(t)
	crashing := &crashingKV{KeyValue: kv, batch: batch, left: -1}
	r := openRegistry(t, crashing)
	m := openImporter(t, r, crashing)
	entries := []devices.Entry{{ID: "a"}, {ID: "b"}, {ID: "c"}}
	crashing.left = 3 // part, head, devices; the plan stays
	made, err := m.Import(t.Context(), entries, devices.RefuseExisting, false)
	if err != nil || len(made) != 3 {
		t.Fatal(made, err)
	}
	crashing.left = -1
	if err := r.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	token, err := r.NewToken(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	again := openRegistry(t, kv)
	openImporter(t, again, batch)
	if _, ok := again.Get("a"); ok {
		t.Error("a device that was deleted came back")
	}
	_, _, err = again.Authenticate("b", token)
	wantErr(t, "the token made since", err, nil)
	_, _, err = again.Authenticate("c", made[2].Token)
	wantErr(t, "the token of the import", err, nil)
	if keys, _ := kv.Keys(t.Context()); len(keys) != 2 {
		t.Errorf("the bucket holds %v", keys)
	}
}

func TestImport(t *testing.T) {
	kv, batch := realBucket(t)
	r := openRegistry(t, kv)
	m := openImporter(t, r, batch)
	old, oldToken, err := r.Create(t.Context(), devices.Device{ID: "old", Type: "t", Tags: []string{"a"}, Attributes: map[string]string{"x": "1", "y": "2"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Create(t.Context(), devices.Device{ID: "gone"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	bad := []devices.Entry{{ID: "new"}, {ID: "no good"}, {ID: "old"}, {ID: "new"}, {ID: "n2", Tags: &[]string{"\n"}}}
	_, err = m.Import(t.Context(), bad, devices.RefuseExisting, false)
	refused, ok := errors.AsType[*devices.ImportError](err)
	if !ok || len(refused.Faults) != 4 || r.Len() != 1 {
		t.Fatalf("%v; %d devices", err, r.Len())
	}
	for i, want := range []int{1, 2, 3, 4} {
		if refused.Faults[i].Index != want {
			t.Errorf("fault %d is of entry %d, want %d", i, refused.Faults[i].Index, want)
		}
	}
	entries := []devices.Entry{
		{ID: "new", Enabled: new(false)},
		{ID: "old", Tags: &[]string{"b"}, Attributes: map[string]*string{"x": nil, "z": new("3")}},
		{ID: "gone"},
	}
	if _, err := m.Import(t.Context(), entries, devices.UpdateExisting, true); err != nil || r.Len() != 1 {
		t.Fatalf("a check: %v, %d devices", err, r.Len())
	}
	made, err := m.Import(t.Context(), entries, devices.UpdateExisting, false)
	if err != nil || made[0].Outcome != devices.Created || made[1].Outcome != devices.Updated || made[2].Outcome != devices.Created || made[1].Token != "" {
		t.Fatalf("%+v, %v", made, err)
	}
	_, _, err = r.Authenticate("new", made[0].Token)
	wantErr(t, "one that was imported disabled", err, devices.ErrDisabled)
	_, _, err = r.Authenticate("gone", made[2].Token)
	wantErr(t, "one whose id was deleted before", err, nil)
	now, _, err := r.Authenticate("old", oldToken)
	if err != nil || now.Type != "t" || !slices.Equal(now.Tags, []string{"b"}) || fmt.Sprint(now.Attributes) != "map[y:2 z:3]" || !now.Created.Equal(old.Created) {
		t.Errorf("updated: %+v, %v", now, err)
	}
	made, err = m.Import(t.Context(), []devices.Entry{{ID: "old", Type: new("other")}, {ID: "n3"}}, devices.SkipExisting, false)
	if err != nil || made[0].Outcome != devices.Skipped || made[1].Outcome != devices.Created {
		t.Errorf("%+v, %v", made, err)
	}
	if d, _ := r.Get("old"); d.Type != "t" {
		t.Errorf("skipped: %+v", d)
	}
}
