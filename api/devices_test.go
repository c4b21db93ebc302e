package api_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/devices"
)

// clock is a clock that stands until it is told.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.UnixMilli(1_700_000_000_000)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(ms int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(time.Duration(ms) * time.Millisecond)
}

func (b *bench) list(query string) (ids []string, next string) {
	b.t.Helper()
	v := b.ask("GET", "/api/v1/devices"+query, "op_viewer", "").want(200).json()
	ids = []string{}
	for _, d := range v["devices"].([]any) {
		ids = append(ids, d.(map[string]any)["id"].(string))
	}
	return ids, v["next"].(string)
}

func TestListDevices(t *testing.T) {
	b := newBench(t, api.Config{})
	for query, want := range map[string][]string{
		"": {"d1", "d2", "d3"}, "?tag=hall": {"d1", "d3"}, "?tag=hal": {}, "?q=HAL": {"d1", "d3"}, "?q=pum": {"d2"}, "?q=D2": {"d2"},
		"?online=true": {"d1"}, "?online=false": {"d2", "d3"}, "?tag=hall&online=false": {"d3"},
	} {
		if got, next := b.list(query); !slices.Equal(got, want) || next != "" {
			t.Errorf("%s: %v, next %q; want %v", query, got, next, want)
		}
	}
	first, next := b.list("?limit=2")
	delete(b.devices, "d2") // the cursor's own device goes away
	second, end := b.list("?limit=2&cursor=" + next)
	if !slices.Equal(first, []string{"d1", "d2"}) || !slices.Equal(second, []string{"d3"}) || end != "" {
		t.Errorf("pages %v, %v, then %q", first, second, end)
	}
	if all, next := b.list("?limit=2"); next != "" || len(all) != 2 {
		t.Errorf("a full last page: %v, next %q", all, next)
	}
	b.ask("GET", "/api/v1/devices?cursor=%21", "op_viewer", "").wantProblem(422, "bad_parameter")
	b.ask("GET", "/api/v1/commands?cursor=%21", "op_viewer", "").wantProblem(422, "bad_parameter")
	b.ask("GET", "/api/v1/devices?limit=1001", "op_viewer", "").wantProblem(422, "invalid")
	b.ask("GET", "/api/v1/devices?onlin=true", "op_viewer", "").wantProblem(422, "invalid")
}

func TestDeviceView(t *testing.T) {
	b := newBench(t, api.Config{})
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b.presence["d2"] = devices.Presence{Transport: "mqtt", DisconnectedAt: at, Cause: "no pong", Firmware: "1.2", Clock: devices.Clock{ClockOffsetMs: -2500, ClockAt: at}}
	v := b.ask("GET", "/api/v1/devices/d2", "op_viewer", "").want(200).json()
	want := map[string]any{
		"id": "d2", "type": "Pump", "tags": []any{}, "attributes": map[string]any{}, "enabled": true, "online": false, "created": "0001-01-01T00:00:00Z", "measurement": "telemetry",
		"transport": "mqtt", "disconnected_at": "2026-01-02T03:04:05Z", "cause": "no pong", "firmware": "1.2", "clock_offset_ms": -2500.0,
	}
	delete(v, "limits") // see limits_test.go
	if !reflect.DeepEqual(v, want) {
		t.Errorf("got  %v\nwant %v", v, want)
	}
	v = b.ask("GET", "/api/v1/devices?latest=true&q=d1", "op_viewer", "").want(200).json()
	latest := v["devices"].([]any)[0].(map[string]any)["latest"]
	if want := map[string]any{"Temp": map[string]any{"value": 21.5, "ts": 2000.0}}; !reflect.DeepEqual(latest, want) {
		t.Errorf("latest %v", latest)
	}
	p := b.ask("GET", "/api/v1/devices/%3Cscript%3E", "op_viewer", "").wantProblem(404, "device_not_found")
	if !strings.Contains(p.Detail, "<script>") {
		t.Errorf("detail %q", p.Detail)
	}
}

// A store that hangs holds up the whole list for as long as one device.
func TestAListOfLatestValuesHasOneDeadline(t *testing.T) {
	b := newBench(t, api.Config{})
	start := time.Now()
	b.ask("GET", "/api/v1/devices?latest=true", "op_viewer", "").want(200)
	if len(b.latestBy) < 2 {
		t.Fatalf("asked %d times", len(b.latestBy))
	}
	for _, by := range b.latestBy {
		if by != b.latestBy[0] || by.Before(start) || by.After(time.Now().Add(2*time.Second)) {
			t.Errorf("deadlines %v, want one within 2s of %v", b.latestBy, start)
		}
	}
}

func TestCreateDevice(t *testing.T) {
	b := newBench(t, api.Config{})
	a := b.ask("POST", "/api/v1/devices", "op_admin", `{"id":"n:1","tags":["x"],"attributes":{"a":"b"}}`).want(201)
	if v := a.json(); v["id"] != "n:1" || v["token"] != "dev_new" || !yes(v["enabled"]) || a.header.Get("Location") != "/api/v1/devices/n:1" {
		t.Errorf("%s, Location %q", a.body, a.header.Get("Location"))
	}
	for name, c := range map[string]struct {
		body   string
		status int
		reason string
	}{
		"exists":        {`{"id":"d1"}`, 409, "device_exists"},
		"bad id":        {`{"id":"a/b"}`, 422, "invalid"},
		"no id":         {`{}`, 422, "invalid"},
		"unknown":       {`{"id":"x","tpye":"y"}`, 422, "invalid"},
		"wrong type":    {`{"id":7}`, 422, "invalid"},
		"not JSON":      {`{"id":`, 400, "bad_json"},
		"no body":       {``, 400, "bad_json"},
		"too long":      {`{"id":"` + strings.Repeat("x", 65) + `"}`, 422, "invalid"},
		"too large":     {`{"id":"x","type":"` + strings.Repeat("x", 70_000) + `"}`, 413, "body_too_large"},
		"tags are text": {`{"id":"x","tags":"y"}`, 422, "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			p := b.ask("POST", "/api/v1/devices", "op_admin", c.body).wantProblem(c.status, c.reason)
			if c.status == 413 && p.Limit != 65536 {
				t.Errorf("limit %d", p.Limit)
			}
		})
	}
	b.ask("POST", "/api/v1/devices", "op_admin", `id=x`, "Content-Type: text/plain").wantProblem(415, "unsupported_media_type")
}

func TestChangeDevice(t *testing.T) {
	b := newBench(t, api.Config{})
	before := b.devices["d1"].Attributes
	v := b.ask("PATCH", "/api/v1/devices/d1", "op_admin", `{"type":"new","attributes":{"room":null,"wing":"w"}}`).want(200).json()
	if v["type"] != "new" || !reflect.DeepEqual(v["attributes"], map[string]any{"floor": "1", "wing": "w"}) || len(v["tags"].([]any)) != 2 || !yes(v["enabled"]) {
		t.Errorf("changed to %v", v)
	}
	if fmt.Sprint(before) != "map[floor:1 room:a]" {
		t.Errorf("the registry's own map was written: %v", before)
	}
	if v = b.ask("PATCH", "/api/v1/devices/d1", "op_admin", `{"tags":[]}`).want(200).json(); len(v["tags"].([]any)) != 0 || v["type"] != "new" {
		t.Errorf("changed to %v", v)
	}
	if got := b.said(&b.left); len(got) != 0 {
		t.Errorf("taken out without a reason: %v", got)
	}
	b.ask("PATCH", "/api/v1/devices/d1", "op_admin", `{"enabled":false}`).want(200)
	if got := b.said(&b.left); !slices.Equal(got, []string{"d1 abandoned by ada: the device was disabled"}) {
		t.Errorf("made of it %v", got)
	}
	b.ask("PATCH", "/api/v1/devices/d1", "op_admin", `{"enabled":true}`).want(200)
	b.ask("PATCH", "/api/v1/devices/d1", "op_admin", `{"enabled":true}`).want(200)
	if got := b.said(&b.left); len(got) != 2 || got[1] != "d1 abandoned by ada: the device was disabled" {
		t.Errorf("made of it %v, want once more the end of what a kill in the middle of the disabling left", got)
	}
	b.ask("PATCH", "/api/v1/devices/none", "op_admin", `{}`).wantProblem(404, "device_not_found")
	b.ask("PATCH", "/api/v1/devices/d1", "op_admin", `{"id":"d7"}`).wantProblem(422, "invalid")
}

func TestDeleteAndRenew(t *testing.T) {
	b := newBench(t, api.Config{})
	if v := b.ask("POST", "/api/v1/devices/d2/token", "op_admin", "").want(200).json(); v["id"] != "d2" || v["token"] != "dev_renewed" {
		t.Errorf("renewed: %v", v)
	}
	v := b.ask("DELETE", "/api/v1/devices/d1", "op_admin", "").want(200).json()
	if data, _ := v["data"].(string); v["id"] != "d1" || !strings.Contains(data, "stay") {
		t.Errorf("deleted: %v", v)
	}
	if got := b.said(&b.left); !slices.Equal(got, []string{"d2 token keep=0s life=0s", "d1 abandoned by ada: the device was deleted", "d1 forgotten"}) {
		t.Errorf("made of it %v", got)
	}
	b.ask("DELETE", "/api/v1/devices/d1", "op_admin", "").wantProblem(404, "device_not_found")
	b.ask("POST", "/api/v1/devices/d1/token", "op_admin", "").wantProblem(404, "device_not_found")
	b.ask("POST", "/api/v1/devices", "op_admin", `{"id":"d2"}`).wantProblem(409, "device_exists")
	b.ask("POST", "/api/v1/devices", "op_admin", `{"id":"d1"}`).want(201)
	if got := b.said(&b.left); len(got) != 4 || got[3] != "d1 abandoned by ada: the device was deleted" {
		t.Errorf("made of it %v, want the end of what a kill in the middle of the deletion left, for the new device alone", got)
	}
}
