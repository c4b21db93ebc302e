package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxEvent = 8 << 20 // bytes of one live event
	// The hub writes a comment every 15 s; three of them missing mean that the
	// connection is dead even if no side was told.
	liveSilence = 45 * time.Second
)

// ErrSilent ends a live stream on which nothing came for three of the hub's heartbeats.
var ErrSilent = errors.New("the live stream fell silent")

// LiveFilter narrows the live stream; the zero value shows all.
type LiveFilter struct {
	Devices []string
	Kinds   []string // telemetry, presence, command, rollout, state, discovered
}

// Event is one event of the live stream. Kind says which of the pointers is set;
// a kind that this client does not know has only Data.
type Event struct {
	Kind      string          `json:"kind"`
	Data      json.RawMessage `json:"data"`
	Telemetry *LiveTelemetry  `json:"-"`
	Presence  *LivePresence   `json:"-"`
	Command   *Command        `json:"-"`
	Rollout   *Rollout        `json:"-"`
	State     *LiveState      `json:"-"`
	Seen      *Discovered     `json:"-"` // onto the list of those that are not registered
	Missed    uint64          `json:"-"` // events that this stream lost because it was read too slowly
}

// LiveTelemetry is a batch of readings of one device.
type LiveTelemetry struct {
	Device      string    `json:"device"`
	Measurement string    `json:"measurement,omitempty"`
	Readings    []Reading `json:"readings"`
}

// LivePresence is a device that came or went, or about whose connection something else changed.
type LivePresence struct {
	Device    string    `json:"device"`
	What      string    `json:"what"` // connected, disconnected, frozen, unfrozen, unresponsive, responsive
	Online    bool      `json:"online"`
	Transport string    `json:"transport,omitempty"`
	Time      time.Time `json:"time,omitzero"`
	Cause     string    `json:"cause,omitempty"`
	Version   uint64    `json:"version,omitempty"`
	Frozen    *Freeze   `json:"frozen,omitempty"`

	Unresponsive time.Time `json:"unresponsive_since,omitzero"`
}

// Live reads the live stream until ctx ends, the caller breaks off or the
// connection fails; the last pair then bears the error. The hub's end of the
// stream (a restart) is io.EOF. It does not reconnect: what happened between
// is lost, and the caller should say so.
func (c *Client) Live(ctx context.Context, f LiveFilter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := c.live(ctx, f, func(e Event) bool { return yield(e, nil) }); err != nil {
			yield(Event{}, err)
		}
	}
}

func (c *Client) live(ctx context.Context, f LiveFilter, yield func(Event) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	q := url.Values{}
	for _, device := range f.Devices {
		q.Add("device", device)
	}
	setText(q, "kind", strings.Join(f.Kinds, ","))
	// The first answer has the timeout of any other request, the stream then has its heartbeat.
	var limit atomic.Int64
	limit.Store(int64(c.timeout))
	silence := time.AfterFunc(c.timeout, func() {
		cancel(fmt.Errorf("%w for %v", ErrSilent, time.Duration(limit.Load())))
	})
	defer silence.Stop()
	fail := func(err error) error {
		if cause := context.Cause(ctx); cause != nil && errors.Is(cause, ErrSilent) {
			return &UnreachableError{URL: c.URL(), What: cause.Error(), Err: cause}
		}
		if errors.Is(err, io.EOF) && ctx.Err() != nil {
			return ctx.Err() // the hub saw us go and ended the stream before we read our own end
		}
		return err
	}
	resp, err := c.open(ctx, call{
		method: http.MethodGet, path: "/api/v1/live", query: q,
		header: http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-store"}},
	})
	if err != nil {
		return fail(err)
	}
	defer func() { _ = resp.Body.Close() }()
	limit.Store(int64(liveSilence))
	alive := func() { silence.Reset(liveSilence) }
	alive()
	if err := readEvents(resp.Body, alive, yield); err != nil {
		if ctx.Err() == nil && !errors.Is(err, io.EOF) {
			err = c.explain(err)
		}
		return fail(err)
	}
	return nil
}

// readEvents reads a text/event-stream (WHATWG HTML, 9.2.6) and gives each event to yield
// until that says false, which is no error.
func readEvents(r io.Reader, alive func(), yield func(Event) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 16<<10), maxEvent)
	var kind string
	var data []byte
	for lines.Scan() {
		alive()
		line := lines.Bytes()
		if len(line) == 0 {
			if len(data) > 0 {
				e, err := newEvent(kind, data)
				if err != nil {
					return err
				}
				if !yield(e) {
					return nil
				}
			}
			kind, data = "", nil
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			kind = string(value)
		case "data":
			if len(data) > 0 {
				data = append(data, '\n')
			}
			if data = append(data, value...); len(data) > maxEvent {
				return fmt.Errorf("live stream: an event is larger than %d bytes", maxEvent)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("live stream: %w", err)
	}
	return io.EOF
}

func newEvent(kind string, data []byte) (Event, error) {
	e := Event{Kind: kind, Data: json.RawMessage(data)}
	var into any
	var missed struct {
		Count uint64 `json:"count"`
	}
	switch kind {
	case "telemetry":
		e.Telemetry = &LiveTelemetry{}
		into = e.Telemetry
	case "presence":
		e.Presence = &LivePresence{}
		into = e.Presence
	case "command":
		e.Command = &Command{}
		into = e.Command
	case "rollout":
		e.Rollout = &Rollout{}
		into = e.Rollout
	case "state":
		e.State = &LiveState{}
		into = e.State
	case "discovered":
		e.Seen = &Discovered{}
		into = e.Seen
	case "missed":
		into = &missed
	default:
		return e, nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return Event{}, fmt.Errorf("live stream: event %s: %w", kind, err)
	}
	e.Missed = missed.Count
	return e, nil
}
