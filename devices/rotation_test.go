package devices_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

const day = 24 * time.Hour

// renewing is a hub with a Rotation and a Guard that run.
type renewing struct {
	*hub
}

func newRenewing(t *testing.T, tokens devices.TokenConfig) *renewing {
	t.Helper()
	h := &renewing{hub: newHubWith(t, devices.Life{}, tokens, 1000, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.rotation.Run(ctx) })
	running.Go(func() { h.guard.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return h
}

// offered is hub.credentials as a device gets it, or the result of `credentials`.
type offered struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params given           `json:"params"`
	Result given           `json:"result"`
	Error  *struct {
		Code int `json:"code"`
		Data struct {
			Reason string `json:"reason"`
			Retry  int64  `json:"retry_after_ms"`
		} `json:"data"`
	} `json:"error"`
}

type given struct {
	Token   string `json:"token"`
	Expires int64  `json:"expires"`
	TTL     int64  `json:"ttl_ms"`
}

// offer returns the next frame of the device as what it is given.
func (d *device) offer() (o offered) {
	d.t.Helper()
	frame := d.next()
	if err := json.Unmarshal([]byte(frame), &o); err != nil {
		d.t.Fatalf("%s got %q, %v", d.id, frame, err)
	}
	return o
}

// live connects a device that answers pings, for as long as it takes.
func (h *renewing) live(id string) *device {
	h.t.Helper()
	d := h.link(id)
	go d.read()
	return d
}

// rotated is what Rotate has returned.
type rotated struct {
	token   devices.Token
	outcome devices.RotationOutcome
	said    string
	err     error
}

func (h *renewing) rotate(ctx context.Context, id string) <-chan rotated {
	done := make(chan rotated, 1)
	go func() {
		var r rotated
		r.token, r.outcome, r.said, r.err = h.rotation.Rotate(ctx, id)
		done <- r
	}()
	return done
}

// wantTokens compares the states of a device's credentials, the oldest first.
func (h *renewing) wantTokens(id string, states ...string) {
	h.t.Helper()
	all, err := h.rotation.List(id)
	var got []string
	for _, c := range all {
		got = append(got, c.State)
	}
	if err != nil || strings.Join(got, " ") != strings.Join(states, " ") {
		h.t.Errorf("%s has credentials %v, %v; want %v", id, got, err, states)
	}
}

// wantGood checks whether a token lets its device in.
func (h *renewing) wantGood(token string, want error) {
	h.t.Helper()
	if _, p, err := h.registry.Authenticate("", token); !errors.Is(err, want) || err == nil && p.Renewal {
		h.t.Errorf("the token proves %+v, %v; want %v", p, err, want)
	}
}

func TestRotationOnTheOpenSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, devices.TokenConfig{Grace: 7 * day, Overlap: overlap})
		old := h.tokens["d1"]
		d := h.live("d1")
		d.hello(`{}`)
		done := h.rotate(t.Context(), "d1")
		o := d.offer()
		if o.Method != "hub.credentials" || !strings.HasPrefix(o.Params.Token, "dev_") || o.Params.Expires != 0 {
			t.Fatalf("offered %+v", o)
		}
		h.wantGood(old, nil)
		h.wantGood(o.Params.Token, nil) // before it says that it has it: the answer may be lost
		h.wantTokens("d1", "valid", "offered")
		if _, _, _, err := h.rotation.Rotate(t.Context(), "d1"); !errors.Is(err, devices.ErrRotating) {
			t.Errorf("a second one meanwhile: %v", err)
		}
		d.send(`{"id":` + string(o.ID) + `,"result":{}}`)
		if r := <-done; r.err != nil || r.outcome != devices.Confirmed {
			t.Fatalf("rotated %+v", r)
		}
		h.wantTokens("d1", "valid", "confirmed")
		if all, _ := h.rotation.List("d1"); all[0].InUse || all[0].LastUsed.IsZero() || !all[1].InUse {
			t.Errorf("uses %+v", all)
		}
		h.wantGood(old, nil) // not used yet
		for _, line := range h.answers.lines() {
			if strings.HasPrefix(line, "answered") {
				t.Errorf("the ledger was told %s", line)
			}
		}
		// The connection stays, and rests on the new token: it outlives the old one.
		time.Sleep(2 * overlap)
		synctest.Wait()
		h.wantGood(old, devices.ErrExpired)
		d.send(`{"id":1,"method":"telemetry","params":{"values":{"T":1}}}`)
		d.want(result("1"))

		h.tokens["d1"] = o.Params.Token
		again := h.live("d1")
		again.hello(`{}`)
		synctest.Wait()
		h.wantTokens("d1", "valid")
		h.wantGood(old, devices.ErrCredentials)
		h.wantGood(o.Params.Token, nil)
		d.wantClose(wire.CloseReplaced)
	})
}

func TestWhatTheDeviceDoesNotTake(t *testing.T) {
	for name, c := range map[string]struct {
		answer  string // instead of the result; "": none
		outcome devices.RotationOutcome
		good    error // of the new token
		states  string
	}{
		"refused":    {`,"error":{"code":-32601,"message":"not here"}}`, devices.Refused, devices.ErrCredentials, "valid"},
		"unanswered": {"", devices.Unanswered, nil, "valid offered"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newRenewing(t, devices.TokenConfig{Grace: 7 * day, Overlap: overlap})
				d := h.live("d1")
				d.hello(`{}`)
				done := h.rotate(t.Context(), "d1")
				o := d.offer()
				if c.answer != "" {
					d.send(`{"id":` + string(o.ID) + c.answer)
				}
				start := time.Now()
				r := <-done
				if r.err != nil || r.outcome != c.outcome || r.said == "" || time.Since(start) > 30*time.Second {
					t.Errorf("after %v: %+v", time.Since(start), r)
				}
				h.wantGood(h.tokens["d1"], nil)
				h.wantGood(o.Params.Token, c.good)
				h.wantTokens("d1", strings.Fields(c.states)...)
				if e := h.eventOf("d1", devices.EventCredentials); e.Reason != string(c.outcome) {
					t.Errorf("the flight recorder has %+v", e)
				}
				if got := h.rotation.Rotations(); got[c.outcome] != 1 {
					t.Errorf("counted %v", got)
				}
			})
		})
	}
}

// An answer that comes after nobody waits for it, and an answer on another connection than that of the offer, count.
func TestALateAnswerConfirms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, devices.TokenConfig{Grace: 7 * day, Overlap: overlap})
		d := h.live("d1")
		d.hello(`{}`)
		done := h.rotate(t.Context(), "d1")
		o := d.offer()
		<-done
		d.send(`{"id":` + string(o.ID) + `,"result":{}}`)
		synctest.Wait()
		h.wantTokens("d1", "valid", "confirmed")
	})
}

// What a connection that is lost leaves: both tokens, whichever the device has. What it comes back with is what it has.
func TestALostConnectionLeavesBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, devices.TokenConfig{Grace: 7 * day, Overlap: overlap})
		d := h.live("d1")
		d.hello(`{}`)
		done := h.rotate(t.Context(), "d1")
		o := d.offer()
		start := time.Now()
		d.ws.Close()
		if r := <-done; r.outcome != devices.Unanswered || time.Since(start) != 0 {
			t.Errorf("after %v: %+v", time.Since(start), r)
		}
		h.wantGood(h.tokens["d1"], nil)
		h.wantGood(o.Params.Token, nil)
		h.tokens["d1"] = o.Params.Token
		h.live("d1").hello(`{}`)
		synctest.Wait()
		h.wantTokens("d1", "valid")
	})
}

func TestWhoCannotBeOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, devices.TokenConfig{Grace: 7 * day, Overlap: overlap})
		if r := <-h.rotate(t.Context(), "d1"); !errors.Is(r.err, devices.ErrOffline) {
			t.Errorf("offline: %v", r.err)
		}
		h.sessions.Attach(devices.Attachment{Device: "d2", Transport: "bridge:x", Link: &link{}, Proof: devices.Proof{Kind: devices.ProofBroker}})
		if r := <-h.rotate(t.Context(), "d2"); !errors.Is(r.err, devices.ErrNotAsked) {
			t.Errorf("behind a broker: %v", r.err)
		}
		h.wantTokens("d2", "valid")
		d := h.live("d3") // which said nothing yet
		synctest.Wait()
		if r := <-h.rotate(t.Context(), "d3"); r.outcome != devices.Refused || !strings.Contains(r.said, "not sent") {
			t.Errorf("before it is ready: %+v", r)
		}
		h.wantTokens("d3", "valid")
		d.ws.Close()
	})
}

func TestADeviceAsksForAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, devices.TokenConfig{Lifetime: 90 * day, Grace: 7 * day, Overlap: overlap})
		old := h.tokens["d1"]
		d := h.live("d1")
		d.hello(`{}`)
		d.send(`{"id":"a","method":"credentials"}`)
		o := d.offer()
		if string(o.ID) != `"a"` || o.Result.Token == "" || o.Result.TTL != (90*day).Milliseconds() || o.Result.Expires != time.Now().Add(90*day).UnixMilli() {
			t.Fatalf("answered %+v", o)
		}
		d.send(`{"id":"b","method":"credentials","params":{}}`)
		if e := d.offer().Error; e == nil || e.Data.Reason != "renewed_just_now" || e.Data.Retry != 10_000 {
			t.Errorf("asked again at once: %+v", e)
		}
		time.Sleep(10 * time.Second)
		d.send(`{"id":"c","method":"credentials","params":{}}`) // the answer was lost
		second := d.offer()
		for _, token := range []string{old, o.Result.Token, second.Result.Token} {
			h.wantGood(token, nil)
		}
		d.send(`{"id":"d","method":"credentials","params":{"csr":"x"}}`, `{"method":"credentials"}`)
		if e := d.offer().Error; e == nil || e.Data.Reason != "no_certificates" {
			t.Errorf("a certificate where none are issued: %+v", e)
		}
		if e := d.offer().Error; e == nil || e.Code != wire.CodeInvalidRequest {
			t.Errorf("a notification: %+v", e)
		}
		h.tokens["d1"] = second.Result.Token
		h.live("d1").hello(`{}`)
		synctest.Wait()
		h.wantTokens("d1", "valid")
		h.wantGood(old, devices.ErrCredentials)
		h.wantGood(o.Result.Token, devices.ErrCredentials)
	})
}

// However often a device asks and never uses what it gets, it has a handful of tokens, and what it uses stays.
func TestTokensAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, devices.TokenConfig{Grace: 7 * day, Overlap: overlap})
		d := h.live("d1")
		d.hello(`{}`)
		var last string
		for range 9 {
			time.Sleep(10 * time.Second)
			d.send(`{"id":1,"method":"credentials"}`)
			last = d.offer().Result.Token
		}
		h.wantTokens("d1", "valid", "offered", "offered", "offered", "offered")
		h.wantGood(h.tokens["d1"], nil)
		h.wantGood(last, nil)
		for range 4 {
			if _, _, err := h.registry.AddToken(t.Context(), "d2", devices.TokenRequest{Keep: day}); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := h.registry.AddToken(t.Context(), "d2", devices.TokenRequest{Keep: day}); !errors.Is(err, devices.ErrTooManyTokens) {
			t.Errorf("a sixth by hand: %v", err)
		}
	})
}

// With a lifetime, connected devices are offered new tokens when two thirds of it are over, and stay connected for ever.
func TestTokensRotateByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, devices.TokenConfig{Lifetime: time.Hour, Grace: 7 * day, Overlap: overlap})
		d := h.live("d1")
		d.hello(`{}`)
		born := time.Now()
		for range 3 {
			var o offered
			for o.Method == "" {
				time.Sleep(time.Minute)
				synctest.Wait()
				select {
				case frame := <-d.frames:
					if err := json.Unmarshal([]byte(frame), &o); err != nil {
						t.Fatal(err)
					}
				default:
				}
			}
			if age := time.Since(born); age < 40*time.Minute || age > 48*time.Minute {
				t.Errorf("offered at the age of %v", age)
			}
			born = time.Now()
			d.send(`{"id":` + string(o.ID) + `,"result":{}}`)
			synctest.Wait()
		}
		if p := h.sessions.Presence("d1"); !p.Online || time.Since(p.ConnectedAt) < 2*time.Hour {
			t.Errorf("presence %+v", p)
		}
	})
}

// A device that does not take its new token is asked again, not all the time, and its connection ends with its token.
func TestAgeEndsADeviceThatDoesNotRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, devices.TokenConfig{Lifetime: time.Hour, Grace: 7 * day, Overlap: overlap})
		d := h.live("d1")
		d.hello(`{}`)
		start := time.Now()
		asked := 0
		for frame := range d.untilClosed() {
			if strings.Contains(frame, "hub.credentials") {
				var o offered
				_ = json.Unmarshal([]byte(frame), &o)
				d.send(`{"id":` + string(o.ID) + `,"error":{"code":-32601,"message":"no"}}`)
				asked++
			}
		}
		if life := time.Since(start); asked < 2 || asked > 6 || life < time.Hour || life > time.Hour+2*time.Second {
			t.Errorf("asked %d times, ended after %v", asked, life)
		}
		if reason := d.wantClose(wire.CloseRevoked); reason != "credentials expired" {
			t.Errorf("reason %q", reason)
		}
	})
}

// untilClosed yields the device's frames until its connection ends.
func (d *device) untilClosed() func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for {
			select {
			case f := <-d.frames:
				if !yield(f) {
					return
				}
			case <-d.ended:
				return
			}
		}
	}
}

func TestDropsWhatItCannotKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRenewing(t, devices.TokenConfig{Grace: 7 * day, Overlap: overlap})
		d := h.live("d1")
		d.hello(`{}`)
		h.kv.breakWith(errors.New("the disk is full"))
		if r := <-h.rotate(t.Context(), "d1"); r.err == nil {
			t.Errorf("rotated %+v though nothing can be written", r)
		}
		d.send(`{"id":1,"method":"credentials"}`)
		if e := d.offer().Error; e == nil || e.Data.Reason != "not_written" || e.Data.Retry == 0 {
			t.Errorf("answered %+v", e)
		}
		h.kv.breakWith(nil)
		h.wantTokens("d1", "valid")
	})
}
