package devices_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

const overlap = 10 * time.Minute

// shortLived is of tokens that end before their devices rotate them.
func shortLived() devices.TokenConfig {
	return devices.TokenConfig{Grace: 2 * overlap, Overlap: overlap}
}

// token gives a device one more token of that life.
func (h *renewing) token(id string, life, keep time.Duration) (secret, credential string) {
	h.t.Helper()
	secret, made, err := h.registry.AddToken(h.t.Context(), id, devices.TokenRequest{Life: life, Keep: keep})
	if err != nil {
		h.t.Fatal(err)
	}
	return secret, made.ID
}

func TestExpiryEndsTheSession(t *testing.T) {
	for _, life := range []time.Duration{time.Second, 59 * time.Second, 90 * time.Second, 10 * time.Minute} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newRenewing(t, shortLived())
				start := time.Now()
				h.tokens["d1"], _ = h.token("d1", life, 0)
				d := h.live("d1")
				d.hello(`{}`)
				other := h.live("d2")
				other.hello(`{}`)
				if reason := d.wantClose(wire.CloseRevoked); reason != "credentials expired" {
					t.Errorf("reason %q", reason)
				}
				if took := time.Since(start); took < life || took > life+time.Second {
					t.Errorf("ended after %v", took)
				}
				if !h.sessions.Presence("d2").Online {
					t.Error("another device's session ended too")
				}
			})
		})
	}
}

// Keep shortens the life of a token that a connection rests on already.
func TestAKeptTokenEndsWhenItIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, shortLived())
		d := h.live("d1")
		d.hello(`{}`)
		start := time.Now()
		fresh, _ := h.token("d1", 0, 20*time.Second)
		h.wantGood(h.tokens["d1"], nil)
		h.wantGood(fresh, nil)
		d.wantClose(wire.CloseRevoked)
		if took := time.Since(start); took < 20*time.Second || took > 21*time.Second {
			t.Errorf("ended after %v", took)
		}
		h.wantGood(h.tokens["d1"], devices.ErrExpired) // replaced: there is no grace
		h.wantGood(fresh, nil)
		h.wantTokens("d1", "valid")
	})
}

func TestRevokingOneTokenEndsItsSessionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, shortLived())
		first := h.tokens["d1"]
		second, id := h.token("d1", 0, day)
		d := h.live("d1")
		d.hello(`{}`)
		if err := h.rotation.Revoke(t.Context(), "d1", id); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !h.sessions.Presence("d1").Online {
			t.Error("another token's session ended")
		}
		h.wantGood(second, devices.ErrCredentials)
		h.wantGood(first, nil)
		all, _ := h.rotation.List("d1")
		if len(all) != 1 || !all[0].InUse {
			t.Fatalf("left are %+v", all)
		}
		start := time.Now()
		if err := h.rotation.Revoke(t.Context(), "d1", all[0].ID); err != nil {
			t.Fatal(err)
		}
		if reason := d.wantClose(wire.CloseRevoked); reason != "credentials revoked" || time.Since(start) != 0 {
			t.Errorf("%q after %v", reason, time.Since(start))
		}
		wantErr(t, "revoke again", h.rotation.Revoke(t.Context(), "d1", id), devices.ErrNoCredential)
		wantErr(t, "of no device", h.rotation.Revoke(t.Context(), "none", id), devices.ErrNotFound)
	})
}

// Within its grace an expired token gets its device a new one, and nothing else.
func TestRenewalOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, shortLived())
		h.states.set(wire.State{Version: 7, Desired: json.RawMessage(`{"secret":1}`), Delta: json.RawMessage(`{"secret":1}`)})
		h.tokens["d1"], _ = h.token("d1", time.Minute, 0)
		time.Sleep(time.Minute)
		d := h.live("d1")
		if got := d.next(); !strings.Contains(got, `"hub.notice"`) || !strings.Contains(got, `"credentials_expired"`) {
			t.Errorf("it is told %q", got)
		}
		d.send(`{"id":1,"method":"hello","params":{"boot":"b"}}`)
		if got := d.next(); !strings.Contains(got, `"session"`) || strings.Contains(got, "secret") {
			t.Errorf("hello is answered %q", got)
		}
		for _, frame := range []string{
			`{"id":2,"method":"telemetry","params":{"values":{"T":1}}}`, `{"T":1}`, `{"id":2,"method":"event","params":{"name":"x"}}`,
			`{"id":2,"method":"state","params":{"reported":{"a":1}}}`, `{"id":"X","result":1}`, `{"id":2,"method":"progress","params":{"id":"x"}}`,
		} {
			d.send(frame)
			if e := d.offer().Error; e == nil || e.Code != wire.CodeCredentials || e.Data.Reason != wire.ReasonCredentials {
				t.Errorf("%s is answered %+v", frame, e)
			}
		}
		time.Sleep(5 * time.Second)
		wantLines(t, h.sink.lines())
		if lines := h.answers.lines(); len(lines) != 0 {
			t.Errorf("the ledger was told %q", lines)
		}
		if p := h.sessions.Presence("d1"); p.Online || !p.ConnectedAt.IsZero() {
			t.Errorf("presence %+v", p)
		}
		if err := h.sessions.Send("d1", 0, wire.Command{}); err == nil {
			t.Error("it was sent a command")
		}
		d.send(`{"id":3,"method":"credentials"}`)
		fresh := d.offer().Result.Token
		h.tokens["d1"] = fresh
		renewed := h.live("d1")
		renewed.hello(`{}`)
		renewed.send(`{"id":4,"method":"telemetry","params":{"values":{"T":1}}}`)
		renewed.want(result("4"))
		synctest.Wait()
		h.wantTokens("d1", "valid")
		d.wantClose(wire.CloseRevoked) // its token is void now
	})
}

// A connection that may only renew displaces none, is displaced by none, and does not stay.
func TestRenewalStandsAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, shortLived())
		expired, _ := h.token("d1", time.Second, 0)
		fresh, _ := h.token("d1", 0, day)
		h.tokens["d1"] = fresh
		live := h.live("d1")
		live.hello(`{}`)
		time.Sleep(2 * time.Second)
		h.tokens["d1"] = expired
		aside := h.live("d1")
		start := time.Now()
		synctest.Wait()
		if p := h.sessions.Presence("d1"); !p.Online || p.Session != h.session("d1") {
			t.Errorf("presence %+v", p)
		}
		live.send(`{"id":1,"method":"telemetry","params":{"values":{"T":1}}}`)
		live.want(result("1"))
		newer := h.live("d1")
		aside.wantClose(wire.CloseReplaced)
		newer.wantClose(wire.CloseRevoked)
		if took := time.Since(start); took < time.Minute || took > 62*time.Second {
			t.Errorf("it stayed for %v", took)
		}
		if !h.sessions.Presence("d1").Online {
			t.Error("the live connection ended with it")
		}
		newer = h.live("d1")
		if _, err := h.registry.Update(t.Context(), "d1", func(d *devices.Device) error { d.Enabled = false; return nil }); err != nil {
			t.Fatal(err)
		}
		for _, d := range []*device{newer, live} {
			if reason := d.wantClose(wire.CloseRevoked); reason != "disabled" {
				t.Errorf("reason %q", reason)
			}
		}
	})
}

func TestAfterTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, shortLived())
		h.tokens["d1"], _ = h.token("d1", time.Minute, 0)
		time.Sleep(time.Minute + 2*overlap - 10*time.Second)
		d := h.live("d1")
		if reason := d.wantClose(wire.CloseRevoked); reason != "credentials expired" {
			t.Errorf("as the grace ended it was closed with %q", reason)
		}
		_, resp, err := upgrade(h.listener.dial(), "/connect", bearer(h.tokens["d1"]))
		if err == nil || resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("answered %v, %v", resp, err)
		}
		var problem struct{ Reason string }
		if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil || problem.Reason != wire.ReasonCredentials {
			t.Errorf("reason %+v, %v", problem, err)
		}
		h.wantTokens("d1")
	})
}

// Wherever the hub or the device is cut off in a rotation, whatever the device may hold at that moment lets it in: at
// once, and for as long as the overlap says.
func TestNoCutLeavesADeviceWithVoidTokens(t *testing.T) {
	steps := []string{"begun", "offered", "stored", "answered", "confirmed", "connected", "used"}
	for cut := range steps {
		for _, after := range []time.Duration{0, overlap - time.Minute} {
			t.Run(fmt.Sprint(steps[cut], after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newRenewing(t, shortLived())
					held := h.rotateUntil(steps[cut])
					h.kv.breakWith(errors.New("killed")) // nothing more is written
					time.Sleep(after)
					again, err := devices.OpenRegistry(t.Context(), h.kv, shortLived())
					if err != nil {
						t.Fatal(err)
					}
					defer again.Close()
					for _, token := range held {
						if _, p, err := again.Authenticate("d1", token); err != nil || p.Renewal {
							t.Errorf("a token that it may hold proves %+v, %v", p, err)
						}
					}
				})
			})
		}
	}
}

// rotateUntil rotates d1's token up to a step, and returns what the device may hold then.
func (h *renewing) rotateUntil(step string) (held []string) {
	old := h.tokens["d1"]
	d := h.live("d1")
	d.hello(`{}`)
	if step == "begun" {
		h.kv.breakWith(errors.New("killed"))
		<-h.rotate(h.t.Context(), "d1")
		return []string{old}
	}
	done := h.rotate(h.t.Context(), "d1")
	o := d.offer()
	fresh := o.Params.Token
	switch step {
	case "offered", "stored": // on its way, or there: written to the flash, or not yet
		return []string{old, fresh}
	case "answered":
		h.kv.breakWith(errors.New("killed"))
	}
	d.send(`{"id":` + string(o.ID) + `,"result":{}}`)
	r := <-done
	if want := map[bool]devices.RotationOutcome{true: devices.Unanswered, false: devices.Confirmed}[step == "answered"]; r.outcome != want {
		h.t.Errorf("rotated %+v, want %s", r, want)
	}
	if step == "answered" || step == "confirmed" {
		return []string{old, fresh} // one that says so before its flash has it
	}
	if step == "connected" {
		h.kv.breakWith(errors.New("killed"))
	}
	h.tokens["d1"] = fresh
	h.live("d1").hello(`{}`)
	synctest.Wait()
	return []string{fresh}
}
