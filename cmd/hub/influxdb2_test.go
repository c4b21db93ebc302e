package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// influxDB2 stands for an InfluxDB 2, which cannot be installed where these tests run: it gives the answers that its API
// documents (https://docs.influxdata.com/influxdb/v2/api/), to the requests of a bucket "plant" of an organisation "works".
type influxDB2 struct {
	t  *testing.T
	mu sync.Mutex

	noBucket bool
	status   int    // of each write; 0: 204
	body     string // of that answer
	bad      string // a line with it is refused with 422
	lines    map[string]bool
	asked    int // writes that were answered by status
}

func (db *influxDB2) set(change func()) {
	db.mu.Lock()
	defer db.mu.Unlock()
	change()
	db.asked = 0
}

func (db *influxDB2) writes() int {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.asked
}

func (db *influxDB2) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	db.mu.Lock()
	defer db.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Influxdb-Version", "v2.7.12")
	if r.URL.Path != "/ping" && r.Header.Get("Authorization") != "Token tok" {
		db.t.Errorf("%s with %q", r.URL, r.Header.Get("Authorization"))
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /ping":
		w.WriteHeader(http.StatusNoContent)
	case "GET /api/v2/buckets":
		if db.noBucket {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"code":"not found","message":"bucket \"plant\" not found"}`)
			return
		}
		fmt.Fprint(w, `{"buckets":[{"id":"b1","orgID":"o1","type":"user","name":"plant","retentionRules":[]}]}`)
	case "GET /api/v2/dbrps":
		fmt.Fprint(w, `{"content":[{"id":"m1","database":"plant","retention_policy":"autogen","default":true,"orgID":"o1","bucketID":"b1"}]}`)
	case "POST /query":
		fmt.Fprint(w, `{"results":[{"statement_id":0}]}`)
	case "POST /api/v2/write":
		db.write(w, r)
	default:
		db.t.Errorf("unexpected %s %s", r.Method, r.URL)
		w.WriteHeader(http.StatusNotFound)
	}
}

// write stores what is good of a batch beside one bad line, as 2.x does. It needs mu.
func (db *influxDB2) write(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("org") != "works" || q.Get("bucket") != "plant" || q.Get("precision") != "ns" || r.Header.Get("Content-Encoding") != "gzip" {
		db.t.Errorf("write to %s, encoded as %q", r.URL, r.Header.Get("Content-Encoding"))
	}
	body, err := gzip.NewReader(r.Body)
	if err != nil {
		db.t.Error(err)
		return
	}
	text, err := io.ReadAll(body)
	if err != nil {
		db.t.Error(err)
	}
	if db.status != 0 {
		db.asked++
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(db.status)
		fmt.Fprint(w, db.body)
		return
	}
	refused := false
	for line := range strings.Lines(string(text)) {
		if db.bad != "" && strings.Contains(line, db.bad) {
			refused = true
			continue
		}
		db.lines[strings.TrimSpace(line)] = true
	}
	if refused {
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict: input field \"n\" on measurement \"telemetry\" is type float, already exists as type string dropped=1"}`)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// storeMessage is what readyz says of the store.
func (h *hubProcess) storeMessage() string {
	h.t.Helper()
	var ready struct {
		Parts []struct{ Name, Message string }
	}
	if status := h.call(http.MethodGet, "/readyz", nil, &ready); status != http.StatusOK {
		h.t.Errorf("readyz: %d", status)
	}
	for _, p := range ready.Parts {
		if p.Name == "store" {
			return p.Message
		}
	}
	return "no such part"
}

// TestContractOfTheHubWithInfluxDB2 goes through what its API can answer: each refusal has the meaning that it has for
// the readings, is named where an operator looks, and costs none of them.
func TestContractOfTheHubWithInfluxDB2(t *testing.T) {
	t.Parallel()
	db := &influxDB2{t: t, noBucket: true, lines: map[string]bool{}}
	server := httptest.NewServer(db)
	t.Cleanup(server.Close)
	config := filepath.Join(t.TempDir(), "hub.yaml")
	text := fmt.Sprintf("store:\n  kind: influxdb\n  influxdb: {url: %s, org: works, bucket: plant, token: tok, gzip: true}\n", server.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, t.TempDir(), "--config", config)
	if said := h.storeMessage(); !strings.Contains(said, `no bucket "plant"`) || !strings.Contains(said, "influx bucket create --org works --name plant") {
		t.Errorf("before any reading readyz does not say what to mend: %q", said)
	}
	if log := h.stderr.String(); !strings.Contains(log, "influx bucket create --org works --name plant") {
		t.Errorf("nor does the log: %s", log)
	}
	db.set(func() { db.noBucket = false })
	until(t, "the bucket is found", func() bool { return h.storeMessage() == "" })

	token, sent := h.newDevice("d1"), 0
	for _, c := range []struct {
		status int
		body   string
		says   string
	}{
		{401, `{"code":"unauthorized","message":"unauthorized access"}`, "set a valid token"},
		{404, `{"code":"not found","message":"bucket \"plant\" not found"}`, "create the bucket"},
		{429, `{"code":"too many requests","message":"org has exceeded limited write plan limit"}`, "429"},
		{500, `{"code":"internal error","message":"unexpected error writing points to database: timeout"}`, "500"},
		{503, `{"code":"unavailable","message":"service unavailable"}`, "503"},
	} {
		db.set(func() { db.status, db.body = c.status, c.body })
		sent++
		h.post("d1", token, fmt.Sprintf(`{"boot":"b","seq":%d,"ts":%d,"values":{"n":%d}}`, sent, 1_700_000_000_000+sent, sent))
		until(t, fmt.Sprintf("readyz names %d", c.status), func() bool {
			return db.writes() > 0 && strings.Contains(h.storeMessage(), c.says)
		})
		if a := h.audit().Total; a.Queued != 1 || a.Quarantined != 0 {
			t.Errorf("while writes are answered %d: %+v", c.status, a)
		}
		db.set(func() { db.status = 0 })
		until(t, "the reading is stored", func() bool { return h.audit().Total.Stored == sent && h.storeMessage() == "" })
	}

	db.set(func() { db.bad = "n=7 " })
	h.post("d1", token, fmt.Sprintf(`{"boot":"b","seq":6,"ts":%d,"readings":[{"values":{"n":6}},{"values":{"n":7}},{"values":{"n":8}}]}`, 1_700_000_000_100))
	until(t, "one of three is quarantined", func() bool { a := h.audit().Total; return a.Stored == 7 && a.Quarantined == 1 })
	if out, _, _ := h.ctl("quarantine", "ls"); !strings.Contains(out, "field type conflict: input field") {
		t.Errorf("the quarantine has not the database's own words: %s", out)
	}
	db.set(func() { db.bad = "" })
	if out, errs, status := h.ctl("quarantine", "retry", "--all"); status != 0 {
		t.Errorf("retry: %s%s", out, errs)
	}
	db.set(func() {
		if len(db.lines) != 8 {
			t.Errorf("the database has %d points of 8 readings: %v", len(db.lines), db.lines)
		}
	})
}
