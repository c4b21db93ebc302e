package api

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"telemetryhub/auth"
	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
	"telemetryhub/devices"
	"telemetryhub/devices/discovery"
	"telemetryhub/devices/state"
	"telemetryhub/wire"
)

const (
	// A proxy cuts what is silent for 30 s or more; half of it, so that one lost comment does no harm.
	heartbeat = 15 * time.Second
	// streamWriteTimeout is how long a client may take nothing before its stream ends. Less than heartbeat, so that a
	// stream has at most one comment waiting.
	streamWriteTimeout = 10 * time.Second
	// feedBuffer is the room of a feed; it is emptied at once, whatever the client does.
	feedBuffer = 256
	// streamChunk is how many bytes are written within one deadline, so that a slow line may take its time.
	streamChunk = 64 << 10
	// maxStreamBytes bounds what waits for a slow client, beside the number of events.
	maxStreamBytes = 1 << 20
	// maxStreamDevices bounds the filter of one stream.
	maxStreamDevices = 1000
)

const (
	kindTelemetry = "telemetry"
	kindPresence  = "presence"
	kindCommand   = "command"
	kindRollout   = "rollout"
	kindState     = "state"
	kindDiscovery = "discovered"
)

// LivePresence is the event that a device came or went, or that something else about its connection changed.
type LivePresence struct {
	Device    string    `json:"device"`
	What      string    `json:"what" enum:"connected,disconnected,frozen,unfrozen,unresponsive,responsive"`
	Online    bool      `json:"online"`
	Transport string    `json:"transport,omitempty"`
	Time      time.Time `json:"time"`
	Cause     string    `json:"cause,omitempty"`
	Version   uint64    `json:"version" doc:"Grows with each change of any device, over restarts of the hub too; the device's own version says the last. One that is lower than what was seen is out of date"`

	Frozen       *devices.Freeze `json:"frozen,omitempty" doc:"As in the device"`
	Unresponsive time.Time       `json:"unresponsive_since,omitzero" doc:"As in the device"`
}

type liveInput struct {
	Device []string `query:"device,explode" doc:"Only these devices; may be given again and again"`
	Kind   []string `query:"kind,explode" doc:"Of telemetry, presence, command, rollout, state, discovered; all when left out"`
}

// liveFilter is what a stream is to show.
type liveFilter struct {
	devices                      map[string]bool // none: all
	telemetry, presence, command bool
	state                        bool
	rollout                      bool // only where all devices are shown
	discovery                    bool // likewise, and to operators of all devices

	by auth.Operator            // who looks; the stream ends when that changes
	in func(device string) bool // its scope, as the devices are tagged now
}

func (f liveFilter) shows(device string) bool {
	return (len(f.devices) == 0 || f.devices[device]) && f.in(device)
}

func (s *Server) registerLive() {
	register(s, viewer, huma.Operation{
		OperationID: "live", Method: http.MethodGet, Path: "/api/v1/live", Tags: []string{"live"}, Summary: "What happens, as it happens",
		Description: "Server-sent events: telemetry, presence, command, rollout (after each change of its state, and twice a second at most while outcomes come in; not where devices are named), state, discovered (a device that a bridge has seen and that is not registered, the first time; not where devices are named, and to operators of all devices only), " +
			"and missed {count} where a slow client lost some. A comment each 15 s. " +
			"The stream ends within a second when the caller's token or login does or its role or scope changes, and when the hub stops; clients come back and read what they missed from the other operations.",
		Responses: s.liveResponse(),
	}, s.openLive)
}

func (s *Server) liveResponse() map[string]*huma.Response {
	kinds := schemaOf[LiveTelemetry](s).Ref + ", " + schemaOf[LivePresence](s).Ref + ", " + schemaOf[Command](s).Ref + ", " + schemaOf[Rollout](s).Ref + ", " + schemaOf[LiveState](s).Ref + ", " + schemaOf[Discovered](s).Ref
	return map[string]*huma.Response{"200": {
		Description: "event: telemetry, presence, command, rollout, state or discovered with data as " + kinds + "; event: missed with data {\"count\":N}",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
}

func (s *Server) openLive(ctx context.Context, in *liveInput) (*huma.StreamResponse, error) {
	filter, err := parseLiveFilter(in)
	if err != nil {
		return nil, err
	}
	filter.by = exchangeOf(ctx).operator
	filter.discovery = filter.discovery && filter.by.Scope.All()
	filter.in = func(device string) bool { return s.inScope(filter.by.Scope, device) }
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		s.serveLive(w, r, filter)
	}}, nil
}

func parseLiveFilter(in *liveInput) (f liveFilter, err error) {
	f.devices = map[string]bool{}
	for _, given := range in.Device {
		for id := range strings.SplitSeq(given, ",") {
			if err := wire.CheckDeviceID(id); err != nil {
				return f, badQuery("device", id, "%s", err)
			}
			f.devices[id] = true
		}
	}
	if n := len(f.devices); n > maxStreamDevices {
		return f, newProblem(http.StatusUnprocessableEntity, "bad_parameter", "%d devices are more than %d; leave them out to see all", n, maxStreamDevices).over(maxStreamDevices, int64(n))
	}
	for _, given := range in.Kind {
		for kind := range strings.SplitSeq(given, ",") {
			switch kind {
			case kindTelemetry:
				f.telemetry = true
			case kindPresence:
				f.presence = true
			case kindCommand:
				f.command = true
			case kindRollout:
				f.rollout = true
			case kindState:
				f.state = true
			case kindDiscovery:
				f.discovery = true
			default:
				return f, badQuery("kind", kind, "allowed are telemetry, presence, command, rollout, state, discovered")
			}
		}
	}
	if len(in.Kind) == 0 {
		f.telemetry, f.presence, f.command, f.rollout, f.state, f.discovery = true, true, true, true, true, true
	}
	f.rollout, f.discovery = f.rollout && len(f.devices) == 0, f.discovery && len(f.devices) == 0
	return f, nil
}

// serveLive is the life of one stream: a goroutine that empties the feeds into the stream's queue, and this one, which
// writes. It returns when the client, the caller's rights or the hub has ended, and both goroutines with it.
func (s *Server) serveLive(w http.ResponseWriter, r *http.Request, f liveFilter) {
	if p := s.admitStream(); p != nil {
		p.write(w)
		return
	}
	defer s.live.Add(-1)
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()

	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	queue, gathered := newStreamQueue(s.cfg.LiveBuffer, maxStreamBytes), make(chan struct{})
	feeds := s.openFeeds(f) // before the first byte: what happens after the answer has begun is seen
	go func() {
		defer close(gathered)
		s.gather(ctx, f, feeds, queue)
	}()
	s.writeLive(ctx, w, r, f.by, queue)
	cancel()
	<-gathered
}

func (s *Server) admitStream() *Problem {
	select {
	case <-s.stop:
		return newProblem(http.StatusServiceUnavailable, "hub_stopping", "the hub is stopping").retryAfter(defaultRetry)
	default:
	}
	if n := s.live.Add(1); n > int64(s.cfg.MaxLive) {
		s.live.Add(-1)
		return newProblem(http.StatusServiceUnavailable, "too_many_streams", "%d live streams are open, as many as allowed", s.cfg.MaxLive).
			over(int64(s.cfg.MaxLive), n).retryAfter(defaultRetry)
	}
	return nil
}

// openedFeeds are those that a stream's filter asks for; the others are nil.
type openedFeeds struct {
	telemetry Feed[LiveTelemetry]
	presence  Feed[devices.PresenceChange]
	commands  Feed[commands.Command]
	rollouts  Feed[rollouts.Rollout]
	states    Feed[state.Update]
	discovery Feed[discovery.Seen]
}

func (s *Server) openFeeds(f liveFilter) (o openedFeeds) {
	if f.telemetry {
		o.telemetry = s.deps.Feeds.Telemetry(slices.Sorted(maps.Keys(f.devices)), feedBuffer)
	}
	if f.presence {
		o.presence = s.deps.Feeds.Presence(feedBuffer)
	}
	if f.command {
		o.commands = s.deps.Feeds.Commands(feedBuffer)
	}
	if f.rollout {
		o.rollouts = s.deps.Feeds.Rollouts(feedBuffer)
	}
	if f.state {
		o.states = s.deps.Feeds.States(feedBuffer)
	}
	if f.discovery {
		o.discovery = s.deps.Feeds.Discovery(feedBuffer)
	}
	return o
}

// missed returns how many events did not fit into the feeds since it was last asked.
func (o openedFeeds) missed() uint64 {
	return missedBy(o.telemetry) + missedBy(o.presence) + missedBy(o.commands) + missedBy(o.rollouts) + missedBy(o.states) + missedBy(o.discovery)
}

// gather empties the feeds into the queue until ctx ends. It waits for nobody, so that a feed loses nothing because of
// a slow client: that is the queue's to count, after the filter.
func (s *Server) gather(ctx context.Context, f liveFilter, feeds openedFeeds, queue *streamQueue) {
	telemetry, closeTelemetry := source(feeds.telemetry)
	defer closeTelemetry()
	presence, closePresence := source(feeds.presence)
	defer closePresence()
	commands, closeCommands := source(feeds.commands)
	defer closeCommands()
	rollouts, closeRollouts := source(feeds.rollouts)
	defer closeRollouts()
	states, closeStates := source(feeds.states)
	defer closeStates()
	discovered, closeDiscovered := source(feeds.discovery)
	defer closeDiscovered()
	for {
		var e event
		var ok bool
		select {
		case <-ctx.Done():
			return
		case t := <-telemetry:
			if f.shows(t.Device) {
				e, ok = newEvent(kindTelemetry, t)
			}
		case p := <-presence:
			if f.shows(p.Device) {
				e, ok = newEvent(kindPresence, presenceEvent(p))
			}
		case c := <-commands:
			if f.shows(c.Device) {
				e, ok = newEvent(kindCommand, commandView(c))
			}
		case r := <-rollouts:
			if seesRollout(f.by.Scope, &r) {
				e, ok = newEvent(kindRollout, rolloutView(r))
			}
		case u := <-states:
			if f.shows(u.Device) {
				e, ok = newEvent(kindState, liveState(u))
			}
		case d := <-discovered:
			e, ok = newEvent(kindDiscovery, viewDiscovered(d))
		}
		if ok && !queue.put(e) {
			s.metrics.missed.Inc()
		}
		lost := feeds.missed()
		queue.lost(lost)
		s.metrics.missed.Add(float64(lost))
	}
}

// source returns a feed's channel and its close; of no feed a channel on which nothing comes.
func source[T any](f Feed[T]) (<-chan T, func()) {
	if f == nil {
		return nil, func() {}
	}
	return f.C(), f.Close
}

func missedBy[T any](f Feed[T]) uint64 {
	if f == nil {
		return 0
	}
	return f.Missed()
}

func presenceEvent(p devices.PresenceChange) LivePresence {
	return LivePresence{Device: p.Device, What: p.What, Online: p.Online, Transport: p.Transport, Time: p.At, Cause: p.Cause, Version: p.Version, Frozen: p.Frozen, Unresponsive: unresponsiveSince(p.Presence)}
}

// writeLive writes what the queue holds, as much as there is with one flush, until the client takes no more.
func (s *Server) writeLive(ctx context.Context, w http.ResponseWriter, r *http.Request, by auth.Operator, queue *streamQueue) {
	control := http.NewResponseController(w)
	var out bytes.Buffer
	send := func() bool {
		_ = control.SetWriteDeadline(time.Now().Add(streamWriteTimeout)) // not every writer has deadlines
		_, err := w.Write(out.Bytes())
		if err == nil {
			err = control.Flush()
		}
		_ = control.SetWriteDeadline(time.Time{}) // HTTP/2 resets a stream whose deadline passes while there is nothing to write
		out.Reset()
		return err == nil
	}
	out.WriteString("retry: 3000\n: the hub is listening\n\n") // ms until a browser comes back
	if !send() {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	var events []event
	var missed uint64
	over := s.whenOver(by)
	defer over.Stop()
	for changes := s.deps.Operators.Changes(); ; {
		select {
		case <-ctx.Done():
			return
		case <-over.C:
			return
		case <-changes:
			changes = s.deps.Operators.Changes() // before the look, so that none is missed
			if !s.still(r, by) {
				return
			}
		case <-s.stop:
			return
		case <-beat.C:
			if !s.still(r, by) {
				return
			}
			out.WriteString(":\n\n")
		case <-queue.wake:
			events, missed = queue.take(events)
			for _, e := range events {
				appendEvent(&out, e)
				if out.Len() >= streamChunk && !send() {
					return
				}
			}
			if missed > 0 {
				appendEvent(&out, missedEvent(missed))
			}
		}
		if out.Len() > 0 && !send() {
			return
		}
	}
}

// still reports whether a stream's caller is who it was, with the same rights. One whose rights have changed comes back
// and is shown what it may see then.
func (s *Server) still(r *http.Request, was auth.Operator) bool {
	is, p := s.authenticate(r)
	return p == nil && is.Name == was.Name && is.Role == was.Role && is.Scope.Equal(was.Scope)
}

// whenOver tells when the caller's token or login ends by itself.
func (s *Server) whenOver(by auth.Operator) *time.Timer {
	if by.Until.IsZero() {
		t := time.NewTimer(time.Hour)
		t.Stop()
		return t
	}
	return time.NewTimer(by.Until.Sub(s.cfg.Now()))
}
