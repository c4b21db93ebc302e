package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"telemetryhub/store"
	"telemetryhub/store/influxtest"
)

// shared is the one influxd of the behaviours; each test has its own database on it.
var shared struct {
	once   sync.Once
	server *influxtest.Server
	dir    string
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// serverURL gives the shared server's address, starting it for the first test that asks.
func serverURL(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "influxd"); shared.err == nil {
			shared.server, shared.err = influxtest.Start(context.Background(), shared.dir)
		}
	})
	if shared.err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(shared.err)
		}
		t.Skip(shared.err)
	}
	return shared.server.URL()
}

// eachEngine runs a behaviour on the embedded engine and on a real server.
func eachEngine(t *testing.T, behaviour func(t *testing.T, s *store.Store)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { behaviour(t, openEmbedded(t, t.TempDir(), 0)) })
	t.Run("influxdb", func(t *testing.T) {
		behaviour(t, openServer(t, store.InfluxConfig{URL: serverURL(t), Bucket: bucketName(t)}))
	})
	t.Run("influxdb gzip", func(t *testing.T) {
		behaviour(t, openServer(t, store.InfluxConfig{URL: serverURL(t), Bucket: bucketName(t) + "/autogen", Gzip: true}))
	})
}

// bucketName is of one run of a test: with -count there are several, on the same server.
func bucketName(t *testing.T) string {
	t.Helper()
	return fmt.Sprint(strings.NewReplacer("/", "_", "#", "_").Replace(t.Name()), "_", time.Now().UnixNano())
}

func openEmbedded(t testing.TB, dir string, retention time.Duration) *store.Store {
	t.Helper()
	s, err := store.OpenEmbedded(t.Context(), store.EmbeddedConfig{Dir: dir, Retention: retention}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

// openServer opens and checks, which creates the database.
func openServer(t testing.TB, c store.InfluxConfig) *store.Store {
	t.Helper()
	s := openUnchecked(t, c)
	if err := s.Check(t.Context()); err != nil {
		t.Fatalf("Check: %v", err)
	}
	return s
}

func openUnchecked(t testing.TB, c store.InfluxConfig) *store.Store {
	t.Helper()
	s, err := store.OpenInfluxDB(t.Context(), c, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func closeStore(t testing.TB, s *store.Store) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// inNanos appends what times in ms, at the ends of lines, lack to be ns.
func inNanos(lines string) []byte {
	return regexp.MustCompile(`(?m) (-?\d+)$`).ReplaceAll([]byte(lines), []byte(" ${1}000000"))
}

// write stores lines, with times in ms, that must be accepted.
func write(t testing.TB, s *store.Store, lines ...string) {
	t.Helper()
	if err := s.Write(context.Background(), inNanos(strings.Join(lines, "\n")+"\n")); err != nil {
		t.Fatalf("Write: %v", err)
	}
}

// read answers a query in one page.
func read(t testing.TB, s *store.Store, q store.Query) []store.Row {
	t.Helper()
	page, err := s.Query(context.Background(), q)
	if err != nil {
		t.Fatalf("Query: %v", err)
	}
	if page.Next != "" {
		t.Fatalf("Query: a page of %d rows is not the last", len(page.Rows))
	}
	return page.Rows
}

func at(ms int64) time.Time { return time.UnixMilli(ms) }
