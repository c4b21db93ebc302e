package enrolment_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/backbone"
	"telemetryhub/devices"
	"telemetryhub/devices/enrolment"
)

func TestEnrolmentGivesADeviceItsOwnCredentials(t *testing.T) {
	o := open(t, newMemoryKV(), newMemoryKV(), true)
	secret, id := o.add(enrolment.Terms{Limit: 2, Type: "climate", Tags: []string{"hall"}, Pattern: "node-*"})
	made, err := o.keys.Enrol(t.Context(), devices.EnrolRequest{
		Key: secret, Device: "node-1", Type: "climate", Model: "c2", Firmware: "1.4", Attributes: map[string]string{"room": "A"}, Transport: "http",
	})
	if err != nil {
		t.Fatal(err)
	}
	d, ok := o.registry.Get("node-1")
	switch {
	case !ok || !d.Enabled || d.Type != "climate" || len(d.Tags) != 1 || d.Attributes["room"] != "A":
		t.Errorf("the registry has %+v", d)
	case d.Enrolled == nil || d.Enrolled.Key != id || d.Enrolled.Model != "c2" || d.Enrolled.Firmware != "1.4" || !d.Unconfirmed():
		t.Errorf("enrolled: %+v", d.Enrolled)
	}
	if !o.authenticates("node-1", made.Token) {
		t.Error("its token is not taken")
	}
	if o.authenticates("node-1", secret) || o.authenticates("", secret) {
		t.Error("the enrolment key is taken for the device's token")
	}
	o.wantUsed(id, 1)
	if len(o.events) != 1 || o.events[0].Device != "node-1" || o.events[0].Key.ID != id || o.events[0].Again || len(o.cleared) != 1 {
		t.Errorf("told: %+v, cleared %v", o.events, o.cleared)
	}
}

// TestEnrolmentRefusals is the matrix of what is wrong with a key, a device or both.
func TestEnrolmentRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, newMemoryKV(), newMemoryKV(), true)
		for _, id := range []string{"made-by-hand", "node-off"} {
			if _, _, err := o.registry.Create(t.Context(), devices.Device{ID: id}); err != nil {
				t.Fatal(err)
			}
		}
		good, goodID := o.add(enrolment.Terms{Limit: 10, Type: "climate", Pattern: "node-*"})
		anyID, _ := o.add(enrolment.Terms{Limit: 10})
		spent, _ := o.add(enrolment.Terms{Limit: 1})
		o.wantToken(spent, "first")
		old, _ := o.add(enrolment.Terms{Limit: 10, Expires: time.Now().Add(time.Hour)})
		off, offID := o.add(enrolment.Terms{Limit: 10})
		removed, removedID := o.add(enrolment.Terms{Limit: 10})
		no := false
		if _, err := o.keys.Change(t.Context(), offID, enrolment.Change{Enabled: &no}); err != nil {
			t.Fatal(err)
		}
		if _, err := o.keys.Remove(t.Context(), removedID); err != nil {
			t.Fatal(err)
		}
		o.wantToken(good, "node-disabled")
		if _, err := o.registry.Update(t.Context(), "node-disabled", func(d *devices.Device) error { d.Enabled = false; return nil }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // until old has expired
		for _, c := range []struct {
			name, key, device, kind, reason string
			status                          int
		}{
			{"no such key", "enr_" + strings.Repeat("x", 43), "node-1", "", "bad_credentials", 401},
			{"a device's token", "dev_abc", "node-1", "", "bad_credentials", 401},
			{"no key", "", "node-1", "", "bad_credentials", 401},
			{"a removed key", removed, "node-1", "", "bad_credentials", 401},
			{"no such key, of a device that exists", "enr_wrong", "made-by-hand", "", "bad_credentials", 401},
			{"no such key, bad id", "enr_wrong", "a/b", "", "bad_credentials", 401},
			{"an expired key", old, "node-1", "", "key_expired", 403},
			{"an expired key, of a device that exists", old, "made-by-hand", "", "key_expired", 403},
			{"a disabled key", off, "node-1", "", "key_disabled", 403},
			{"a disabled key, of a device that exists", off, "made-by-hand", "", "key_disabled", 403},
			{"an exhausted key", spent, "second", "", "key_exhausted", 403},
			{"wrong type", good, "node-1", "pump", "wrong_type", 403},
			{"id outside of the pattern", good, "pump-1", "climate", "id_not_allowed", 403},
			{"id outside of the pattern, of a device that exists", good, "made-by-hand", "", "id_not_allowed", 403},
			{"bad id", anyID, "a/b", "", "invalid", 422},
			{"id of a device made by hand", anyID, "made-by-hand", "", "device_exists", 409},
			{"id of a device of another key", anyID, "first", "", "device_exists", 409},
			{"a disabled device of the key", good, "node-disabled", "", "device_disabled", 403},
		} {
			made, err := o.keys.Enrol(t.Context(), devices.EnrolRequest{Key: c.key, Device: c.device, Type: c.kind})
			if e := wantReason(t, made, err, c.reason); e.Status != c.status {
				t.Errorf("%s: status %d, want %d", c.name, e.Status, c.status)
			}
			if _, ok := o.registry.Get("node-1"); ok {
				t.Fatalf("%s: there is a device all the same", c.name)
			}
		}
		o.wantUsed(goodID, 1)
		if v, _ := o.keys.Get(goodID); v.Refused["wrong_type"] != 1 || v.Refused["id_not_allowed"] != 2 {
			t.Errorf("the key's refusals: %v", v.Refused)
		}
		o.wantToken(good, "node-1") // none of it has harmed the key
	})
}

func TestEnrolmentSignsARequest(t *testing.T) {
	o := open(t, newMemoryKV(), newMemoryKV(), true)
	secret, id := o.add(enrolment.Terms{Limit: 2})
	made, err := o.keys.Enrol(t.Context(), devices.EnrolRequest{Key: secret, Device: "d1", CSR: []byte("bad")})
	if e := wantReason(t, made, err, "bad_csr"); e.Status != 422 {
		t.Errorf("status %d", e.Status)
	}
	o.wantUsed(id, 0)
	for range 2 { // the second time in place of the first
		made, err = o.keys.Enrol(t.Context(), devices.EnrolRequest{Key: secret, Device: "d1", CSR: []byte("good")})
		if err != nil || made.Certificate == nil || string(made.Certificate.PEM) != "PEM of d1" {
			t.Fatalf("certificate %v, %v", made.Certificate, err)
		}
		if d, _ := o.registry.Get("d1"); len(d.Certificates) != 1 || d.Certificates[0].Fingerprint != made.Certificate.Fingerprint {
			t.Errorf("the registry has %+v", d.Certificates)
		}
	}
	o.wantToken(secret, "d1")
	if d, _ := o.registry.Get("d1"); len(d.Certificates) != 0 {
		t.Error("without a request it kept the certificate of before")
	}
	o.wantUsed(id, 1)
}

// TestEnrolmentCountsExactly has 100 devices come at once for a key of 40, on a real bus.
func TestEnrolmentCountsExactly(t *testing.T) {
	bus, err := backbone.Open(t.Context(), backbone.Config{Dir: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close() })
	registry, err := bus.Bucket(t.Context(), backbone.Devices)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := bus.Bucket(t.Context(), backbone.Enrolment)
	if err != nil {
		t.Fatal(err)
	}
	// Two hubs: whatever one knows, the bucket decides.
	hubs := []*office{open(t, registry, kv, false), open(t, registry, kv, false)}
	secret, id := hubs[0].add(enrolment.Terms{Limit: 40})
	eventually(t, func() bool { _, err := hubs[1].keys.Get(id); return err == nil })
	var wait sync.WaitGroup
	var mu sync.Mutex
	tokens := map[string]string{}
	for i := range 100 {
		wait.Go(func() {
			device := fmt.Sprintf("d%d", i)
			made, err := hubs[i%2].enrol(secret, device)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				tokens[device] = made.Token
			} else if refused := (*devices.EnrolError)(nil); !errors.As(err, &refused) || refused.Reason != "key_exhausted" && refused.Reason != "too_many_refusals" {
				t.Errorf("%s: %v", device, err)
			}
		})
	}
	wait.Wait()
	if len(tokens) != 40 {
		t.Errorf("%d devices have a token, want 40", len(tokens))
	}
	for _, o := range hubs {
		eventually(t, func() bool { return o.registry.Len() == 40 })
		for device, token := range tokens {
			if !o.authenticates(device, token) {
				t.Errorf("%s has a token that is not taken", device)
			}
		}
		eventually(t, func() bool { v, _ := o.keys.Get(id); return v.Used == 40 && v.Left == 0 })
	}
}

// eventually asks until ok says yes: a watch brings what another hub has done.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it did not come to pass")
		}
	}
}

// TestEnrolmentOfOneDeviceTwiceAtOnce counts it once, and leaves one token.
func TestEnrolmentOfOneDeviceTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keysKV := newMemoryKV()
		o := open(t, newMemoryKV(), keysKV, true)
		secret, id := o.add(enrolment.Terms{Limit: 5})
		keysKV.before = func() { time.Sleep(time.Millisecond) }
		tokens := make(chan string, 2)
		for range 2 {
			go func() {
				made, err := o.enrol(secret, "d1")
				if err != nil {
					t.Error(err)
				}
				tokens <- made.Token
			}()
		}
		a, b := <-tokens, <-tokens
		if o.authenticates("d1", a) == o.authenticates("d1", b) {
			t.Error("of two enrolments of one device not exactly one token is good")
		}
		o.wantUsed(id, 1)
		keysKV.before = nil
	})
}

func TestEnrolmentAgainUntilConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, newMemoryKV(), newMemoryKV(), true)
		secret, id := o.add(enrolment.Terms{Limit: 1})
		lost := o.wantToken(secret, "d1")
		time.Sleep(devices.ConfirmWithin / 2)
		token := o.wantToken(secret, "d1") // also where the key is exhausted
		o.wantUsed(id, 1)
		if !o.events[1].Again {
			t.Error("the second time is not told as such")
		}
		time.Sleep(devices.ConfirmWithin/2 - time.Second)
		last := o.wantToken(secret, "d1")
		time.Sleep(time.Second) // it began with the first one
		o.wantRefusal(secret, "d1", "already_enrolled")
		if o.authenticates("d1", lost) || o.authenticates("d1", token) {
			t.Error("a token that was replaced is good all the same")
		}
		if !o.authenticates("d1", last) {
			t.Error("a token that was not confirmed in time is void")
		}
		o.wantUsed(id, 1)
	})
}

func TestEnrolmentUseConfirms(t *testing.T) {
	o := open(t, newMemoryKV(), newMemoryKV(), true)
	secret, id := o.add(enrolment.Terms{Limit: 3})
	token := o.wantToken(secret, "d1")
	if !o.authenticates("d1", token) {
		t.Fatal("the token is not taken")
	}
	if d, _ := o.registry.Get("d1"); d.Unconfirmed() {
		t.Error("its use did not confirm it")
	}
	if e := o.wantRefusal(secret, "d1", "already_enrolled"); e.Status != 409 {
		t.Errorf("status %d", e.Status)
	}
	if !o.authenticates("d1", token) {
		t.Error("the refused enrolment has voided the token")
	}

	again := true
	if _, err := o.keys.Change(t.Context(), id, enrolment.Change{Again: &again}); err != nil {
		t.Fatal(err)
	}
	fresh := o.wantToken(secret, "d1") // after a factory reset
	if o.authenticates("d1", token) || !o.authenticates("d1", fresh) {
		t.Error("the token from before the reset is not replaced")
	}
	o.wantUsed(id, 1)
}

// TestEnrolmentLeavesNothingHalfMade ends an enrolment between its steps, as a crash would.
func TestEnrolmentLeavesNothingHalfMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		devicesKV, keysKV := newMemoryKV(), newMemoryKV()
		o := open(t, devicesKV, keysKV, true)
		secret, id := o.add(enrolment.Terms{Limit: 1})

		devicesKV.breakWith(errors.New("the disk is full"))
		if e := o.wantRefusal(secret, "d1", "unavailable"); e.Status != 503 || e.RetryAfter == 0 {
			t.Errorf("refused with %+v", e)
		}
		devicesKV.breakWith(nil)
		if _, ok := o.registry.Get("d1"); ok {
			t.Error("there is a device")
		}
		// Whether the device was made is not known for sure: its place is held until nobody makes it any more.
		if e := o.wantRefusal(secret, "d1", "key_exhausted"); e.RetryAfter == 0 {
			t.Error("it does not say when to come again")
		}
		again := open(t, devicesKV, keysKV, true) // a restart: nobody makes it
		again.wantUsed(id, 0)
		again.wantToken(secret, "d2")

		other, otherID := o.add(enrolment.Terms{Limit: 1})
		devicesKV.breakWith(errors.New("the disk is full"))
		o.wantRefusal(other, "d3", "unavailable")
		devicesKV.breakWith(nil)
		time.Sleep(time.Minute + time.Second)
		o.wantUsed(otherID, 0)
		o.wantToken(other, "d4")
		o.wantUsed(otherID, 1)

		third, thirdID := o.add(enrolment.Terms{Limit: 1})
		o.lost = errors.New("the audit log is full")
		o.wantRefusal(third, "d5", "unavailable")
		o.lost = nil
		o.wantToken(third, "d5") // it was made, and not told
		o.wantUsed(thirdID, 1)

		o.notReady = errors.New("the audit log is full")
		fourth, fourthID := o.add(enrolment.Terms{Limit: 1})
		o.wantRefusal(fourth, "d6", "unavailable")
		o.wantUsed(fourthID, 0)
	})
}

// TestEnrolmentLosesARace has an operator make the device between claim and creation.
func TestEnrolmentLosesARace(t *testing.T) {
	devicesKV, keysKV := newMemoryKV(), newMemoryKV()
	o := open(t, devicesKV, keysKV, true)
	secret, id := o.add(enrolment.Terms{Limit: 1})
	keysKV.before = sync.OnceFunc(func() {
		if _, _, err := o.registry.Create(t.Context(), devices.Device{ID: "d1"}); err != nil {
			t.Error(err)
		}
	})
	o.wantRefusal(secret, "d1", "device_exists")
	if d, _ := o.registry.Get("d1"); d.Enrolled != nil {
		t.Error("the operator's device was taken over")
	}
	o.wantUsed(id, 0)
	o.wantToken(secret, "d2")
}

// TestEnrolmentRefusalsAreRated holds that they grow alike, say nothing, and do not stop the good ones.
func TestEnrolmentRefusalsAreRated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, newMemoryKV(), newMemoryKV(), true)
		secret, id := o.add(enrolment.Terms{Limit: 100, Pattern: "node-*"})
		other, _ := o.add(enrolment.Terms{Limit: 100, Pattern: "pump-*"})
		for range 30 {
			o.wantRefusal(secret, "pump-1", "id_not_allowed")
		}
		if e := o.wantRefusal(secret, "pump-1", "too_many_refusals"); e.Status != 429 || e.RetryAfter == 0 {
			t.Errorf("refused with %+v", e)
		}
		o.wantToken(secret, "node-1")                         // the same key, and nothing wrong
		o.wantRefusal(other, "node-1", "id_not_allowed")      // another key's rate is its own
		o.wantRefusal(secret, "node-1/", "too_many_refusals") // still
		if v, _ := o.keys.Get(id); v.Refused["id_not_allowed"] != 31 || v.Refused["invalid"] != 1 {
			t.Errorf("counted: %v", v.Refused)
		}
		told := len(o.refused)
		time.Sleep(2 * time.Second)
		o.wantRefusal(secret, "pump-1", "id_not_allowed")
		if len(o.refused) != told+1 || o.refused[told].Suppressed != 1 {
			t.Errorf("told %d more, of which the last hides %d", len(o.refused)-told, o.refused[len(o.refused)-1].Suppressed)
		}

		// Unknown keys have the rate of all.
		for range 400 {
			_, _ = o.enrol("enr_guess", "node-1")
		}
		o.wantRefusal("enr_guess", "node-1", "too_many_refusals")
		o.wantToken(secret, "node-2")
	})
}
