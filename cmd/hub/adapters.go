package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"telemetryhub/api"
	"telemetryhub/backbone"
	"telemetryhub/bridge"
	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
	"telemetryhub/devices"
	"telemetryhub/devices/discovery"
	"telemetryhub/devices/state"
	"telemetryhub/ingest"
	"telemetryhub/store"
)

// storeWriter is the store as ingest asks for it: the same outcomes in ingest's words.
type storeWriter struct{ *store.Store }

// Write implements ingest.Store.
func (s storeWriter) Write(ctx context.Context, lines []byte) error {
	err := s.Store.Write(ctx, lines)
	if missing, ok := errors.AsType[*store.ConfigError](err); ok && missing.Status == http.StatusNotFound {
		// The database, which Check makes where it may: the server was away at the start, or is a new one.
		if err := s.Check(ctx); err != nil {
			return storeOutcome(err)
		}
		err = s.Store.Write(ctx, lines)
	}
	return storeOutcome(err)
}

// FieldTypes implements ingest.FieldTyper. Types that ingest has no word for are left to the store.
func (s storeWriter) FieldTypes(ctx context.Context, measurement string) (map[string]ingest.FieldType, error) {
	found, err := s.Store.FieldTypes(ctx, measurement)
	if err != nil {
		return nil, storeOutcome(err)
	}
	types := make(map[string]ingest.FieldType, len(found))
	for field, t := range found {
		if isFieldType(t) {
			types[field] = ingest.FieldType(t)
		}
	}
	return types, nil
}

// storeOutcome says in ingest's words what came of a call.
func storeOutcome(err error) error {
	var (
		rejected *store.RejectedError
		config   *store.ConfigError
		large    *store.TooLargeError
		retry    *store.RetryError
	)
	switch {
	case errors.As(err, &rejected):
		return &ingest.RejectedError{Message: rejected.Message}
	case errors.As(err, &config):
		return &ingest.MisconfiguredError{Message: config.Message, Mend: config.Mend}
	case errors.As(err, &large):
		return &ingest.TooLargeError{Message: large.Message}
	case errors.As(err, &retry):
		return retryLater{retry}
	}
	return err
}

type retryLater struct{ *store.RetryError }

// RetryAfter implements ingest.RetryAfter.
func (r retryLater) RetryAfter() time.Duration { return r.After }

// historyAPI is the store as the API asks for it.
type historyAPI struct{ store *store.Store }

// Query implements api.History.
func (h historyAPI) Query(ctx context.Context, q api.HistoryQuery) ([]api.Reading, string, error) {
	page, err := h.store.Query(ctx, store.Query{
		Device: q.Device, Measurement: q.Measurement, Fields: q.Fields, From: q.From, To: q.To,
		Every: q.Every, Fn: q.Fn, Limit: q.Limit, Cursor: q.Cursor,
	})
	if err != nil {
		return nil, "", queryError(err)
	}
	readings := make([]api.Reading, len(page.Rows))
	for i, row := range page.Rows {
		readings[i] = api.Reading{TS: row.Time, Values: row.Values}
	}
	return readings, page.Next, nil
}

// Latest implements api.History.
func (h historyAPI) Latest(ctx context.Context, device, measurement string) (map[string]api.Value, error) {
	stored, err := h.store.Latest(ctx, device, measurement)
	if err != nil {
		return nil, queryError(err)
	}
	values := make(map[string]api.Value, len(stored))
	for name, v := range stored {
		values[name] = api.Value{Value: v.Value, TS: v.Time}
	}
	return values, nil
}

// Count implements api.History.
func (h historyAPI) Count(ctx context.Context, device string) (uint64, error) {
	points, err := h.store.Count(ctx, device)
	if err != nil {
		return 0, queryError(err)
	}
	return points, nil
}

// queryError says what a reader of the store did wrong, or that the store cannot answer now.
func queryError(err error) error {
	var invalid *store.InvalidQueryError
	var config *store.ConfigError
	var retry *store.RetryError
	switch {
	case errors.As(err, &invalid):
		return &api.QueryError{Parameter: invalid.Field, Message: invalid.Message}
	case errors.As(err, &config):
		return &api.UnavailableError{Message: config.Message + "; " + config.Mend, Err: err}
	case errors.As(err, &retry):
		return &api.UnavailableError{Message: "the store does not answer; readings are safe in the journal meanwhile", After: retry.After, Err: err}
	}
	return err
}

// ingestAPI is ingest as the API asks for it.
type ingestAPI struct {
	*ingest.Ingest
	latest *latestValues
}

// Latest implements api.Ingest.
func (i ingestAPI) Latest(ctx context.Context, device string) map[string]api.Value {
	return i.latest.of(ctx, device)
}

// Forget implements api.Ingest.
func (i ingestAPI) Forget(device string) { i.Ingest.Latest.Forget(device) }

// Audit implements api.Ingest.
func (i ingestAPI) Audit(_ context.Context, device string) (api.Audit, error) {
	var named []string
	if device != "" {
		named = []string{device}
	}
	audit := i.Ingest.Audit(named...)
	answer := api.Audit{Total: account(audit.Total), Devices: make([]api.DeviceAccount, len(audit.Devices))}
	for n, d := range audit.Devices {
		answer.Devices[n] = api.DeviceAccount{Device: d.Device, Account: account(d.Counts)}
	}
	if device != "" && len(answer.Devices) == 1 {
		for _, g := range i.Gaps(device) {
			answer.Devices[0].Gaps = append(answer.Devices[0].Gaps, api.Gap(g))
		}
	}
	return answer, nil
}

func account(c ingest.Counts) api.Account {
	if c.Refused == nil {
		c.Refused = map[string]uint64{}
	}
	return api.Account{Received: c.Received, Stored: c.Stored, Duplicate: c.Duplicate, Quarantined: c.Quarantined, Queued: c.Queued, Refused: c.Refused}
}

// telemetryFeed turns the live readings of ingest into the API's.
type telemetryFeed struct {
	*ingest.Subscription
	c    chan api.LiveTelemetry
	stop chan struct{}
}

func (h *hub) feeds() api.Feeds {
	return api.Feeds{
		Telemetry: h.openTelemetryFeed,
		Presence:  func(buffer int) api.Feed[devices.PresenceChange] { return h.sessions.Subscribe(buffer) },
		Commands:  func(buffer int) api.Feed[commands.Command] { return h.commands.Subscribe(buffer) },
		Rollouts:  func(buffer int) api.Feed[rollouts.Rollout] { return h.rollouts.Subscribe(buffer) },
		States:    func(buffer int) api.Feed[state.Update] { return h.states.Subscribe(buffer) },
		Discovery: func(buffer int) api.Feed[discovery.Seen] { return h.discovery.Subscribe(buffer) },
	}
}

func (h *hub) openTelemetryFeed(named []string, buffer int) api.Feed[api.LiveTelemetry] {
	f := &telemetryFeed{Subscription: h.ingest.Feed.Subscribe(buffer, named...), c: make(chan api.LiveTelemetry), stop: make(chan struct{})}
	go func() {
		for {
			select {
			case e := <-f.Subscription.C():
				select {
				case f.c <- liveOf(e):
				case <-f.stop:
					return
				}
			case <-f.stop:
				return
			}
		}
	}()
	return f
}

// C implements api.Feed.
func (f *telemetryFeed) C() <-chan api.LiveTelemetry { return f.c }

// Close implements api.Feed.
func (f *telemetryFeed) Close() {
	f.Subscription.Close()
	close(f.stop)
}

func liveOf(e ingest.Event) api.LiveTelemetry {
	live := api.LiveTelemetry{Device: e.Device, Measurement: e.Measurement, Readings: make([]api.Reading, len(e.Readings))}
	for i, p := range e.Readings {
		live.Readings[i] = api.Reading{TS: p.Time, Values: p.Values}
	}
	return live
}

// readiness tells which parts can work. A store that is away does not make the hub unready: it goes on taking readings,
// which wait in the journal.
type readiness struct{ h *hub }

// Parts implements api.Readiness.
func (r readiness) Parts(ctx context.Context) []api.Part {
	bus := api.Part{Name: "nats", OK: true, Message: damageMessage(r.h.bus.Damage())}
	if err := r.h.bus.Check(ctx); err != nil {
		bus.OK, bus.Message = false, err.Error()
	}
	status := r.h.ingest.Status()
	fault := r.h.space.journalFault()
	journal := api.Part{Name: "journal", OK: fault == nil, Message: r.h.space.journal.message()}
	if fault != nil {
		journal.Message = "nothing is acked: " + fault.Error()
	}
	disk := api.Part{Name: "disk", OK: true, Message: r.h.space.disk.message()}
	kept := api.Part{Name: "store", OK: true, Message: r.h.storeCheck.message(status.Store)}
	audit := api.Part{Name: "audit log", OK: true}
	if err := r.h.acts.Err(); err != nil {
		audit.Message = "commands are sent, and all other changes are refused: " + err.Error()
	}
	return append([]api.Part{bus, journal, disk, kept, audit, r.h.certificatesPart()}, r.h.presenceParts()...)
}

// damageMessage says what was found damaged on the disk since the process began; empty if nothing was.
func damageMessage(d backbone.Damage) string {
	total := func(records map[string]uint64) (n uint64) {
		for _, of := range records {
			n += of
		}
		return n
	}
	restored, lost := total(d.Restored), total(d.Lost)
	if restored+lost == 0 {
		return ""
	}
	return fmt.Sprintf("files were damaged on the disk: %d records were put right, %d are lost; the log names them", restored, lost)
}

// mqttOverWSS joins the embedded broker to the devices' one port.
type mqttOverWSS struct{ *bridge.Broker }

// ServeMQTT implements devices.MQTT.
func (m mqttOverWSS) ServeMQTT(nc net.Conn, from devices.Caller) error {
	return m.ServeConn(nc, bridge.Origin{Transport: bridge.TransportMQTTWSS, Remote: from.Remote, Device: from.Device, Proof: from.Proof, Path: from.Path})
}
