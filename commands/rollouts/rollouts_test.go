package rollouts_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
)

func TestEachDeviceIsSentOneCommand(t *testing.T) {
	ledger, kv := buckets(t)
	f := newFleet(700)
	f.set(fails, 3, 600)
	h := open(t, ledger, kv, f, rollouts.Config{})
	made := h.create(t, rollouts.Request{Waves: rollouts.Waves{Sizes: sizes(t, "10%")}, Actor: "ada", Params: []byte(`{"a": 1}`)})
	if made.State != rollouts.Running || made.Devices != 700 || made.Wave.Of != 10 || string(made.Params) != `{"a":1}` {
		t.Errorf("made %+v", made)
	}
	end := h.until(t, made.ID, rollouts.Done)
	wantCounts(t, end, map[rollouts.Outcome]int{"done": 698, "failed": 2})
	if end.Failures != 2 || end.Cause() != "each device has its outcome; 2 of 700 failed" {
		t.Errorf("%d failures, %q", end.Failures, end.Cause())
	}
	f.wantOnce(t)
	if f.sent() != 700 {
		t.Errorf("%d were sent", f.sent())
	}

	check := func(h *hub) {
		t.Helper()
		failed, next, err := h.Devices(t.Context(), made.ID, []rollouts.Outcome{"failed"}, 10, "")
		if err != nil || next != "" || len(failed) != 2 || failed[0].Device != "d00003" || failed[1].Device != "d00600" {
			t.Fatalf("failed: %+v, next %q, %v", failed, next, err)
		}
		if failed[0].Cause != "the device answered error -32000: no" || failed[0].Command == "" || failed[0].Time.IsZero() {
			t.Errorf("failed: %+v", failed[0])
		}
		var all []string
		for cursor := ""; ; {
			page, next, err := h.Devices(t.Context(), made.ID, nil, 300, cursor)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range page {
				all = append(all, d.Device)
			}
			if cursor = next; next == "" {
				break
			}
		}
		if len(all) != 700 || !slices.IsSorted(all) || len(slices.Compact(all)) != 700 {
			t.Errorf("paged through %d devices", len(all))
		}
		r, err := h.Get(t.Context(), made.ID)
		if err != nil || string(r.Params) != `{"a":1}` || r.Actor != "ada" || r.State != rollouts.Done || r.Failures != 2 {
			t.Errorf("read back: %+v, %v", r, err)
		}
	}
	check(h)
	h.shut(t, closing)
	h = open(t, ledger, kv, f, rollouts.Config{})
	check(h)
	if list, next := h.List("", 10, ""); len(list) != 1 || next != "" || list[0].Counts["done"] != 698 || list[0].Params != nil {
		t.Errorf("list: %+v, %q", list, next)
	}
	if f.sent() != 700 {
		t.Errorf("after a restart %d were sent", f.sent())
	}
}

func TestWhomASelectorMeans(t *testing.T) {
	ledger, kv := buckets(t)
	f := newFleet(4)
	f.devices["d00000"] = rollouts.Device{ID: "d00000", Enabled: true, Type: "lamp", Tags: []string{"hall", "new"}, Attributes: map[string]string{"floor": "2"}}
	f.devices["d00001"] = rollouts.Device{ID: "d00001", Enabled: true, Type: "lamp", Tags: []string{"hall"}}
	f.devices["d00003"] = rollouts.Device{ID: "d00003", Type: "lamp", Tags: []string{"hall"}} // disabled
	f.offline["d00001"] = true
	h := open(t, ledger, kv, f, rollouts.Config{})
	for _, c := range []struct {
		to   rollouts.Selector
		want string // devices, or the error
	}{
		{rollouts.Selector{All: true}, "d00000 d00001 d00002"},
		{rollouts.Selector{All: true, Online: true}, "d00000 d00002"},
		{rollouts.Selector{Online: true}, "d00000 d00002"},
		{rollouts.Selector{Tags: []string{"hall"}}, "d00000 d00001"},
		{rollouts.Selector{Tags: []string{"hall", "new"}}, "d00000"},
		{rollouts.Selector{Type: "lamp", Online: true}, "d00000"},
		{rollouts.Selector{Attributes: map[string]string{"floor": "2"}}, "d00000"},
		{rollouts.Selector{Attributes: map[string]string{"floor": ""}}, "to: no enabled device is attr.floor="},
		{rollouts.Selector{IDs: []string{"d00002", "d00000", "d00002"}}, "d00002 d00000"},
		{rollouts.Selector{IDs: []string{"d00002", "d00000"}, Type: "lamp"}, "d00000"},
		{rollouts.Selector{IDs: []string{"d00002", "x", "d00003", "y"}}, "2 of the ids are unknown: x, y; 1 of the devices are disabled: d00003"},
		{rollouts.Selector{IDs: []string{"a b"}}, `to: "a b": `},
		{rollouts.Selector{Tags: []string{"cellar"}}, "to: no enabled device is tag=cellar"},
		{rollouts.Selector{}, "to: it names no device; all devices are meant only by all"},
		{rollouts.Selector{All: true, Type: "lamp"}, "to: all stands alone or with online"},
		{rollouts.Selector{IDs: make([]string, rollouts.MaxIDs+1)}, "to: 10001 ids are more than 10000"},
	} {
		p, err := h.Preview(rollouts.Request{To: c.to, Method: "ping"})
		var ids []string
		for _, d := range p.Devices {
			ids = append(ids, d.Device)
		}
		got := strings.Join(ids, " ")
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, c.want) || err == nil && got != c.want {
			t.Errorf("%s: %s, want %s", c.to, clipped(got), c.want)
		}
		if err == nil {
			continue
		}
		if _, again := h.Create(t.Context(), rollouts.Request{To: c.to, Method: "ping"}); again == nil || again.Error() != err.Error() {
			t.Errorf("%s: Create says %v, Preview %v", c.to, again, err)
		}
	}
	if list, _ := h.List("", 10, ""); len(list) != 0 || f.sent() != 0 {
		t.Errorf("%d rollouts, %d commands, want none", len(list), f.sent())
	}
	p, err := h.Preview(rollouts.Request{To: rollouts.Selector{All: true}, Method: "ping", Waves: rollouts.Waves{Sizes: sizes(t, "1")}})
	if err != nil || p.Online != 2 || p.Waves != 3 || p.Refused != 0 {
		t.Errorf("preview %+v, %v", p, err)
	}
}

func clipped(text string) string { return text[:min(len(text), 200)] }

func TestWhatIsWrongWithARequestIsSaid(t *testing.T) {
	ledger, kv := buckets(t)
	h := open(t, ledger, kv, newFleet(2), rollouts.Config{})
	all := rollouts.Selector{All: true}
	for _, c := range []struct {
		r    rollouts.Request
		want string
	}{
		{rollouts.Request{To: all}, "method: it is empty"},
		{rollouts.Request{To: all, Method: "m", Params: []byte(`1`)}, "params: they are a JSON object or array"},
		{rollouts.Request{To: all, Method: "m", Delivery: "twice"}, `delivery: "twice" is neither`},
		{rollouts.Request{To: all, Method: "m", Offline: "wait"}, `offline: "wait" is neither queue nor skip`},
		{rollouts.Request{To: all, Method: "m", Waves: rollouts.Waves{Pause: 1}}, "waves.pause: there is one wave"},
		{rollouts.Request{To: all, Method: "m", Waves: rollouts.Waves{Pause: -1, Sizes: sizes(t, "1")}}, "waves.pause: -1ns is not between"},
		{rollouts.Request{To: all, Method: "m", Waves: rollouts.Waves{Sizes: make([]rollouts.Amount, 1)}}, "waves.sizes: a size is empty"},
		{rollouts.Request{To: all, Method: "m", Limits: rollouts.Limits{Minimum: -1}}, "limits.minimum: -1 is not between"},
	} {
		_, err := h.Create(t.Context(), c.r)
		var invalid *commands.InvalidError
		if !errors.As(err, &invalid) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	for _, text := range []string{"0", "-1", "0%", "101%", "NaN%", "x", "1e9%", "5 %"} {
		if a, err := rollouts.ParseAmount(text); err == nil {
			t.Errorf("%q is taken for %+v", text, a)
		}
	}
	for _, text := range []string{"", "1", "25", "10%", "0.5%", "100%"} {
		if a, err := rollouts.ParseAmount(text); err != nil || a.String() != text {
			t.Errorf("%q is %q, %v", text, a, err)
		}
	}
}

func TestTheSameKeyIsTheSameRollout(t *testing.T) {
	ledger, kv := buckets(t)
	f := newFleet(3)
	h := open(t, ledger, kv, f, rollouts.Config{})
	r := rollouts.Request{IdempotencyKey: "k"}
	first := h.create(t, r)
	if again := h.create(t, r); again.ID != first.ID {
		t.Errorf("%s and %s", first.ID, again.ID)
	}
	h.until(t, first.ID, rollouts.Done)
	h.shut(t, closing)
	h = open(t, ledger, kv, f, rollouts.Config{})
	if again := h.create(t, r); again.ID != first.ID || f.sent() != 3 {
		t.Errorf("after a restart %s, not %s; %d sent", again.ID, first.ID, f.sent())
	}
	_, err := h.Create(t.Context(), rollouts.Request{IdempotencyKey: "k", To: rollouts.Selector{All: true}, Method: "other"})
	if want := "idempotency_key: it was used for another rollout (" + first.ID + ")"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestTooManyRollouts(t *testing.T) {
	ledger, kv := buckets(t)
	f := newFleet(1)
	f.set(silent, 0)
	h := open(t, ledger, kv, f, rollouts.Config{})
	for range rollouts.MaxOpen {
		h.create(t, rollouts.Request{})
	}
	_, err := h.Create(t.Context(), rollouts.Request{To: rollouts.Selector{All: true}, Method: "m"})
	var busy *rollouts.BusyError
	if !errors.As(err, &busy) || busy.Limit != rollouts.MaxOpen {
		t.Fatalf("one too many: %v", err)
	}
	list, cursor := h.List("", 20, "")
	for cursor != "" {
		var page []rollouts.Rollout
		page, cursor = h.List("", 20, cursor)
		list = append(list, page...)
	}
	ids := map[string]bool{}
	for _, r := range list {
		ids[r.ID] = true
	}
	if len(list) != rollouts.MaxOpen || len(ids) != rollouts.MaxOpen {
		t.Errorf("paged through %d rollouts, %d different", len(list), len(ids))
	}
	if st := h.Stats(); st.Open != rollouts.MaxOpen || st.Devices != rollouts.MaxOpen {
		t.Errorf("stats %+v", st)
	}
}

func TestUnknownRollouts(t *testing.T) {
	ledger, kv := buckets(t)
	h := open(t, ledger, kv, newFleet(1), rollouts.Config{})
	for _, id := range []string{"", "x", "20260101-000000-aaaaaa", "*.head", strings.Repeat("a", 1000)} {
		_, get := h.Get(t.Context(), id)
		_, pause := h.Pause(t.Context(), id, "ada")
		_, resume := h.Resume(t.Context(), id, "ada", nil)
		_, cancel := h.Cancel(t.Context(), id, "ada")
		_, _, devices := h.Devices(t.Context(), id, nil, 1, "")
		for _, err := range []error{get, pause, resume, cancel, devices} {
			if !errors.Is(err, rollouts.ErrNotFound) {
				t.Errorf("%q: %v", clipped(id), err)
			}
		}
	}
	for text, want := range map[string]bool{"20260101-000000-aaaaa7": true, "20260101-000000-aaaaaA": false, "20260101-000000-aaaaa": false, "20260101.000000-aaaaaa": false} {
		if rollouts.IsID(text) != want {
			t.Errorf("IsID(%q) is %v", text, !want)
		}
	}
}

func TestADeviceThatGoesAwayIsSkipped(t *testing.T) {
	ledger, kv := buckets(t)
	f := newFleet(6)
	h := open(t, ledger, kv, f, rollouts.Config{Open: 1})
	f.set(silent, 0)
	made := h.create(t, rollouts.Request{Offline: rollouts.SkipOffline})
	feed := h.ledger.Subscribe(100)
	defer feed.Close()
	for f.sent() == 0 {
		<-feed.C()
	}
	f.mu.Lock()
	delete(f.devices, "d00002")
	f.devices["d00003"] = rollouts.Device{ID: "d00003"}
	f.offline["d00004"] = true
	f.mu.Unlock()
	f.answerKept()
	end := h.until(t, made.ID, rollouts.Done)
	wantCounts(t, end, map[rollouts.Outcome]int{"done": 3, "skipped": 3})
	skipped, _, err := h.Devices(t.Context(), made.ID, []rollouts.Outcome{"skipped"}, 10, "")
	if got := fmt.Sprint(skipped); err != nil || !strings.Contains(got, "deleted") || !strings.Contains(got, "disabled") || !strings.Contains(got, "offline") {
		t.Errorf("skipped: %v, %v", skipped, err)
	}
}

func TestWhatATypeRefusesRefusesTheRolloutBeforeAnythingIsSent(t *testing.T) {
	ledger, kv := buckets(t)
	f := newFleet(200)
	f.terms = func(r commands.Request) (commands.Terms, error) {
		switch {
		case r.Method == "fly":
			return commands.Terms{}, &commands.InvalidError{Field: "method", Message: "no such method"}
		case r.Method == "format" && r.Role != "admin":
			return commands.Terms{}, &commands.ForbiddenError{Method: r.Method, Needs: "admin"}
		case r.Device >= "d00050":
			return commands.Terms{}, &commands.InvalidError{Field: "params", Message: "speed: is missing"}
		}
		return commands.Terms{}, nil
	}
	h := open(t, ledger, kv, f, rollouts.Config{})
	all := rollouts.Selector{All: true}
	_, err := h.Create(t.Context(), rollouts.Request{To: all, Method: "ping"})
	var refused *rollouts.RefusedError
	if !errors.As(err, &refused) || refused.Count != 150 || refused.Of != 200 || len(refused.Refusals) != rollouts.MaxRefusals {
		t.Fatalf("refused: %v", err)
	}
	if want := (rollouts.Refusal{Device: "d00050", Reason: "params: speed: is missing"}); refused.Refusals[0] != want {
		t.Errorf("%+v", refused.Refusals[0])
	}
	p, err := h.Preview(rollouts.Request{To: all, Method: "ping"})
	if err != nil || p.Refused != 150 || len(p.Refusals) != rollouts.MaxRefusals || len(p.Devices) != 200 {
		t.Errorf("preview: %d refused, %d devices, %v", p.Refused, len(p.Devices), err)
	}
	var invalid *commands.InvalidError
	if _, err = h.Create(t.Context(), rollouts.Request{To: all, Method: "fly"}); !errors.As(err, &invalid) || invalid.Field != "method" {
		t.Errorf("what all refuse alike: %v", err)
	}
	var forbidden *commands.ForbiddenError
	if _, err = h.Create(t.Context(), rollouts.Request{To: all, Method: "format", Role: "operator"}); !errors.As(err, &forbidden) {
		t.Errorf("what the role does not allow: %v", err)
	}
	if list, _ := h.List("", 10, ""); len(list) != 0 || f.sent() != 0 {
		t.Errorf("%d rollouts, %d sent", len(list), f.sent())
	}
	few := h.create(t, rollouts.Request{To: rollouts.Selector{IDs: []string{"d00001", "d00002"}}, Role: "admin", Method: "format"})
	h.until(t, few.ID, rollouts.Done)
}

func TestSecretsAreNotShown(t *testing.T) {
	ledger, kv := buckets(t)
	f := newFleet(2)
	f.terms = func(r commands.Request) (commands.Terms, error) {
		return commands.Terms{Params: r.Params, Masked: []byte(`{"key":"[secret]"}`), Timeout: time.Minute}, nil
	}
	h := open(t, ledger, kv, f, rollouts.Config{})
	made := h.create(t, rollouts.Request{Params: []byte(`{"key":"swordfish"}`)})
	end := h.until(t, made.ID, rollouts.Done)
	h.shut(t, closing)
	h = open(t, ledger, kv, f, rollouts.Config{})
	read, err := h.Get(t.Context(), made.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []rollouts.Rollout{made, end, read} {
		if string(r.Params) != `{"key":"[secret]"}` || r.Longest != time.Minute {
			t.Errorf("params %s, timeout %v", r.Params, r.Longest)
		}
	}
	got, _, err := h.Devices(t.Context(), made.ID, nil, 1, "")
	if err != nil || len(got) != 1 {
		t.Fatal(err)
	}
	if c, err := h.ledger.Get(got[0].Command); err != nil || string(c.Params) != `{"key":"swordfish"}` {
		t.Errorf("the device got %s, %v", c.Params, err)
	}
}
