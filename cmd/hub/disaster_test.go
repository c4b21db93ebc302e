package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"telemetryhub/store/influxtest"
)

// influx runs a statement on InfluxDB and returns the answer.
func influx(t *testing.T, db *influxtest.Server, statement string) string {
	t.Helper()
	answer, err := http.PostForm(db.URL()+"/query", url.Values{"q": {statement}, "db": {"telemetry"}, "epoch": {"ns"}})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || strings.Contains(string(text), `"error"`) {
		t.Fatalf("%s: %d %s %v", statement, answer.StatusCode, text, err)
	}
	return string(text)
}

// insert writes a line, its time in ms, as others than the hub do.
func insert(t *testing.T, db *influxtest.Server, line string) {
	t.Helper()
	answer, err := http.Post(db.URL()+"/write?db=telemetry&precision=ms", "text/plain", strings.NewReader(line))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		t.Fatalf("insert %s: %s", line, answer.Status)
	}
}

// TestAReplayFillsADatabaseThatWasLost loses the database after real readings, resent ones and a bad one were taken.
func TestAReplayFillsADatabaseThatWasLost(t *testing.T) {
	t.Parallel()
	db := influxtest.StartT(t)
	h := startHub(t, t.TempDir(), withInfluxDB(t, db)...)
	wantAll(t, h.simulate(nil, replayArgs(t)...), roomReadings)
	token := h.newDevice("extra")
	for range 2 { // the second is a duplicate without a time
		h.post("extra", token, `{"boot":"b","seq":1,"values":{"x":1}}`)
	}
	h.post("extra", token, `{"boot":"b","seq":2,"values":{"x":"a text"}}`) // conflicts: quarantined
	until(t, "all is settled", func() bool { return h.audit().Total.Queued == 0 })
	// Somebody else makes another field a text behind the hub's back: the database rejects a reading that a new one would take.
	at := time.Now().UnixMilli()
	insert(t, db, fmt.Sprintf("telemetry,device=other y=\"text\" %d", at))
	h.post("extra", token, fmt.Sprintf(`{"boot":"b","seq":3,"ts":%d,"values":{"y":1}}`, at))
	until(t, "all is settled", func() bool { return h.audit().Total.Queued == 0 })
	influx(t, db, "DROP SERIES FROM telemetry WHERE device = 'other'")
	before := h.audit().Total
	if before.Stored != roomReadings+1 || before.Duplicate != 1 || before.Quarantined != 2 {
		t.Fatalf("the account before: %+v", before)
	}
	deep := func(want int) string {
		t.Helper()
		out, errs, status := h.ctl("audit", "--deep")
		if status != want {
			t.Errorf("audit --deep ends with %d, want %d:\n%s%s", status, want, out, errs)
		}
		return out
	}
	deep(0)
	const all = "SELECT Temp, RelH, L1, L2, Occ, Act, Door, Win, x FROM telemetry GROUP BY device"
	had := influx(t, db, all)

	influx(t, db, "DROP DATABASE telemetry")
	influx(t, db, "CREATE DATABASE telemetry")
	deep(1)
	for range 2 { // the second changes nothing
		out, errs, status := h.ctl("replay", "--from", "-24h", "--json")
		var r struct {
			State   string
			Written int
			Passed  int `json:"passed_over"`
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 || r.State != "done" || r.Written != before.Stored || r.Passed != 3 {
			t.Fatalf("replay: status %d, %s %s %v", status, out, errs, err)
		}
		if got := influx(t, db, all); got != had {
			t.Fatalf("%d bytes of points after the replay, %d before the disaster", len(got), len(had))
		}
	}
	deep(0)
	if after := h.audit().Total; fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the account went from %+v to %+v", before, after)
	}
}

// TestQuarantinedReadingsAreDroppedOnce retries what cannot be mended, drops it, and kills the hub.
func TestQuarantinedReadingsAreDroppedOnce(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	token := h.newDevice("d1")
	h.post("d1", token, `{"boot":"b","seq":1,"values":{"x":1}}`)
	h.post("d1", token, `{"boot":"b","seq":2,"values":{"x":[1]}}`)
	until(t, "both are settled", func() bool { a := h.audit().Total; return a.Quarantined == 1 && a.Stored == 1 })
	if out, errs, status := h.ctl("quarantine", "retry", "--reason", "bad_value"); status != 1 || !strings.Contains(out, "quarantined=1") {
		t.Errorf("a retry before the fix ends with %d: %s%s", status, out, errs)
	}
	if out, errs, status := h.ctl("quarantine", "drop", "--device", "d1"); status != 0 || !strings.Contains(out, "dropped=1") {
		t.Errorf("a drop ends with %d: %s%s", status, out, errs)
	}
	h.kill()
	h.again()
	until(t, "the account after a kill", func() bool {
		a := h.audit().Total
		return a.Received == 2 && a.Stored == 1 && a.Quarantined == 0 && a.Refused["dropped"] == 1
	})
}

// post sends telemetry with the device's own credentials.
func (h *hubProcess) post(device, token, body string) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.url+"/api/v1/devices/"+device+"/telemetry", strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: h.tls()}}
	defer client.CloseIdleConnections()
	answer, err := client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		h.t.Fatalf("telemetry of %s: %d", device, answer.StatusCode)
	}
}
