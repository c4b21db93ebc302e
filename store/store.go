package store

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	influxdb2 "github.com/influxdata/influxdb-client-go/v2"
	"github.com/influxdata/influxdb-client-go/v2/api"
)

const (
	// DefaultMeasurement is the measurement of a query that names none.
	DefaultMeasurement = "telemetry"
	// DeviceTag is the tag that holds the device id.
	DeviceTag = "device"
)

// Store writes points to one engine and reads them back. All methods may be called at the same time.
type Store struct {
	// Fixed after construction.
	name      string
	place     place
	log       *slog.Logger
	client    influxdb2.Client
	writes    api.WriteAPIBlocking
	queryURL  string
	check     func(context.Context) error
	closeOnce func() error

	mu     sync.Mutex
	closed bool
	calls  int           // in progress; Close waits for them
	idle   chan struct{} // closed when the store is, and no call is in progress
}

// place is where the points are, as the two generations of InfluxDB name it.
type place struct {
	org, bucket string // of the v2 API
	db, rp      string // of InfluxQL: the bucket "db/rp", or "db" with the default retention policy
}

func placeOf(org, bucket string) place {
	db, rp, _ := strings.Cut(bucket, "/")
	return place{org: org, bucket: bucket, db: db, rp: rp}
}

// connection is how to reach an engine.
type connection struct {
	url, token string
	client     *http.Client
	gzip       bool
}

// newStore joins the client and the place. The caller sets check and closeOnce.
func newStore(name string, at place, c connection, log *slog.Logger) *Store {
	options := influxdb2.DefaultOptions().
		SetApplicationName("telemetry-hub").
		SetPrecision(time.Nanosecond).
		SetUseGZip(c.gzip)
	options.HTTPOptions().SetHTTPDoer(&answerKeeper{client: c.client})
	client := influxdb2.NewClientWithOptions(c.url, c.token, options)
	return &Store{
		name:     name,
		place:    at,
		log:      log,
		client:   client,
		writes:   client.WriteAPIBlocking(at.org, at.bucket),
		queryURL: client.HTTPService().ServerURL() + "query",
		idle:     make(chan struct{}),
	}
}

// Name says which engine it is: "influxdb" or "embedded".
func (s *Store) Name() string { return s.name }

// Write stores newline-separated line protocol whose times are nanoseconds since the epoch, without time: now. Reads
// give times in whole milliseconds, rounded down: what is below tells readings of one millisecond apart. The lines are
// not kept after it returns.
//
// A nil error means that all of it is stored, by the embedded engine and by InfluxDB 1.8 to 3 in their default
// configuration also fsynced. Other errors are *RejectedError, *TooLargeError, *ConfigError and *RetryError.
func (s *Store) Write(ctx context.Context, lines []byte) error {
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	if len(lines) == 0 {
		return nil // InfluxDB 1.8 answers 200 to nothing, which is no promise
	}
	ctx, kept := keepAnswer(ctx)
	err = s.writes.WriteRecord(ctx, string(lines))
	return writeOutcome(kept, err, lines)
}

// Check asks whether the engine can be written to and read from. It creates a missing database (InfluxDB 1.8) or the
// mapping that InfluxQL needs (2.x) if the token allows that. Errors are *ConfigError and *RetryError.
func (s *Store) Check(ctx context.Context) error {
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	return s.check(ctx)
}

// Close waits for the calls in progress and gives up all that the store holds. When ctx ends first it returns the
// context's error, and the store is given up by itself as soon as the last call has ended: a disk that hangs is no reason
// for the process to stay. Later calls fail with ErrClosed; closing again does nothing.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	calls := s.calls
	if !again && calls == 0 {
		close(s.idle)
	}
	s.mu.Unlock()
	if again {
		return nil
	}
	given := make(chan error, 1)
	go func() {
		<-s.idle
		s.client.Close()
		given <- s.closeOnce()
	}()
	select {
	case err := <-given:
		return err
	case <-ctx.Done():
		return fmt.Errorf("store: close, with %d calls in progress: %w", calls, ctx.Err())
	}
}

// use keeps the store open until release is called.
func (s *Store) use() (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, &RetryError{Err: ErrClosed}
	}
	s.calls++
	return s.release, nil
}

func (s *Store) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
	if s.closed && s.calls == 0 {
		close(s.idle)
	}
}
