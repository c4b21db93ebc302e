package devices_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/backbone"
	"telemetryhub/devices"
)

// bucket is the registry's bucket of a real backbone.
func bucket(t *testing.T, dir string) jetstream.KeyValue {
	t.Helper()
	b, err := backbone.Open(t.Context(), backbone.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	kv, err := b.Bucket(t.Context(), backbone.Devices)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func openRegistry(t *testing.T, kv jetstream.KeyValue) *devices.Registry {
	t.Helper()
	r, err := devices.OpenRegistry(t.Context(), kv, devices.TokenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// eventually waits until the watch has brought a change of another hub.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		case <-tick.C:
		}
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestRegistry(t *testing.T) {
	r := openRegistry(t, bucket(t, t.TempDir()))
	ctx := t.Context()
	made, token, err := r.Create(ctx, devices.Device{ID: "d1", Type: "climate", Tags: []string{"a"}, Attributes: map[string]string{"room": "A"}})
	if err != nil || !made.Enabled || made.Created.IsZero() || !strings.HasPrefix(token, "dev_") {
		t.Fatalf("created %+v, token %q, %v", made, token, err)
	}
	_, _, err = r.Create(ctx, devices.Device{ID: "d1"})
	wantErr(t, "created twice", err, devices.ErrExists)
	if got, _, err := r.Authenticate("d1", token); err != nil || got.ID != "d1" {
		t.Errorf("authenticated %+v, %v", got, err)
	}
	if got, _, err := r.Authenticate("", token); err != nil || got.ID != "d1" {
		t.Errorf("by token alone %+v, %v", got, err)
	}

	changed, err := r.Update(ctx, "d1", func(d *devices.Device) error {
		d.ID, d.Created, d.Tokens = "other", time.Time{}, nil // these stay
		d.Type, d.Enabled = "power", false
		d.Tags[0], d.Attributes["room"] = "b", "B"
		return nil
	})
	if err != nil || changed.ID != "d1" || changed.Created != made.Created || !slices.Equal(changed.Tokens, made.Tokens) || changed.Type != "power" {
		t.Errorf("updated %+v, %v", changed, err)
	}
	if made.Tags[0] != "a" || made.Attributes["room"] != "A" {
		t.Errorf("what was given out before was changed: %+v", made)
	}
	_, _, err = r.Authenticate("d1", token)
	wantErr(t, "a disabled device", err, devices.ErrDisabled)
	_, _, err = r.Authenticate("d1", token+"x")
	wantErr(t, "a disabled device's wrong token", err, devices.ErrCredentials)
	broken := errors.New("change's own")
	_, err = r.Update(ctx, "d1", func(*devices.Device) error { return broken })
	wantErr(t, "an update that gives up", err, broken)
	if _, err := r.Update(ctx, "d1", func(d *devices.Device) error { d.Enabled = true; return nil }); err != nil {
		t.Error(err)
	}

	second, err := r.NewToken(ctx, "d1")
	if err != nil || second == token {
		t.Fatalf("new token %q, %v", second, err)
	}
	for _, id := range []string{"", "d1"} {
		_, _, err = r.Authenticate(id, token)
		wantErr(t, "the token before", err, devices.ErrCredentials)
		_, _, err = r.Authenticate(id, second)
		wantErr(t, "the new token", err, nil)
	}

	wantErr(t, "delete", r.Delete(ctx, "d1"), nil)
	wantErr(t, "delete again", r.Delete(ctx, "d1"), devices.ErrNotFound)
	_, err = r.Update(ctx, "d1", func(*devices.Device) error { return nil })
	wantErr(t, "update after delete", err, devices.ErrNotFound)
	_, err = r.NewToken(ctx, "d1")
	wantErr(t, "token after delete", err, devices.ErrNotFound)
	_, _, err = r.Authenticate("", second)
	wantErr(t, "token of a deleted device", err, devices.ErrCredentials)
	if _, ok := r.Get("d1"); ok || r.Len() != 0 || len(r.List()) != 0 {
		t.Error("a deleted device is listed")
	}
	if again, _, err := r.Create(ctx, devices.Device{ID: "d1"}); err != nil || again.Type != "" {
		t.Errorf("created again: %+v, %v", again, err)
	}
}

// Ids hold characters that NATS keys do not; none is another's.
func TestRegistrySurvivesARestartWithAllIDs(t *testing.T) {
	dir := t.TempDir()
	ids := []string{"a.b", "a:b", "a-b", "a_b", ".a", "a.", ":", "-", "_kv", "a", "A", strings.Repeat("x", 64), "3A", "a.3A", "urn:dev:mac:0024befffe804ff1"}
	tokens := map[string]string{}
	func() {
		b, err := backbone.Open(t.Context(), backbone.Config{Dir: dir}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		kv, err := b.Bucket(t.Context(), backbone.Devices)
		if err != nil {
			t.Fatal(err)
		}
		r, err := devices.OpenRegistry(t.Context(), kv, devices.TokenConfig{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for _, id := range ids {
			if _, tokens[id], err = r.Create(t.Context(), devices.Device{ID: id, Type: "of " + id}); err != nil {
				t.Fatalf("%q: %v", id, err)
			}
		}
		if err := r.Delete(t.Context(), "a:b"); err != nil {
			t.Fatal(err)
		}
	}()
	delete(tokens, "a:b")
	r := openRegistry(t, bucket(t, dir))
	var listed []string
	for _, d := range r.List() {
		listed = append(listed, d.ID)
	}
	if want := slices.Sorted(maps.Keys(tokens)); !slices.Equal(listed, want) {
		t.Errorf("listed %q, want %q", listed, want)
	}
	for id, token := range tokens {
		if d, _, err := r.Authenticate("", token); err != nil || d.ID != id || d.Type != "of "+id {
			t.Errorf("%q: %+v, %v", id, d, err)
		}
	}
}

func TestInvalidDevices(t *testing.T) {
	r := openRegistry(t, newMemoryKV())
	many := map[string]string{}
	for i := range 65 {
		many[fmt.Sprint(i)] = ""
	}
	for field, d := range map[string]devices.Device{
		"id":           {ID: ""},
		"id ":          {ID: "a b"},
		"id  ":         {ID: strings.Repeat("x", 65)},
		"id   ":        {ID: "é"},
		"type":         {Type: strings.Repeat("x", 129)},
		"tags":         {Tags: slices.Repeat([]string{"t"}, 65)},
		"tags[1]":      {Tags: []string{"a", ""}},
		"tags[0]":      {Tags: []string{"a\nb"}},
		"tags[0] ":     {Tags: []string{strings.Repeat("x", 129)}},
		"attributes":   {Attributes: many},
		"attributes.":  {Attributes: map[string]string{"": "x"}},
		"attributes.a": {Attributes: map[string]string{"a": strings.Repeat("x", 1025)}},
	} {
		field = strings.TrimRight(field, " ")
		if field != "id" {
			d.ID = "d1"
		}
		_, _, err := r.Create(t.Context(), d)
		var invalid *devices.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != field || invalid.Message == "" {
			t.Errorf("%+v: %v, want an InvalidError of %s", d, err, field)
		}
	}
	if _, _, err := r.Create(t.Context(), devices.Device{ID: "d1"}); err != nil {
		t.Fatal(err)
	}
	_, err := r.Update(t.Context(), "d1", func(d *devices.Device) error { d.Tags = []string{""}; return nil })
	var invalid *devices.InvalidError
	if !errors.As(err, &invalid) || invalid.Field != "tags[0]" {
		t.Errorf("an invalid update: %v", err)
	}
	if d, _ := r.Get("d1"); len(d.Tags) != 0 {
		t.Errorf("it was made all the same: %+v", d)
	}
}

// Two hubs on one bucket: what one does the other learns, and neither undoes the other's changes.
func TestTwoHubsShareARegistry(t *testing.T) {
	kv := bucket(t, t.TempDir())
	one, two := openRegistry(t, kv), openRegistry(t, kv)
	ctx := t.Context()
	_, token, err := one.Create(ctx, devices.Device{ID: "a:b"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other hub knows the device", func() bool { _, _, err := two.Authenticate("", token); return err == nil })
	_, _, err = two.Create(ctx, devices.Device{ID: "a:b"})
	wantErr(t, "created on the other hub", err, devices.ErrExists)

	// Both change it at once, from what they know: no change is lost, conflicts are tried again.
	const changes = 20
	var both sync.WaitGroup
	for _, r := range []*devices.Registry{one, two} {
		both.Go(func() {
			for range changes {
				if _, err := r.Update(ctx, "a:b", func(d *devices.Device) error { d.Type += "x"; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	for _, r := range []*devices.Registry{one, two} {
		eventually(t, "all changes of both", func() bool { d, _ := r.Get("a:b"); return len(d.Type) == 2*changes })
	}

	fresh, err := two.NewToken(ctx, "a:b")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old token is void on the other hub", func() bool { _, _, err := one.Authenticate("", token); return errors.Is(err, devices.ErrCredentials) })
	if _, _, err := one.Authenticate("a:b", fresh); err != nil {
		t.Error(err)
	}

	if err := one.Delete(ctx, "a:b"); err != nil {
		t.Fatal(err)
	}
	_, err = two.Update(ctx, "a:b", func(*devices.Device) error { return nil }) // it may not know yet
	wantErr(t, "update of a device that another hub deleted", err, devices.ErrNotFound)
	eventually(t, "the device is gone from the other hub", func() bool { _, ok := two.Get("a:b"); return !ok })
	if _, _, err := two.Create(ctx, devices.Device{ID: "a:b", Type: "new"}); err != nil {
		t.Error(err)
	}
	eventually(t, "the new one of that id", func() bool { d, _ := one.Get("a:b"); return d.Type == "new" })
}

// A deleted device stays deleted though the watch has yet to bring the changes before.
func TestDeletedDeviceIsNotRevivedByTheWatch(t *testing.T) {
	kv := &lateKV{memoryKV: newMemoryKV(), late: make(chan struct{}), passed: make(chan struct{}, 10)}
	r := openRegistry(t, kv)
	_, token, err := r.Create(t.Context(), devices.Device{ID: "d1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Update(t.Context(), "d1", func(d *devices.Device) error { d.Type = "x"; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Create(t.Context(), devices.Device{ID: "d2"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), "d1"); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the changes before the deletion; those of d1 were applied when that of d2 is taken
		kv.late <- struct{}{}
		<-kv.passed
	}
	if _, _, err := r.Authenticate("", token); !errors.Is(err, devices.ErrCredentials) {
		t.Errorf("a deleted device: %v", err)
	}
	close(kv.late)
	<-kv.passed
	if _, _, err := r.Create(t.Context(), devices.Device{ID: "d1"}); err != nil {
		t.Errorf("created again: %v", err)
	}
	<-kv.passed
	if _, ok := r.Get("d1"); !ok {
		t.Error("the new device of that id was taken for the deleted one")
	}
}

// lateKV is a bucket whose watch brings a change when it is told to.
type lateKV struct {
	*memoryKV

	late   chan struct{}
	passed chan struct{} // told when a change was taken
}

func TestRegistryFailures(t *testing.T) {
	kv := newMemoryKV()
	r := openRegistry(t, kv)
	_, token, err := r.Create(t.Context(), devices.Device{ID: "d1"})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("no space left")
	kv.breakWith(broken)
	_, _, err = r.Create(t.Context(), devices.Device{ID: "d2"})
	wantErr(t, "create", err, broken)
	_, err = r.NewToken(t.Context(), "d1")
	wantErr(t, "new token", err, broken)
	wantErr(t, "delete", r.Delete(t.Context(), "d1"), broken)
	if _, _, err := r.Authenticate("d1", token); err != nil || r.Len() != 1 {
		t.Errorf("what was not written holds: %v, %d devices", err, r.Len())
	}
}
