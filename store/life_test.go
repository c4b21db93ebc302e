package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"telemetryhub/store"
	"telemetryhub/store/influxtest"
)

func TestEmbeddedReopens(t *testing.T) {
	dir := t.TempDir()
	for k := range 3 {
		s := openEmbedded(t, dir, 0)
		write(t, s, fmt.Sprintf("telemetry,device=a n=%d %d", k, t0+int64(k)))
		if rows := read(t, s, store.Query{Device: "a"}); len(rows) != k+1 {
			t.Fatalf("opened %d times: %v", k+1, rows)
		}
		closeStore(t, s)
	}
}

// A second engine on a copy taken while the first is open sees what a crash leaves: all that was accepted.
func TestEmbeddedAfterACrashHasWhatWasAccepted(t *testing.T) {
	dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	s := openEmbedded(t, dir, 0)
	for k := range 20 {
		write(t, s, fmt.Sprintf("telemetry,device=d%d n=%d,f%d=1 %d", k, k, k, t0+int64(k)*40*24*3600_000)) // shards, series, fields
	}
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	after := openEmbedded(t, copied, 0)
	for k := range 20 {
		wantRows(t, read(t, after, store.Query{Device: fmt.Sprint("d", k)}), row(t0+int64(k)*40*24*3600_000, "n", float64(k), fmt.Sprint("f", k), 1.0))
	}
}

func TestEmbeddedRetention(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	old, young := now.Add(-800*24*time.Hour).UnixMilli(), now.Add(-time.Hour).UnixMilli()
	s := openEmbedded(t, dir, 0)
	write(t, s, fmt.Sprintf("telemetry,device=a n=1 %d\ntelemetry,device=a n=2 %d", old, young))
	closeStore(t, s)

	s = openEmbedded(t, dir, 30*24*time.Hour)
	wantRows(t, read(t, s, store.Query{Device: "a"}), row(young, "n", 2.0))
	if shards, err := os.ReadDir(filepath.Join(dir, "data", "telemetry", "autogen")); err != nil || len(shards) != 1 {
		t.Errorf("shards on the disk: %v, %v", shards, err)
	}
	err := s.Write(t.Context(), inNanos(fmt.Sprintf("telemetry,device=a n=1 %d\ntelemetry,device=a n=3 %d", old, young+1)))
	var rejected *store.RejectedError
	if !errors.As(err, &rejected) || !strings.Contains(rejected.Message, "retention") {
		t.Errorf("a point beyond the retention: %v", err)
	}
	wantRows(t, read(t, s, store.Query{Device: "a"}), row(young, "n", 2.0), row(young+1, "n", 3.0))
	closeStore(t, s)

	s = openEmbedded(t, dir, 0)
	write(t, s, fmt.Sprintf("telemetry,device=a n=1 %d", old)) // unlimited again
	if rows := read(t, s, store.Query{Device: "a"}); len(rows) != 3 {
		t.Errorf("after the retention was lifted: %v", rows)
	}
}

func TestEmbeddedTellsOfAShardItCannotOpen(t *testing.T) {
	dir := t.TempDir()
	s := openEmbedded(t, dir, 0)
	if err := s.Check(t.Context()); err != nil {
		t.Fatalf("Check: %v", err)
	}
	write(t, s, fmt.Sprintf("telemetry,device=a n=1 %d", t0))
	closeStore(t, s)
	damaged := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "MANIFEST" {
			damaged++
			return os.WriteFile(path, []byte(`{"version":99}`), 0o600) // of an engine to come
		}
		return err
	})
	if err != nil || damaged == 0 {
		t.Fatalf("%d manifests damaged: %v", damaged, err)
	}
	s = openEmbedded(t, dir, 0)
	var config *store.ConfigError
	if err := s.Check(t.Context()); !errors.As(err, &config) || !strings.Contains(config.Mend, "buildtsi") {
		t.Errorf("Check: %v", err)
	}
	write(t, s, fmt.Sprintf("telemetry,device=a n=1 %d", t0+400*24*3600_000)) // others go on
}

func TestEmbeddedWritesAndReadsAtTheSameTime(t *testing.T) {
	s := openEmbedded(t, t.TempDir(), 0)
	const writers, each = 4, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for k := range each {
				if err := s.Write(t.Context(), inNanos(fmt.Sprintf("telemetry,device=d%d,new=t%d n=%d %d", w, k%7, k, t0+int64(k)))); err != nil {
					t.Error(err)
				}
				if _, err := s.Query(t.Context(), store.Query{Device: "d0"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for w := range writers {
		if rows := read(t, s, store.Query{Device: fmt.Sprint("d", w)}); len(rows) != each {
			t.Errorf("writer %d: %d rows", w, len(rows))
		}
	}
}

func TestEndedContextReachesTheEmbeddedEngine(t *testing.T) {
	s := openEmbedded(t, t.TempDir(), 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Write(ctx, []byte("telemetry,device=a n=1 1")); !errors.Is(err, context.Canceled) {
		t.Errorf("Write: %v", err)
	}
	if _, err := s.Query(ctx, store.Query{Device: "a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Query: %v", err)
	}
}

func TestAfterCloseNothingWorks(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		closeStore(t, s)
		closeStore(t, s)
		_, queryErr := s.Query(t.Context(), store.Query{Device: "a"})
		for _, err := range []error{s.Write(t.Context(), []byte("m x=1")), s.Check(t.Context()), queryErr} {
			if !errors.Is(err, store.ErrClosed) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// An engine that hangs, with a write in it, does not keep a hub from ending.
func TestCloseDoesNotWaitForAHangingWriteLongerThanAsked(t *testing.T) {
	begun, let := make(chan struct{}), make(chan struct{})
	s := fake(t, store.InfluxConfig{}, func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-let
		w.WriteHeader(http.StatusNoContent)
	})
	written := make(chan error, 1)
	go func() { written <- s.Write(context.Background(), []byte("m x=1")) }()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
	if err := s.Write(t.Context(), []byte("m x=1")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	close(let)
	if err := <-written; err != nil {
		t.Errorf("the write in progress: %v", err)
	}
}

func TestName(t *testing.T) {
	if name := openEmbedded(t, t.TempDir(), 0).Name(); name != "embedded" {
		t.Error(name)
	}
	if name := openUnchecked(t, store.InfluxConfig{URL: "http://127.0.0.1:1", Bucket: "b"}).Name(); name != "influxdb" {
		t.Error(name)
	}
}

// The database is away when the hub starts, comes, crashes, and comes back with what it had accepted.
func TestServerGoesAndComesBack(t *testing.T) {
	server := influxtest.StartT(t)
	s := openUnchecked(t, store.InfluxConfig{URL: server.URL(), Bucket: "hub"})
	var config *store.ConfigError
	if err := s.Write(t.Context(), []byte("telemetry,device=a n=0 1")); !errors.As(err, &config) || config.Status != 404 {
		t.Fatalf("without a database: %v", err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatalf("Check: %v", err)
	}
	write(t, s, fmt.Sprintf("telemetry,device=a n=1 %d", t0))
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	wantLater(t, s, nil)
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, s, fmt.Sprintf("telemetry,device=a n=2 %d", t0+1))
	wantRows(t, read(t, s, store.Query{Device: "a"}), row(t0, "n", 1.0), row(t0+1, "n", 2.0))
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	wantLater(t, s, nil)
}

func TestTooLargeForTheServer(t *testing.T) {
	s := openServer(t, store.InfluxConfig{URL: serverURL(t), Bucket: "large"})
	batch := []byte(strings.Repeat(fmt.Sprintf("telemetry,device=a n=1 %d000000\n", t0), 700_000)) // over max-body-size
	var large *store.TooLargeError
	var retry *store.RetryError
	err := s.Write(t.Context(), batch)
	if !errors.As(err, &large) && !errors.As(err, &retry) { // the server may cut the connection before its answer is read
		t.Errorf("got %v", err)
	}
}

func TestServerWithoutTheRetentionPolicy(t *testing.T) {
	s := openUnchecked(t, store.InfluxConfig{URL: serverURL(t), Bucket: "policies/none"})
	var config *store.ConfigError
	if err := s.Check(t.Context()); !errors.As(err, &config) || !strings.Contains(config.Mend, `CREATE RETENTION POLICY "none" ON "policies"`) {
		t.Errorf("Check: %v", err)
	}
	if err := s.Write(t.Context(), []byte("telemetry,device=a n=1 1")); err == nil {
		t.Error("a write to a missing retention policy was accepted")
	}
}
