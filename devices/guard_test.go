package devices_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// Whatever makes a credential void ends the session that rests on it, at once, and nothing else does.
func TestAChangeOfTheRegistryEndsTheSession(t *testing.T) {
	ctx := context.Background()
	disable := func(d *devices.Device) error { d.Enabled = false; return nil }
	for _, c := range []struct {
		change string
		make   func(r *devices.Registry) error
		reason string // "": the session stays
	}{
		{"new token", func(r *devices.Registry) error { _, err := r.NewToken(ctx, "d1"); return err }, "credentials revoked"},
		{"disabled", func(r *devices.Registry) error { _, err := r.Update(ctx, "d1", disable); return err }, "disabled"},
		{"deleted", func(r *devices.Registry) error { return r.Delete(ctx, "d1") }, "deleted"},
		{"tagged", func(r *devices.Registry) error {
			_, err := r.Update(ctx, "d1", func(d *devices.Device) error { d.Tags = []string{"a"}; return nil })
			return err
		}, ""},
		{"another device", func(r *devices.Registry) error { return r.Delete(ctx, "d2") }, ""},
	} {
		for _, where := range []string{"this hub", "another hub"} {
			t.Run(c.change+" by "+where, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHub(t)
					d := h.dial("d1")
					d.hello(`{}`)
					registry := h.registry
					if where != "this hub" {
						registry = openRegistry(t, h.kv)
					}
					start := time.Now()
					if err := c.make(registry); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					if c.reason == "" {
						if !h.sessions.Presence("d1").Online {
							t.Fatal("its session ended")
						}
						return
					}
					if reason := d.wantClose(wire.CloseRevoked); reason != c.reason || time.Since(start) != 0 {
						t.Errorf("closed with %q after %v, want %q at once", reason, time.Since(start), c.reason)
					}
					if p := h.sessions.Presence("d1"); p.Online || p.Cause != c.reason {
						t.Errorf("presence %+v", p)
					}
				})
			})
		}
	}
}

// The ledger hears why a device leaves before its connection ends, from the one that changed it.
func TestLeavingIsToldBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dialMute("d1")
		synctest.Wait()
		session := h.session("d1")
		if err := h.registry.Delete(t.Context(), "d1"); err != nil {
			t.Fatal(err)
		}
		wantLines(t, h.answers.lines(), "leaving d1 deleted", fmt.Sprint("ended d1 ", session))
		d.wantClose(wire.CloseRevoked)
	})
}

// An import that disables a device ends its session like any other change.
func TestAnImportEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		d.hello(`{}`)
		m, err := devices.OpenImporter(t.Context(), h.registry, h.kv, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		off := false
		if _, err := m.Import(t.Context(), []devices.Entry{{ID: "d1", Enabled: &off}}, devices.UpdateExisting, false); err != nil {
			t.Fatal(err)
		}
		if reason := d.wantClose(wire.CloseRevoked); reason != "disabled" {
			t.Errorf("reason %q", reason)
		}
	})
}

// What proofs rest on beside the registry has changed.
func TestCheckAll(t *testing.T) {
	s, _ := newSessions()
	r := openRegistry(t, newMemoryKV())
	if _, _, err := r.Create(t.Context(), devices.Device{ID: "d1"}); err != nil {
		t.Fatal(err)
	}
	g := devices.NewGuard(r, s, nil)
	certificate := devices.Proof{Kind: devices.ProofCertificate, ID: "ab12", Expires: time.Now().Add(-time.Second)}
	l := &link{}
	s.Attach(devices.Attachment{Device: "d1", Proof: certificate, Link: l})
	g.CheckAll(t.Context())
	wantLines(t, l.closes, "4003 credentials expired")
}
