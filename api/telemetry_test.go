package api_test

import (
	"cmp"
	"encoding/base64"
	"io"
	"math"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryhub/api"
)

func TestPostTelemetry(t *testing.T) {
	basic := func(user, token string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+token))
	}
	const good = `{"values":{"Temp":20.5}}`
	for name, c := range map[string]struct {
		path, token, body string
		headers           []string
		status            int
		reason            string
		refused           string
	}{
		"params":             {body: good, status: 204},
		"bare values":        {body: `{"Temp":20.5}`, status: 204},
		"basic":              {token: "-", headers: []string{basic("d1", "dev_1")}, body: good, status: 204},
		"curl's default":     {body: good, headers: []string{"Content-Type: application/x-www-form-urlencoded"}, status: 204},
		"nobody":             {token: "-", body: good, status: 401, reason: "no_credentials"},
		"wrong token":        {token: "dev_x", body: good, status: 401, reason: "bad_credentials"},
		"wrong user":         {token: "-", headers: []string{basic("d2", "dev_1")}, body: good, status: 401, reason: "bad_credentials"},
		"an operator":        {token: "op_admin", body: good, status: 401, reason: "bad_credentials"},
		"another's path":     {path: "/api/v1/devices/d2/telemetry", body: good, status: 403, reason: "wrong_device"},
		"disabled":           {path: "/api/v1/devices/d3/telemetry", token: "dev_3", body: good, status: 403, reason: "device_disabled"},
		"not JSON":           {body: `{"Temp":`, status: 400, reason: "bad_json", refused: "d1 bad_json"},
		"empty":              {body: ``, status: 400, reason: "bad_json", refused: "d1 bad_json"},
		"not UTF-8":          {body: "{\"a\":\"\xff\"}", status: 400, reason: "bad_utf8", refused: "d1 bad_utf8"},
		"an array":           {body: `[1]`, status: 422, reason: "bad_frame", refused: "d1 bad_frame"},
		"too large":          {body: `{"a":"` + strings.Repeat("x", 1000) + `"}`, status: 413, reason: "frame_too_large", refused: "d1 frame_too_large"},
		"CBOR":               {body: "\xa1\x61a\xf9\x3c\x00", headers: []string{"Content-Type: application/cbor"}, status: 204},
		"CBOR params":        {body: "\xa1\x66values\xa1\x61a\xfb\x40\x34\x7a\xe1\x47\xae\x14\x7b", headers: []string{"Content-Type: Application/CBOR"}, status: 204},
		"no CBOR":            {body: good, headers: []string{"Content-Type: application/cbor"}, status: 400, reason: "bad_cbor", refused: "d1 bad_cbor"},
		"CBOR as JSON":       {body: "\xa1\x61a\xf9\x3c\x00", headers: []string{"Content-Type: application/json"}, status: 400, reason: "bad_utf8", refused: "d1 bad_utf8"},
		"SenML":              {body: `[{"bn":"d1:","n":"Temp","u":"Cel","v":20.5}]`, headers: []string{"Content-Type: application/senml+json"}, status: 204},
		"SenML, an object":   {body: good, headers: []string{"Content-Type: application/senml+json"}, status: 204},
		"no SenML":           {body: `[{"n":"Temp","v":1,"x_":1}]`, headers: []string{"Content-Type: application/senml+json"}, status: 422, reason: "bad_senml", refused: "d1 bad_senml"},
		"SenML in CBOR":      {body: "\x81\xa2\x00\x64Temp\x02\xf9\x3c\x00", headers: []string{"Content-Type: application/senml+cbor"}, status: 204},
		"a stream of SenML":  {body: `[{"n":"a","v":1}]`, headers: []string{"Content-Type: application/sensml+json"}, status: 415, reason: "unsupported_media_type", refused: "d1 unsupported_media_type"},
		"XML":                {body: `<a/>`, headers: []string{"Content-Type: application/senml+xml"}, status: 415, reason: "unsupported_media_type", refused: "d1 unsupported_media_type"},
		"gzip":               {body: "\x1f\x8b", headers: []string{"Content-Encoding: gzip"}, status: 415, reason: "unsupported_media_type", refused: "d1 unsupported_media_type"},
		"not a query":        {path: "/api/v1/devices/d1/telemetry?token=dev_1", body: good, status: 422, reason: "invalid"},
		"exactly max_frame":  {body: `{"a":"` + strings.Repeat("x", 1000-8) + `"}`, status: 204},
		"one reading, batch": {body: `{"readings":[{"ts":1700000000000,"values":{"Temp":1}}],"seq":1,"boot":"b"}`, status: 204},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, api.Config{MaxFrame: 1000})
			if c.path == "" {
				c.path = "/api/v1/devices/d1/telemetry"
			}
			switch c.token {
			case "":
				c.token = "dev_1"
			case "-":
				c.token = ""
			}
			a := b.ask("POST", c.path, c.token, c.body, c.headers...)
			if c.status == 204 {
				a.want(204)
			} else {
				a.wantProblem(c.status, c.reason)
			}
			if got, want := len(b.said(&b.committed)), c.status == 204; (got == 1) != want {
				t.Errorf("committed %d frames", got)
			}
			if got := strings.Join(b.said(&b.refused), ","); got != c.refused {
				t.Errorf("refused %q, want %q", got, c.refused)
			}
		})
	}
}

func TestPostedUnitsAreKept(t *testing.T) {
	b := newBench(t, api.Config{})
	b.ask("POST", "/api/v1/devices/d1/telemetry", "dev_1", `[{"bn":"d1:","n":"Temp","u":"Cel","v":20.5}]`, "Content-Type: application/senml+json").want(204)
	b.stored["Temp"] = api.Value{Value: 20.5, TS: 9000}
	for path, want := range map[string]string{"/api/v1/devices/d1": `"units":{"Temp":"Cel"}`, "/api/v1/devices/d1/latest": `"unit":"Cel"`} {
		if got := b.ask("GET", path, "op_viewer", "").want(200).body; !strings.Contains(string(got), want) {
			t.Errorf("%s says %s, want %s", path, got, want)
		}
	}
}

// TestChunkedBodyIsLimited sends a body that does not say its length beforehand.
func TestChunkedBodyIsLimited(t *testing.T) {
	b := newBench(t, api.Config{MaxFrame: 1000})
	body := io.MultiReader(strings.NewReader(`{"a":"`+strings.Repeat("x", 1000-8)+`"}`), strings.NewReader(" "))
	r, err := http.NewRequestWithContext(t.Context(), "POST", b.url+"/api/v1/devices/d1/telemetry", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer dev_1")
	resp, err := b.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if refused := b.said(&b.refused); resp.StatusCode != 413 || !slices.Equal(refused, []string{"d1 frame_too_large"}) {
		t.Errorf("status %d, refused %v", resp.StatusCode, refused)
	}
}

// TestBrokenAnswerIsCut has a value in the store that JSON cannot say: the client must not take the rest for an answer.
func TestBrokenAnswerIsCut(t *testing.T) {
	b := newBench(t, api.Config{})
	b.stored["Temp"] = api.Value{Value: math.NaN(), TS: 9000}
	r, err := http.NewRequestWithContext(t.Context(), "GET", b.url+"/api/v1/devices/d1/latest", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer op_viewer")
	resp, err := b.client.Do(r)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	if err == nil {
		t.Error("the answer looks whole")
	}
}

func TestPostTelemetryIsNotAckedBeforeTheCommit(t *testing.T) {
	b := newBench(t, api.Config{})
	b.commitErr = errSecret
	a := b.ask("POST", "/api/v1/devices/d1/telemetry", "dev_1", `{"a":1}`)
	if p := a.wantProblem(503, "hub_stopping"); p.RetryAfterMs == 0 || strings.Contains(string(a.body), "hunter2") {
		t.Errorf("%s", a.body)
	}
}

// TestSlowBodyIsCut sends a body that never ends.
func TestSlowBodyIsCut(t *testing.T) {
	b := newBench(t, api.Config{BodyTimeout: 50 * time.Millisecond})
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /api/v1/devices/d1/telemetry HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer dev_1\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{")
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408") || !strings.Contains(string(answer), "body_timeout") {
		t.Errorf("%v: %s", err, answer)
	}
	if got := b.said(&b.refused); len(got) != 0 {
		t.Errorf("half a frame was counted: %v", got)
	}
}

func TestHistoryQuery(t *testing.T) {
	clock := newClock() // 2023-11-14T22:13:20Z
	now := clock.at
	b := newBench(t, api.Config{Now: clock.now})
	for query, want := range map[string]api.HistoryQuery{
		"":                     {Limit: 1000},
		"?fields=Temp&fn=mean": {Fields: []string{"Temp"}, Fn: "mean", Limit: 1000},
		"?fields=a,b,a&from=-1h&every=1m&limit=10000": {Fields: []string{"a", "b"}, From: now.Add(-time.Hour), To: now.Add(10 * time.Minute), Every: time.Minute, Fn: "mean", Limit: 10000},
		"?from=-365d&to=now&windows=1000":             {From: now.AddDate(0, 0, -365), To: now, Every: 12 * time.Hour, Fn: "mean", Limit: 1000},
		"?from=-1h&to=now&windows=61&fn=max":          {From: now.Add(-time.Hour), To: now, Every: time.Minute, Fn: "max", Limit: 61},
		"?from=1458031648545&to=-7d&measurement=m":    {From: time.UnixMilli(1458031648545), To: now.AddDate(0, 0, -7), Measurement: "m", Limit: 1000},
		"?from=2020-01-01T00:00:00Z&cursor=c":         {From: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Cursor: "c", Limit: 1000},
		"?from=2020-01-01T02:00:00%2B02:00":           {From: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Limit: 1000},
		"?from=2020-01-01T02:00:00+02:00&to=now":      {From: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), To: now, Limit: 1000},
	} {
		v := b.ask("GET", "/api/v1/devices/d1/telemetry"+query, "op_viewer", "").want(200).json()
		answer := map[string]any{"readings": []any{map[string]any{"ts": 1000.0, "values": map[string]any{"Temp": 20.5}}}, "next": "page2"}
		if want.Every > 0 {
			answer["every_ms"] = float64(want.Every.Milliseconds())
		}
		if !reflect.DeepEqual(v, answer) {
			t.Errorf("%s: %v", query, v)
		}
		got := b.queries[len(b.queries)-1]
		if !got.From.Equal(want.From) || !got.To.Equal(want.To) {
			t.Errorf("%s: from %v to %v", query, got.From, got.To)
		}
		got.From, got.To, want.From, want.To, want.Device = time.Time{}, time.Time{}, time.Time{}, time.Time{}, "d1"
		want.Measurement = cmp.Or(want.Measurement, "nodes") // the home of d1's type
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", query, got, want)
		}
	}
}

func TestHistoryRefusals(t *testing.T) {
	b := newBench(t, api.Config{})
	for query, want := range map[string][]string{ // reason, then what the detail must name
		"?from=yesterday":              {"bad_parameter", "from=yesterday", "RFC 3339", "-1h"},
		"?to=-1y":                      {"bad_parameter", "to=-1y", "RFC 3339"},
		"?from=--1h":                   {"bad_parameter", "from=--1h"},
		"?from=-NaNd":                  {"bad_parameter", "from=-NaNd"},
		"?from=-999999d":               {"bad_parameter", "from=-999999d"},
		"?from=9223372036854775807":    {"bad_parameter", "from=9223372036854775807", "2261"},
		"?from=-1h&to=-2h":             {"bad_parameter", "from=-1h", "before to"},
		"?every=1m":                    {"bad_parameter", "every=1m", "needs from"},
		"?windows=9":                   {"bad_parameter", "windows=9", "needs from"},
		"?from=-1h&windows=1":          {"invalid", "windows"},
		"?from=-1h&windows=10001":      {"invalid", "10000"},
		"?from=-1h&windows=9&every=1m": {"bad_parameter", "windows=9", "every=1m"},
		"?from=-1h&windows=9&cursor=c": {"bad_parameter", "cursor=c"},
		"?from=-1h&every=0s":           {"bad_parameter", "every=0s", "1ms"},
		"?from=-1h&every=-5m":          {"bad_parameter", "every=-5m"},
		"?from=-365d&every=1s":         {"bad_parameter", "every=1s", "more than 10000;"},
		"?fn=median":                   {"invalid", "query.fn=median"},
		"?limit=0":                     {"invalid", "query.limit", "1"},
		"?limit=10001":                 {"invalid", "query.limit=10001", "10000"},
		"?limit=x":                     {"invalid", "query.limit=x"},
		"?form=-1h":                    {"invalid", "query.form"},
	} {
		p := b.ask("GET", "/api/v1/devices/d1/telemetry"+query, "op_viewer", "").wantProblem(422, want[0])
		for _, part := range want[1:] {
			if !strings.Contains(p.Detail, part) {
				t.Errorf("%s: detail %q does not say %q", query, p.Detail, part)
			}
		}
		if len(p.Errors) == 0 || !strings.HasPrefix(p.Errors[0].Location, "query.") {
			t.Errorf("%s: errors %+v", query, p.Errors)
		}
	}
	b.ask("GET", "/api/v1/devices/none/telemetry", "op_viewer", "").wantProblem(404, "device_not_found")
	b.ask("GET", "/api/v1/quarantine?cursor=broken", "op_viewer", "").wantProblem(422, "bad_parameter")
}

func TestLatestIsTheNewestMeasured(t *testing.T) {
	clock := newClock()
	b := newBench(t, api.Config{Now: clock.now})
	now := float64(clock.at.UnixMilli())
	b.latest["d1"]["RelH"] = api.Value{Value: 1.0, TS: 500} // came later, measured before what the store has
	v := b.ask("GET", "/api/v1/devices/d1/latest", "op_viewer", "").want(200).json()
	want := map[string]any{"device": "d1", "ts": 2000.0, "age_ms": now - 2000, "values": map[string]any{
		"Temp": map[string]any{"value": 21.5, "ts": 2000.0, "age_ms": now - 2000},
		"RelH": map[string]any{"value": 40.0, "ts": 1000.0, "age_ms": now - 1000},
	}}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("got  %v\nwant %v", v, want)
	}
	b.historyErr = &api.UnavailableError{Message: "away"}
	b.stored = nil
	if v = b.ask("GET", "/api/v1/devices/d1/latest", "op_viewer", "").want(200).json(); v["ts"] != 2000.0 {
		t.Errorf("without the store: %v", v)
	}
	b.ask("GET", "/api/v1/devices/d2/latest", "op_viewer", "").wantProblem(503, "unavailable")
	b.ask("GET", "/api/v1/devices/d1/latest?measurement=other", "op_viewer", "").wantProblem(503, "unavailable")
}

func TestAuditAndQuarantine(t *testing.T) {
	b := newBench(t, api.Config{})
	v := b.ask("GET", "/api/v1/audit", "op_viewer", "").want(200).json()
	account := map[string]any{"device": "d2", "received": 7.0, "stored": 7.0, "duplicate": 0.0, "quarantined": 0.0, "queued": 0.0, "refused": map[string]any{}}
	if all := v["devices"].([]any); len(all) != 2 || !reflect.DeepEqual(all[1], account) || v["total"].(map[string]any)["received"] != 10.0 {
		t.Errorf("audit %v", v)
	}
	b.ask("GET", "/api/v1/audit?device=none", "op_viewer", "").wantProblem(404, "device_not_found")
	if a := b.ask("GET", "/api/v1/quarantine", "op_viewer", "").want(200); !slices.Equal(a.body, []byte("{\"items\":[],\"next\":\"\"}\n")) {
		t.Errorf("quarantine %s", a.body)
	}
}
