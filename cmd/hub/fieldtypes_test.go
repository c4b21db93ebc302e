package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"telemetryhub/store"
	"telemetryhub/store/influxtest"
)

// TestNoTypeConflictReachesADatabaseThatOthersFill runs on a real InfluxDB: a field is a string there already, another an
// integer by the device's type, and the rest is what devices make of it.
func TestNoTypeConflictReachesADatabaseThatOthersFill(t *testing.T) {
	t.Parallel()
	db := influxtest.StartT(t)
	other, err := store.OpenInfluxDB(t.Context(), store.InfluxConfig{URL: db.URL(), Bucket: "telemetry"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close(t.Context()) })
	if err := other.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Hour).UnixMilli()
	if err := other.Write(t.Context(), fmt.Appendf(nil, "telemetry,device=old label=\"x\" %d000000\n", at)); err != nil {
		t.Fatal(err)
	}

	args := withInfluxDB(t, db)
	config, err := os.OpenFile(args[1], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(config, "types:\n  - {name: meter, fields: {Wh: {type: integer}}}\n")
	if err := config.Close(); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, t.TempDir(), args...)
	if status := h.call(http.MethodPost, "/api/v1/devices", map[string]string{"id": "m1", "type": "meter"}, nil); status != http.StatusCreated {
		t.Fatal(status)
	}
	var made struct{ Token string }
	h.call(http.MethodPost, "/api/v1/devices/m1/token", nil, &made)
	var readings []string
	for _, values := range []string{`{"label":7,"Wh":1}`, `{"label":"y","Wh":1.5}`, `{"label":true,"Wh":"3"}`, `{"T":20}`, `{"T":"warm"}`, `{"T":"20.5"}`, `{"T":21}`} {
		readings = append(readings, fmt.Sprintf(`{"ts":%d,"values":%s}`, at, values)) // all at one time
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/api/v1/devices/m1/telemetry", strings.NewReader(`{"boot":"b","seq":1,"readings":[`+strings.Join(readings, ",")+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+made.Token)
	request.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: h.tls()}}
	defer client.CloseIdleConnections()
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		t.Fatal(answer.Status)
	}
	until(t, "the readings are settled", func() bool {
		total := h.audit().Total
		return total.Stored == 5 && total.Quarantined == 2
	})
	var aside struct{ Items []struct{ Reason string } }
	h.call(http.MethodGet, "/api/v1/quarantine", nil, &aside)
	for _, item := range aside.Items {
		if !strings.HasPrefix(item.Reason, "type_conflict") {
			t.Errorf("quarantined: %s", item.Reason)
		}
	}
	types, err := other.FieldTypes(t.Context(), "")
	if err != nil || fmt.Sprint(types) != "map[T:float Wh:integer label:string]" {
		t.Errorf("types in the database: %v, %v", types, err)
	}
	page, err := other.Query(t.Context(), store.Query{Device: "m1"})
	if err != nil || len(page.Rows) != 5 {
		t.Fatalf("rows in the database: %v, %v", page.Rows, err)
	}
	for _, row := range page.Rows {
		if row.Time != at {
			t.Errorf("%v is not at %d", row, at)
		}
	}
}
