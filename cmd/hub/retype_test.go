package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"telemetryhub/store/influxtest"
)

// TestAWrongFirstValueIsMended on both stores: the first reading said true where a number was meant, and the store keeps
// that type for as long as its shard.
func TestAWrongFirstValueIsMended(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{storeEmbedded, storeInfluxDB} {
		t.Run(kind, func(t *testing.T) {
			var args []string
			if kind == storeInfluxDB {
				args = withInfluxDB(t, influxtest.StartT(t))
			}
			h := startHub(t, t.TempDir(), args...)
			token := h.newDevice("d1")
			at := time.Now().Add(-time.Minute).UnixMilli()
			for i, value := range []string{`true`, `20.5`, `"21"`, `"n/a"`} {
				h.post("d1", token, fmt.Sprintf(`{"boot":"b","seq":%d,"ts":%d,"values":{"temp":%s}}`, i+1, at+int64(i), value))
			}
			until(t, "all is settled", func() bool { a := h.audit().Total; return a.Stored == 1 && a.Quarantined == 3 })
			out, errs, status := h.ctl("types", "set", "telemetry.temp", "float")
			if status != 0 || !strings.Contains(out, `stored as temp_float: applied`) || !strings.Contains(out, `The store holds "temp" as boolean`) {
				t.Fatalf("types set ends with %d: %s%s", status, out, errs)
			}
			if out, errs, status = h.ctl("quarantine", "retry", "--reason", "type_conflict"); status != 1 || strings.TrimSpace(out) != "quarantined=1 stored=2" {
				t.Fatalf("the retry ends with %d: %s%s", status, out, errs)
			}
			h.kill()
			h.again()
			h.post("d1", token, fmt.Sprintf(`{"boot":"b","seq":5,"ts":%d,"values":{"temp":22}}`, at+4))
			until(t, "the reading after the restart is stored", func() bool { return h.audit().Total.Stored == 4 })
			var history struct {
				Readings []struct{ Values map[string]any }
			}
			h.call(http.MethodGet, "/api/v1/devices/d1/telemetry?from=-1h", nil, &history)
			if got := fmt.Sprint(history.Readings); got != "[{map[temp:true]} {map[temp_float:20.5]} {map[temp_float:21]} {map[temp_float:22]}]" {
				t.Errorf("history: %s", got)
			}
			if out, _, _ = h.ctl("types", "ls", "--json"); !strings.Contains(out, `"changed_by": "admin"`) || !strings.Contains(out, `"stored_as": "temp_float"`) {
				t.Errorf("types ls: %s", out)
			}
			if out, errs, status = h.ctl("types", "set", "telemetry.temp", "float"); status != 0 || !strings.Contains(out, "unchanged") {
				t.Errorf("set again: %d %s%s", status, out, errs)
			}
			// By force into the old name: the database rejects it, and that stops nobody.
			if out, errs, status = h.ctl("types", "set", "telemetry.temp", "float", "--as", "temp"); status != 0 || !strings.Contains(out, "store_rejected") {
				t.Errorf("by force: %d %s%s", status, out, errs)
			}
			h.post("d1", token, `{"boot":"b","seq":6,"readings":[{"values":{"temp":23}},{"values":{"other":1}}]}`)
			until(t, "the account", func() bool { a := h.audit().Total; return a.Stored == 5 && a.Quarantined == 2 && a.Queued == 0 })
			if out, errs, status = h.ctl("audit", "--deep"); status != 0 {
				t.Errorf("audit --deep: %d %s%s", status, out, errs)
			}
		})
	}
}

// TestRaisedLimitsLetReadingsInByARetry has a reading beyond each limit that is an operator's, and retries them before and
// after the limits were raised.
func TestRaisedLimitsLetReadingsInByARetry(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "hub.yaml")
	write := func(ingest string) {
		t.Helper()
		if err := os.WriteFile(config, []byte("ingest: {"+ingest+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("past_limit: 2020-01-01, future_limit: 10m, device_fields: 2, measurement_fields: 3")
	h := startHub(t, t.TempDir(), "--config", config)
	d1, d2 := h.newDevice("d1"), h.newDevice("d2")
	h.post("d1", d1, `{"values":{"a":1,"b":2}}`)
	h.post("d1", d1, `{"boot":"b","seq":1,"values":{"c":3}}`)                                                             // too_many_names
	h.post("d1", d1, `{"boot":"b","seq":2,"readings":[{"ts":"2019-06-01T00:00:00Z","values":{"a":4}}]}`)                  // time_past
	h.post("d1", d1, fmt.Sprintf(`{"boot":"b","seq":3,"ts":%d,"values":{"a":5}}`, time.Now().Add(time.Hour).UnixMilli())) // time_future
	h.post("d2", d2, `{"boot":"b","seq":1,"values":{"d":6}}`)
	h.post("d2", d2, `{"boot":"b","seq":2,"values":{"e":7}}`) // field_limit
	until(t, "all is settled", func() bool { a := h.audit().Total; return a.Stored == 2 && a.Quarantined == 4 })

	reasons := func() string {
		t.Helper()
		out, _, _ := h.ctl("quarantine", "ls", "--json")
		var items []struct {
			Device, Reason, Frame string
			Received              time.Time
		}
		if err := json.Unmarshal([]byte(out), &items); err != nil {
			t.Fatal(err)
		}
		found := map[string]int{}
		for _, i := range items {
			if i.Device == "" || i.Frame == "" || i.Received.IsZero() {
				t.Errorf("an item without device, frame or time: %+v", i)
			}
			found[i.Reason]++
		}
		return fmt.Sprint(found)
	}
	const all = "map[field_limit:1 time_future:1 time_past:1 too_many_names:1]"
	if got := reasons(); got != all {
		t.Fatalf("quarantined: %s", got)
	}
	if out, _, status := h.ctl("quarantine", "retry", "--all"); status != 1 || strings.TrimSpace(out) != "quarantined=4" {
		t.Fatalf("a retry within the old limits ends with %d: %s", status, out)
	}
	if got := reasons(); got != all {
		t.Fatalf("quarantined after a retry: %s", got)
	}

	write("past_limit: 2010-01-01, future_limit: 2h, device_fields: 10, measurement_fields: 10")
	if err := h.terminate(); err != nil {
		t.Fatal(err)
	}
	h.again()
	if out, errs, status := h.ctl("quarantine", "retry", "--all"); status != 0 || strings.TrimSpace(out) != "stored=4" {
		t.Fatalf("a retry within the raised limits ends with %d: %s%s", status, out, errs)
	}
	if a := h.audit().Total; a.Received != 6 || a.Stored != 6 || a.Quarantined != 0 || a.Duplicate != 0 {
		t.Errorf("the account: %+v", a)
	}
	if out, errs, status := h.ctl("audit", "--deep"); status != 0 {
		t.Errorf("audit --deep: %d %s%s", status, out, errs)
	}
}
