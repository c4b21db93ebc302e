package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/api"
	"telemetryhub/auth"
	"telemetryhub/commands"
	"telemetryhub/devices"
	"telemetryhub/devices/state"
)

// slowClient takes what a stream writes only when it is told to.
type slowClient struct {
	header http.Header
	take   chan struct{} // an element lets one write through; closed: all

	mu       sync.Mutex
	got      strings.Builder
	deadline time.Time // of the write that is under way; zero: none
}

func (c *slowClient) SetWriteDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = at
	return nil
}

func newSlowClient() *slowClient {
	return &slowClient{header: http.Header{}, take: make(chan struct{}, 16)}
}

func (c *slowClient) Header() http.Header { return c.header }
func (c *slowClient) WriteHeader(int)     {}
func (c *slowClient) Flush()              {}

func (c *slowClient) Write(p []byte) (int, error) {
	<-c.take
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got.Write(p)
}

// text is all that has been taken.
func (c *slowClient) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got.String()
}

// stream opens a live stream in a synctest bubble and returns what ends when it has ended.
func stream(t *testing.T, s *api.Server, hub *fakeHub, query string, c *slowClient) (ended <-chan struct{}, hangUp context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "GET", "/api/v1/live"+query, nil)
	r.Header.Set("Authorization", "Bearer op_viewer")
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Handler().ServeHTTP(c, r)
	}()
	return done, cancel
}

func reading(n int) api.LiveTelemetry {
	return api.LiveTelemetry{Device: "d1", Measurement: "telemetry", Readings: []api.Reading{{TS: int64(n), Values: map[string]any{"n": n}}}}
}

func TestSlowClientIsToldWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newFakeHub()
		s := newAPI(t, hub, api.Config{LiveBuffer: 5}, io.Discard)
		c := newSlowClient()
		ended, _ := stream(t, s, hub, "?kind=telemetry", c)
		c.take <- struct{}{} // the greeting
		<-hub.telemetry.opened
		hub.telemetry.c <- reading(0)
		synctest.Wait() // the writer holds reading 0 and waits for the client
		for n := 1; n <= 20; n++ {
			hub.telemetry.c <- reading(n) // never waits for the client, or the bubble would be stuck here
		}
		hub.telemetry.lose(3) // before the stream
		hub.telemetry.c <- reading(21)
		synctest.Wait()
		close(c.take)
		synctest.Wait()
		text := c.text()
		for n := range 6 {
			if !strings.Contains(text, fmt.Sprintf(`"values":{"n":%d}`, n)) {
				t.Errorf("reading %d is not there", n)
			}
		}
		if want := "event: missed\ndata: {\"count\":19}\n\n"; !strings.HasSuffix(text, want) { // 6 to 21, and 3
			t.Errorf("got\n%s\nwant at the end\n%s", text, want)
		}
		hub.telemetry.c <- reading(22)
		synctest.Wait()
		if !strings.HasSuffix(c.text(), `[{"ts":22,"values":{"n":22}}]}`+"\n\n") {
			t.Errorf("after the loss:\n%s", c.text())
		}
		s.Close()
		<-ended
		<-hub.telemetry.closed
	})
}

func TestWhatWaitsForASlowClientIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newFakeHub()
		s := newAPI(t, hub, api.Config{}, io.Discard)
		c := newSlowClient()
		ended, _ := stream(t, s, hub, "?kind=telemetry", c)
		<-hub.telemetry.opened
		large := api.LiveTelemetry{Device: "d1", Readings: []api.Reading{{Values: map[string]any{"s": strings.Repeat("x", 60<<10)}}}}
		for range 30 { // 1.8 MB
			hub.telemetry.c <- large
		}
		synctest.Wait()
		close(c.take)
		synctest.Wait()
		if got, want := strings.Count(c.text(), "event: telemetry"), 17; got != want || !strings.HasSuffix(c.text(), "data: {\"count\":13}\n\n") {
			t.Errorf("%d events came, want %d and the count of the others", got, want)
		}
		s.Close()
		<-ended
	})
}

func TestStreamFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newFakeHub()
		s := newAPI(t, hub, api.Config{}, io.Discard)
		c := newSlowClient()
		close(c.take)
		ended, hangUp := stream(t, s, hub, "?device=d1&device=d2&kind=presence,command", c)
		<-hub.changes.opened
		<-hub.commands.opened
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		hub.changes.c <- devices.PresenceChange{Device: "d2", Version: 7, What: "disconnected", At: at, Presence: devices.Presence{Cause: "no <pong>\n", Transport: "wss"}}
		hub.changes.c <- devices.PresenceChange{Device: "d3", Version: 8}
		hub.commands.c <- commands.Command{ID: "C1", Device: "d1", State: "done"}
		hub.commands.c <- commands.Command{ID: "C3", Device: "d3"}
		synctest.Wait()
		_, text, _ := strings.Cut(c.text(), "\n\n")
		frames := strings.Split(strings.TrimSuffix(text, "\n\n"), "\n\n")
		if len(frames) != 2 || !strings.HasPrefix(frames[1], "event: command\ndata: {\"id\":\"C1\"") {
			t.Fatalf("%q", frames)
		}
		data, ok := strings.CutPrefix(frames[0], "event: presence\ndata: ")
		var p api.LivePresence
		if err := json.Unmarshal([]byte(data), &p); !ok || err != nil || strings.Contains(data, "\n") {
			t.Fatalf("%q: %v", frames[0], err)
		}
		if want := (api.LivePresence{Device: "d2", What: "disconnected", Transport: "wss", Time: at, Cause: "no <pong>\n", Version: 7}); p != want {
			t.Errorf("presence %+v", p)
		}
		select {
		case <-hub.telemetry.opened:
			t.Error("a feed was opened that nobody asked for")
		default:
		}
		hangUp()
		<-ended
	})
}

func TestAStreamTellsOfDevicesThatAreSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newFakeHub()
		s := newAPI(t, hub, api.Config{}, io.Discard)
		c := newSlowClient()
		close(c.take)
		ended, hangUp := stream(t, s, hub, "?kind=discovered", c)
		<-hub.discovery.found.opened
		hub.discovery.found.c <- hub.discovery.seen[0]
		synctest.Wait()
		if text := c.text(); !strings.Contains(text, "event: discovered\ndata: {\"id\":\"f1\",\"bridge\":\"home\"") {
			t.Errorf("%q", text)
		}
		hangUp()
		<-ended
		hub.let("op_viewer", &auth.Operator{Name: "vera", Role: auth.RoleViewer, Scope: auth.Scope{Tags: []string{"hall"}}})
		for _, query := range []string{"?kind=discovered&device=d1", "?kind=presence", "?kind=discovered"} { // the last by one who does not see all
			ended, hangUp := stream(t, s, hub, query, c)
			synctest.Wait()
			select {
			case <-hub.discovery.found.opened:
				t.Errorf("%s opens the feed", query)
			default:
			}
			hangUp()
			<-ended
		}
	})
}

// HTTP/2 would reset a stream that is silent for longer than one write may take.
func TestASilentStreamHasNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newFakeHub()
		s := newAPI(t, hub, api.Config{}, io.Discard)
		c := newSlowClient()
		ended, hangUp := stream(t, s, hub, "?kind=presence", c)
		synctest.Wait()
		if until := time.Until(c.deadline); until <= 0 || until > 10*time.Second {
			t.Errorf("a write that the client does not take has a deadline in %v", until)
		}
		close(c.take)
		synctest.Wait()
		if !c.deadline.IsZero() {
			t.Errorf("a stream with nothing to write has a deadline, %v", c.deadline)
		}
		hangUp()
		<-ended
	})
}

func TestStreamHeartbeatAndRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newFakeHub()
		s := newAPI(t, hub, api.Config{}, io.Discard)
		c := newSlowClient()
		close(c.take)
		began := time.Now()
		ended, _ := stream(t, s, hub, "", c)
		synctest.Wait()
		greeting := c.text()
		time.Sleep(31 * time.Second) // virtual
		synctest.Wait()
		if got := strings.TrimPrefix(c.text(), greeting); got != ":\n\n:\n\n" {
			t.Errorf("in 31 s: %q", got)
		}
		hub.let("op_operator", nil) // somebody else's changes nothing
		synctest.Wait()
		select {
		case <-ended:
			t.Fatal("it ended for another's sake")
		default:
		}
		hub.let("op_viewer", nil)
		<-ended
		if took := time.Since(began); took != 31*time.Second {
			t.Errorf("the stream of a token that was revoked after 31 s ended after %v", took)
		}
	})
}

func TestAStreamEndsWhenRightsChangeOrEnd(t *testing.T) {
	narrowed := auth.Operator{Name: "vera", Role: auth.RoleViewer, Scope: auth.Scope{Tags: []string{"hall"}}}
	for what, change := range map[string]*auth.Operator{"narrowed": &narrowed, "promoted": {Name: "vera", Role: auth.RoleAdmin}} {
		synctest.Test(t, func(t *testing.T) {
			hub := newFakeHub()
			c := newSlowClient()
			close(c.take)
			began := time.Now()
			ended, hangUp := stream(t, newAPI(t, hub, api.Config{}, io.Discard), hub, "", c)
			defer hangUp()
			time.Sleep(time.Second)
			hub.let("op_viewer", change)
			endsWithin(t, ended, time.Minute)
			if took := time.Since(began); took != time.Second {
				t.Errorf("the stream of an operator %s after 1 s ended after %v", what, took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		hub := newFakeHub()
		began := time.Now()
		hub.let("op_viewer", &auth.Operator{Name: "vera", Role: auth.RoleViewer, Until: began.Add(7 * time.Second)})
		c := newSlowClient()
		close(c.take)
		ended, hangUp := stream(t, newAPI(t, hub, api.Config{}, io.Discard), hub, "", c)
		defer hangUp()
		endsWithin(t, ended, time.Minute)
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("the stream of a token that ended after 7 s ended after %v", took)
		}
	})
}

// endsWithin waits for the end of a stream.
func endsWithin(t *testing.T, ended <-chan struct{}, limit time.Duration) {
	t.Helper()
	select {
	case <-ended:
	case <-time.After(limit): // virtual
		t.Errorf("the stream goes on after %v", limit)
	}
}

func TestAStreamShowsTheScopeOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newFakeHub()
		hub.let("op_viewer", &auth.Operator{Name: "vera", Role: auth.RoleViewer, Scope: auth.Scope{Tags: []string{"warm"}}}) // d1
		c := newSlowClient()
		close(c.take)
		ended, hangUp := stream(t, newAPI(t, hub, api.Config{}, io.Discard), hub, "", c)
		synctest.Wait()
		for _, device := range []string{"d3", "d2", "ghost", "d1"} {
			hub.telemetry.c <- api.LiveTelemetry{Device: device}
			hub.changes.c <- devices.PresenceChange{Device: device}
			hub.commands.c <- commands.Command{Device: device}
			hub.states.c <- state.Update{Document: state.Document{Device: device}}
		}
		hub.rollouts.c <- oneRollout()
		other, own := oneRollout(), oneRollout()
		other.Within, own.Within = []string{"warm", "hall"}, []string{"warm"}
		hub.rollouts.c <- other
		hub.rollouts.c <- own
		synctest.Wait()
		text := c.text()
		if n := strings.Count(text, `"device":"d1"`); n != 4 || strings.Count(text, `"device":`) != 4 || strings.Count(text, "event: rollout") != 1 {
			t.Errorf("it shows\n%s", text)
		}
		// A device that is tagged otherwise meanwhile.
		hub.mu.Lock()
		d := hub.devices["d3"]
		d.Tags = []string{"warm"}
		hub.devices["d3"] = d
		hub.mu.Unlock()
		hub.changes.c <- devices.PresenceChange{Device: "d3"}
		synctest.Wait()
		if !strings.Contains(c.text(), `"device":"d3"`) {
			t.Error("a device that came into the scope is not shown")
		}
		hangUp()
		<-ended
	})
}

// pipeListener hands out one connection in memory, so that its deadlines are of virtual time.
type pipeListener struct {
	conns chan net.Conn
}

func (l pipeListener) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l pipeListener) Close() error   { return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func TestStreamOfAClientThatTakesNothingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newFakeHub()
		s := newAPI(t, hub, api.Config{}, io.Discard)
		listener := pipeListener{make(chan net.Conn, 1)}
		server := &http.Server{Handler: s.Handler(), ErrorLog: log.New(io.Discard, "", 0)}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(listener)
		}()
		ours, theirs := net.Pipe()
		listener.conns <- theirs
		if _, err := io.WriteString(ours, "GET /api/v1/live HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer op_viewer\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		<-hub.telemetry.closed // the stream has ended, though the client still holds the connection
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("after %v", took)
		}
		_ = ours.Close()
		close(listener.conns)
		<-served
		_ = server.Close()
	})
}

func TestStreamsAreLimited(t *testing.T) {
	b := newBench(t, api.Config{MaxLive: 1})
	r, err := http.NewRequestWithContext(t.Context(), "GET", b.url+"/api/v1/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer op_viewer")
	first, err := b.client.Do(r) // returns with the headers: they were flushed
	if err != nil {
		t.Fatal(err)
	}
	defer first.Body.Close()
	if ct := first.Header.Get("Content-Type"); first.StatusCode != 200 || ct != "text/event-stream" {
		t.Errorf("%d %s", first.StatusCode, ct)
	}
	if p := b.ask("GET", "/api/v1/live", "op_viewer", "").wantProblem(503, "too_many_streams"); p.Limit != 1 || p.RetryAfterMs == 0 {
		t.Errorf("%+v", p)
	}
	b.api.Close()
	if _, err := io.ReadAll(first.Body); err != nil { // ends, and cleanly
		t.Errorf("at Close: %v", err)
	}
	b.ask("GET", "/api/v1/live", "op_viewer", "").wantProblem(503, "hub_stopping")
}

func TestStreamRefusals(t *testing.T) {
	b := newBench(t, api.Config{})
	p := b.ask("GET", "/api/v1/live?kind=telemetry,news", "op_viewer", "").wantProblem(422, "bad_parameter")
	if !strings.Contains(p.Detail, "kind=news") || !strings.Contains(p.Detail, "presence") {
		t.Errorf("detail %q", p.Detail)
	}
	b.ask("GET", "/api/v1/live?device=a%20b", "op_viewer", "").wantProblem(422, "bad_parameter")
	b.ask("HEAD", "/api/v1/live", "op_viewer", "").want(200)
}
