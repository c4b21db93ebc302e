package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"telemetryhub/store"
)

// fake answers every request by f. It reads the request first: only then does a server see that its client has gone.
func fake(t *testing.T, c store.InfluxConfig, f http.HandlerFunc) *store.Store {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		f(w, r)
	}))
	t.Cleanup(server.Close)
	c.URL = server.URL
	if c.Bucket == "" {
		c.Bucket = "db"
	}
	return openUnchecked(t, c)
}

// The bodies are those that the generations of InfluxDB document or (1.8) give.
func TestAnswersToAWriteHaveOneMeaningEach(t *testing.T) {
	rejected := func(line int) error { return &store.RejectedError{Line: line} }
	for _, c := range []struct {
		name    string
		status  int
		header  string // "name: value"
		body    string
		want    error // type, and Line or After or Status
		message string
	}{
		{"accepted", 204, "", "", nil, ""},
		{"1.8 partial", 400, "Content-Type: application/json", `{"error":"partial write: field type conflict: input field \"x\" on measurement \"m\" is type string, already exists as type float dropped=1"}`, rejected(-1), "field type conflict"},
		{"1.8 syntax", 400, "Content-Type: application/json", `{"error":"partial write: unable to parse 'm x=': missing field value dropped=0"}`, rejected(1), "missing field value"},
		{"2.x syntax", 400, "Content-Type: application/json", `{"code":"invalid","message":"unable to parse 'm x=': missing field value","line":3}`, rejected(2), "missing field value"},
		{"2.x conflict", 422, "Content-Type: application/json", `{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict"}`, rejected(-1), "field type conflict"},
		{"3 partial", 400, "Content-Type: application/json", `{"error":"partial write of line protocol occurred","data":[{"original_line":"m x=","line_number":2,"error_message":"invalid field"}]}`, rejected(1), "invalid field"},
		{"3 data is an object", 400, "", `{"error":"parsing failed","data":{"line_number":2}}`, rejected(-1), "parsing failed"},
		{"500 about the points", 500, "", `{"code":"internal error","message":"unexpected error writing points to database: partial write: field type conflict"}`, rejected(-1), "conflict"},
		{"unauthorized", 401, "", `{"code":"unauthorized","message":"unauthorized access"}`, &store.ConfigError{Status: 401}, "unauthorized access"},
		{"forbidden", 403, "", "", &store.ConfigError{Status: 403}, "Forbidden"},
		{"missing", 404, "X-Influxdb-Error: database not found", "", &store.ConfigError{Status: 404}, "database not found"},
		{"method", 405, "", "", &store.ConfigError{Status: 405}, ""},
		{"too large", 413, "", `{"error":"Request Entity Too Large"}`, &store.TooLargeError{Size: 14}, "Too Large"},
		{"rate", 429, "Retry-After: 17", `{"code":"too many requests","message":"exceeded"}`, &store.RetryError{After: 17 * time.Second}, "429"},
		{"rate without time", 429, "", "", &store.RetryError{}, "429"},
		{"internal", 500, "", "engine: cache-max-memory-size exceeded", &store.RetryError{}, "cache-max-memory-size"},
		{"unavailable", 503, "Retry-After: 5", "", &store.RetryError{After: 5 * time.Second}, "503"},
		{"a web server", 200, "Content-Type: text/html", "<html>Welcome</html>", &store.ConfigError{Status: 200}, "not InfluxDB's"},
		{"redirect", 302, "Location: https://elsewhere/login", "", &store.ConfigError{Status: 302}, "https://elsewhere/login"},
		{"permanent redirect", 308, "Location: https://elsewhere/", "", &store.ConfigError{Status: 308}, "https://elsewhere/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := fake(t, store.InfluxConfig{Token: "secret-token"}, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/v2/write" || r.URL.Query().Get("precision") != "ns" || r.URL.Query().Get("bucket") != "db" ||
					r.Header.Get("Authorization") != "Token secret-token" {
					t.Errorf("request %s %v", r.URL, r.Header)
				}
				if name, value, ok := strings.Cut(c.header, ": "); ok {
					w.Header().Set(name, value)
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			})
			err := s.Write(t.Context(), []byte("m x=1 1\nm x=\n\n"))
			wantOutcome(t, err, c.want)
			if err != nil && (!strings.Contains(err.Error(), c.message) || strings.Contains(err.Error(), "secret-token")) {
				t.Errorf("message %q, want …%s…", err, c.message)
			}
		})
	}
}

// wantOutcome compares the type and the part that the caller acts on.
func wantOutcome(t *testing.T, got, want error) {
	t.Helper()
	if reflect.TypeOf(got) != reflect.TypeOf(want) {
		t.Fatalf("got %T (%v), want %T", got, got, want)
	}
	same := true
	switch want := want.(type) {
	case *store.RejectedError:
		same = got.(*store.RejectedError).Line == want.Line
	case *store.ConfigError:
		same = got.(*store.ConfigError).Status == want.Status && got.(*store.ConfigError).Mend != ""
	case *store.RetryError:
		same = got.(*store.RetryError).After == want.After
	case *store.TooLargeError:
		same = got.(*store.TooLargeError).Size == want.Size
	}
	if !same {
		t.Errorf("got %#v, want %#v", got, want)
	}
}

func TestRetryAfterAsDate(t *testing.T) {
	s := fake(t, store.InfluxConfig{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		w.WriteHeader(503)
	})
	var retry *store.RetryError
	if err := s.Write(t.Context(), []byte("m x=1")); !errors.As(err, &retry) || retry.After < 59*time.Minute || retry.After > time.Hour {
		t.Errorf("got %v", err)
	}
}

func TestBrokenConnectionsAreForLater(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := openUnchecked(t, store.InfluxConfig{URL: "http://" + l.Addr().String(), Bucket: "db"})
		l.Close()
		wantLater(t, s, nil)
	})
	t.Run("closed in the middle", func(t *testing.T) {
		s := fake(t, store.InfluxConfig{}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.WriteHeader(200)
			fmt.Fprint(w, `{"results":[`)
			panic(http.ErrAbortHandler)
		})
		var retry *store.RetryError
		if _, err := s.Query(t.Context(), store.Query{Device: "a"}); !errors.As(err, &retry) {
			t.Errorf("Query: got %v", err)
		}
	})
	t.Run("closed before the answer", func(t *testing.T) {
		wantLater(t, fake(t, store.InfluxConfig{}, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), nil)
	})
	t.Run("slower than the context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := fake(t, store.InfluxConfig{}, func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
		var retry *store.RetryError
		if err := s.Write(ctx, []byte("m x=1")); !errors.As(err, &retry) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("slower than the timeout", func(t *testing.T) {
		s := fake(t, store.InfluxConfig{Timeout: 20 * time.Millisecond, Gzip: true}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		wantLater(t, s, context.DeadlineExceeded)
	})
}

func wantLater(t *testing.T, s *store.Store, cause error) {
	t.Helper()
	_, queryErr := s.Query(t.Context(), store.Query{Device: "a"})
	_, latestErr := s.Latest(t.Context(), "a", "")
	for name, err := range map[string]error{
		"Write": s.Write(t.Context(), []byte("m x=1")), "Check": s.Check(t.Context()), "Query": queryErr, "Latest": latestErr,
	} {
		var retry *store.RetryError
		if !errors.As(err, &retry) || cause != nil && !errors.Is(err, cause) {
			t.Errorf("%s: got %v, want RetryError", name, err)
		}
	}
}

func TestAnswersToAQuery(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   error // nil: some error without a type
	}{
		{200, `{"results":[{"statement_id":0,"error":"database not found: db"}]}`, &store.ConfigError{}},
		{200, `{"results":[{"statement_id":0,"error":"query-timeout limit exceeded"}]}`, &store.InvalidQueryError{}},
		{200, `{"results":[{"statement_id":0,"error":"max-select-buckets limit exceeded: (9/3)"}]}`, nil},
		{200, `{"results":[]}`, nil},
		{200, `<html>`, &store.ConfigError{Status: 200}},
		{200, `{"results":[{"series":[{"columns":["time","x"],"values":[[1]]}]}]}`, nil},
		{200, `{"results":[{"series":[{"columns":["time","x"],"values":[["2016-01-01T00:00:00Z",1]]}]}]}`, nil},
		{400, `{"error":"error parsing query"}`, nil},
		{401, `{"error":"authorization failed"}`, &store.ConfigError{Status: 401}},
		{503, ``, &store.RetryError{}},
	} {
		s := fake(t, store.InfluxConfig{}, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			fmt.Fprint(w, c.body)
		})
		_, err := s.Query(t.Context(), store.Query{Device: "a"})
		if err == nil {
			t.Errorf("%d %s: no error", c.status, c.body)
		} else if c.want != nil && reflect.TypeOf(err) != reflect.TypeOf(c.want) {
			t.Errorf("%d %s: got %T %v", c.status, c.body, err, err)
		}
	}
}

func TestConfigurationFaults(t *testing.T) {
	for want, c := range map[string]store.InfluxConfig{
		"url: must be":        {URL: "localhost:8086", Bucket: "b"},
		"url: holds a user":   {URL: "http://u:secret@h", Bucket: "b"},
		"bucket: is missing":  {URL: "http://h", Bucket: "/rp"},
		"timeout: is":         {URL: "http://h", Bucket: "b", Timeout: -1},
		"url: cannot":         {URL: "http://u:secret@h:x%", Bucket: "b"},
		"url: must not have":  {URL: "http://h?x=1", Bucket: "b"},
		"url: must be http":   {Bucket: "b"},
		"bucket: is missing ": {},
	} {
		_, err := store.OpenInfluxDB(t.Context(), c, testLog(t))
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: got %v, want …%s…", c, err, want)
		}
	}
	_, err := store.OpenEmbedded(t.Context(), store.EmbeddedConfig{Retention: time.Minute}, testLog(t))
	if err == nil || !strings.Contains(err.Error(), "dir:") || !strings.Contains(err.Error(), "retention:") {
		t.Errorf("embedded: %v", err)
	}
}
