package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"telemetryhub/api"
	"telemetryhub/auth"
	"telemetryhub/auth/acts"
	"telemetryhub/backbone"
	"telemetryhub/bridge"
	"telemetryhub/commands"
	"telemetryhub/commands/catalogue"
	"telemetryhub/commands/rollouts"
	"telemetryhub/devices"
	"telemetryhub/devices/discovery"
	"telemetryhub/devices/enrolment"
	"telemetryhub/devices/presence"
	"telemetryhub/devices/state"
	"telemetryhub/ingest"
	"telemetryhub/store"
)

// hub is all parts, joined.
type hub struct {
	cfg    Config
	log    *slog.Logger
	stop   stopList
	failed chan error // a part that cannot go on
	reg    *prometheus.Registry

	listener, plain net.Listener // plain is nil without http.listen

	bus       *backbone.Backbone
	acts      *acts.Log
	certs     *auth.Certificates
	authority *auth.DeviceAuthority
	trust     *auth.DeviceTrust
	tickets   *auth.TicketKeys
	operators *auth.Operators
	store     *store.Store

	storeCheck *storeCheck

	ingest    *ingest.Ingest
	registry  *devices.Registry
	profiles  *devices.Profiles
	throttle  *devices.Throttle
	importer  *devices.Importer
	sessions  *devices.Sessions
	issuer    *devices.Issuer
	rotation  *devices.Rotation
	catalogue *catalogue.Catalogue
	commands  *commands.Service
	rollouts  *rollouts.Service
	states    *state.Documents
	followers []*presence.Follower
	enrolment *enrolment.Keys
	discovery *discovery.List

	sockets    *sockets
	handshakes *handshakes
	admission  *devices.Admission

	connector *devices.Connector
	space     *space
	broker    *bridge.Broker
	externals []*bridge.External
	mapped    mappedDevices
	api       *api.Server
}

// openHub opens everything; an error leaves nothing open.
func openHub(ctx context.Context, cfg Config, log *slog.Logger) (*hub, error) {
	h := &hub{cfg: cfg, log: log, failed: make(chan error, 4), reg: prometheus.NewRegistry()}
	h.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, open := range []func(context.Context) error{
		h.openFolder, h.listen, h.openBus, h.openActs, h.openAuth, h.openStore, h.openRegistry, h.openIngest, h.openAdmission, h.openDevices, h.openBridge, h.openRollouts, h.openSpace, h.openAPI,
	} {
		if err := open(ctx); err != nil {
			return nil, errors.Join(err, h.stop.run(stopBudget, log))
		}
	}
	h.serve()
	return h, nil
}

func (h *hub) openFolder(context.Context) error {
	lock, err := lockFolder(h.cfg.Data)
	if err != nil {
		return err
	}
	h.stop.add("data folder", func(context.Context) error { return lock.Close() })
	return nil
}

func (h *hub) openBus(ctx context.Context) (err error) {
	h.bus, err = backbone.Open(ctx, backbone.Config{
		Dir: h.path("jetstream"), URL: h.cfg.NATS.URL, CredentialsFile: h.cfg.NATS.CredentialsFile, CAFile: h.cfg.NATS.CAFile,
		JournalMaxBytes: int64(h.cfg.Ingest.JournalBytes), ActsMaxBytes: int64(h.cfg.Audit.KeepBytes), ActsKeep: h.cfg.Audit.Keep, Reserve: int64(h.cfg.Ingest.DiskReserve),
	}, h.log)
	if err != nil {
		return err
	}
	h.stop.add("nats", func(context.Context) error { return h.bus.Close() })
	return nil
}

func (h *hub) openAuth(ctx context.Context) error {
	operators, err := h.bus.Bucket(ctx, backbone.Operators)
	if err != nil {
		return err
	}
	if h.operators, err = auth.OpenOperators(ctx, operators, h.path("admin.token")); err != nil {
		return err
	}
	h.stop.add("operators", func(context.Context) error { return h.operators.Close() })
	h.background("last uses of tokens", h.operators.KeepUses)
	return h.openCertificates(ctx)
}

func (h *hub) openStore(ctx context.Context) (err error) {
	s := h.cfg.Store
	if s.Kind == storeEmbedded {
		h.store, err = store.OpenEmbedded(ctx, store.EmbeddedConfig{Dir: h.path("tsdb"), Retention: s.Retention}, h.log)
	} else {
		h.store, err = store.OpenInfluxDB(ctx, store.InfluxConfig{
			URL: s.InfluxDB.URL, Org: s.InfluxDB.Org, Bucket: s.InfluxDB.Bucket, Token: string(s.InfluxDB.Token),
			Timeout: s.InfluxDB.Timeout, Gzip: s.InfluxDB.Gzip,
		}, h.log)
	}
	if err != nil {
		return err
	}
	h.stop.add("store", h.store.Close)
	// A store that is away or refuses us stops nothing: readings wait in the journal, and readyz says why.
	h.openStoreCheck(ctx, h.store)
	return nil
}

func (h *hub) openIngest(ctx context.Context) (err error) {
	c := h.cfg.Ingest
	h.ingest, err = ingest.Open(ctx, ingest.Config{
		Keep: c.Keep, KeepBytes: int64(c.KeepBytes), BatchLines: c.BatchLines, BatchAge: c.BatchAge, SaveEvery: saveEvery,
		Times:         ingest.TimeLimits{Past: c.PastLimit, Future: c.FutureLimit},
		Fields:        ingest.FieldLimits{Device: c.DeviceFields, Measurement: c.MeasurementFields, All: c.TotalFields},
		ReceivedField: c.ReceivedField,
		DeviceFields:  func(device string) int { return int(h.profiles.Of(device).Limits.Fields) },
		FieldType:     fieldTypes(h.profiles),
		Home:          homes(h.profiles),
		Crowded:       shareProcessors(),
		SetAside:      h.noteAside,
	}, h.bus, storeWriter{h.store}, h.reg, h.log)
	if err != nil {
		return err
	}
	h.stop.add("ingest", h.ingest.Stop)
	return nil
}

// saveEvery is how often the writer's progress is saved; a crash repeats at most so much of it.
const saveEvery = 10 * time.Second

// openRegistry comes before ingest, which asks for the types of devices.
func (h *hub) openRegistry(ctx context.Context) error {
	kv, err := h.bus.Bucket(ctx, backbone.Devices)
	if err != nil {
		return err
	}
	t := h.cfg.Devices.Tokens
	if h.registry, err = devices.OpenRegistry(ctx, kv, devices.TokenConfig{Lifetime: t.Lifetime, Grace: t.Grace, Overlap: t.Overlap}); err != nil {
		return err
	}
	h.stop.add("registry", func(context.Context) error { return h.registry.Close() })
	mapped, err := h.cfg.mappedTypes()
	if err != nil {
		return err
	}
	h.profiles = h.cfg.profiles(h.registry, mapped)
	h.sessions = devices.NewSessions(h.cfg.Devices.life(), h.log) // whose flight recorder ingest tells of readings that it sets aside
	h.throttle = devices.NewThrottle(h.sessions, h.reg, h.log)
	h.background("limits", h.throttle.Run)
	h.importer, err = devices.OpenImporter(ctx, h.registry, h.bus.Batch(backbone.Devices), h.log)
	return err
}

func (h *hub) openDevices(ctx context.Context) error {
	seen, err := h.bus.Bucket(ctx, backbone.Presence)
	if err != nil {
		return err
	}
	if err := h.sessions.Restore(ctx, seen); err != nil {
		return err
	}
	h.background("presence", func(ctx context.Context) { h.sessions.Keep(ctx, seen) })
	if err := h.openPresence(ctx, seen); err != nil {
		return err
	}

	ledger, err := h.bus.Bucket(ctx, backbone.Commands)
	if err != nil {
		return err
	}
	mapped, err := h.cfg.mappedTypes()
	if err != nil {
		return err
	}
	if h.catalogue, err = deviceTypes(h.cfg.Types, mapped); err != nil {
		return err
	}
	cfg := h.cfg.Commands.ledger()
	cfg.Batch = h.bus.Batch(backbone.Commands)
	cfg.Catalogue = commandCheck{h.catalogue, h.registry, h.sessions, &h.mapped}
	cfg.Recorded = func(c commands.Command) { h.acts.Note(actOfCommand(c)) }
	h.commands, err = commands.Open(ctx, ledger, h.sessions, cfg, h.log)
	if err != nil {
		return err
	}
	h.stop.add("commands", h.commands.Close)
	h.sessions.Bind(h.commands)
	h.background("command events", h.noteCommands)
	h.openProofs()
	if err := h.acts.Follow(ctx, h.commandActs); err != nil {
		return err
	}

	if err := h.openStates(ctx); err != nil {
		return err
	}
	if err := h.openEnrolment(ctx); err != nil {
		return err
	}
	if err := h.openDiscovery(ctx); err != nil {
		return err
	}
	d := h.cfg.Devices
	h.connector = devices.NewConnector(devices.Config{
		Renewer: h.rotation, WriteTimeout: d.WriteTimeout, HandshakeTimeout: d.HandshakeTimeout, Certificates: h.trust, Enroller: h.enrolment,
	}, h.registry, h.profiles, h.throttle, h.sessions, h.admission, h.ingest, h.states, h.log)
	h.stop.add("device connections", h.connector.Stop)
	return nil
}

func (c DevicesConfig) life() devices.Life {
	clones := c.Clones
	return devices.Life{
		Clones: devices.Clones{Policy: clones.Policy, Count: clones.Count, Window: clones.Window, Freeze: clones.Freeze},
		Probes: devices.Probes{After: c.ProbeAfter, Timeout: c.ProbeTimeout},
	}
}

func (h *hub) openStates(ctx context.Context) error {
	kv, err := h.bus.Bucket(ctx, backbone.States)
	if err != nil {
		return err
	}
	known := func(device string) bool {
		_, ok := h.registry.Get(device)
		return ok
	}
	h.states, err = state.Open(ctx, kv, h.sessions, known, state.Config{MaxBytes: int(h.cfg.State.MaxBytes)}, h.reg, h.log)
	if err != nil {
		return err
	}
	h.stop.add("states", h.states.Close)
	return nil
}

func (c CommandsConfig) ledger() commands.Config {
	return commands.Config{Timeout: c.Timeout, Expires: c.Expires, Keep: c.Keep, MaxParams: int(c.MaxParams), Queue: c.Queue, Outstanding: c.Outstanding}
}

func (h *hub) openBridge(ctx context.Context) error {
	retained, err := h.bus.Bucket(ctx, backbone.Retained)
	if err != nil {
		return err
	}
	joined := bridge.Hub{
		Registry: h.registry, Profiles: h.profiles, Throttle: h.throttle, Sessions: h.sessions, Sink: h.ingest, States: h.states, Renewer: h.rotation, Metrics: h.reg, Log: h.log,
		Enroller: h.enrolment, Admission: h.admission, Listener: h.bounded, Retained: retained,
	}
	joined.Certificates, joined.Discovery = h.trust, h.discovery
	broker, err := bridge.OpenBroker(h.cfg.broker(), h.handshakes.config(h.serverTLS()), joined)
	if err != nil {
		return err
	}
	h.broker = broker
	h.mapped.add(bridge.TransportMQTT, broker)
	h.mapped.add(bridge.TransportMQTTWSS, broker)
	h.stop.add("mqtt broker", broker.Close)
	h.connector.BindMQTT(mqttOverWSS{broker})
	for _, b := range h.cfg.Bridge.Brokers {
		external, err := bridge.OpenExternal(h.cfg.external(b), joined)
		if err != nil {
			return fmt.Errorf("bridge %s: %w", b.Name, err)
		}
		h.externals = append(h.externals, external)
		h.mapped.add(bridge.TransportOf(b.Name), external)
		h.stop.add("bridge "+b.Name, external.Close)
	}
	return nil
}

func (c Config) broker() bridge.BrokerConfig {
	b := bridge.DefaultBrokerConfig() // without listeners it serves what comes over WebSocket
	b.Maps, _, _ = c.MQTT.groups()    // what is wrong with them validate has told
	b.Listen, b.Plain, b.PlainAnywhere = c.MQTT.Listen, c.MQTT.PlainListen, c.MQTT.PlainAnywhere
	b.Unacked = c.Devices.unacked()
	b.MaxFrame, b.SessionExpiry = int(c.Devices.MaxFrame), c.MQTT.SessionExpiry
	b.Grants, b.MaxSubscriptions = c.MQTT.Grants, c.MQTT.MaxSubscriptions
	b.MaxQueued, b.MaxQueuedBytes = c.MQTT.MaxQueued, int(c.MQTT.MaxQueuedBytes)
	b.MaxRetained, b.MaxRetainedBytes = c.MQTT.MaxRetained, int(c.MQTT.MaxRetainedBytes)
	return b
}

func (c Config) external(b BrokerConfig) bridge.ExternalConfig {
	return b.external()
}

func (h *hub) openAPI(context.Context) (err error) {
	h.reg.MustRegister(&admissionMetrics{admission: h.admission, sockets: h.sockets, handshakes: h.handshakes})
	h.reg.MustRegister(&onlineMetrics{sessions: h.sessions, connector: h.connector, rotation: h.rotation, commands: h.commands, rollouts: h.rollouts}, &actsMetrics{h.acts}, &damageMetrics{h.bus}, &troubleMetrics{h.sessions})
	h.api, err = api.New(api.Config{MaxFrame: int(h.cfg.Devices.MaxFrame), MaxParams: int(h.cfg.Commands.MaxParams)}, api.Deps{
		Operators: h.operators, Accounts: h.operators, Registry: h.registry, Importer: h.importer, Proofs: h.rotation, Sessions: h.sessions, Profiles: h.profiles, Throttle: h.throttle, Commands: h.commands, States: h.states,
		Ingest:  ingestAPI{h.ingest, &latestValues{cache: h.ingest.Latest, store: h.store, home: homes(h.profiles)}},
		History: historyAPI{h.store}, Quarantine: quarantineAPI{h.ingest}, Replays: replayAPI{h.ingest}, Types: typesAPI{h.ingest}, Acts: h.acts,
		Rollouts: h.rollouts, Catalogue: h.catalogue, Enrolment: h.enrolment, Discovery: h.discovery, Bridges: bridgesAPI{h},
		Certificates: h.trust, Issuer: h.issuer,
		Readiness: readiness{h},
		Feeds:     h.feeds(),
		CAPEM:     h.certs.CAPEM(), Gatherer: h.reg, Metrics: h.reg, Log: h.log,
	})
	return err
}

// background runs a part's loop until the hub stops.
func (h *hub) background(name string, loop func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		loop(ctx)
	}()
	h.stop.add(name, func(context.Context) error {
		cancel()
		<-done
		return nil
	})
}

func (h *hub) path(name string) string { return filepath.Join(h.cfg.Data, name) }

// announce tells people where the hub is, and programs that it serves: one line a listener.
func (h *hub) announce(stdout io.Writer) {
	fmt.Fprintf(stdout, "Telemetry Hub serves.\n  dashboard, API, devices  https://%s\n", reachable(h.listener.Addr()))
	if h.plain != nil {
		fmt.Fprintf(stdout, "  plain, for a proxy       http://%s\n", h.plain.Addr())
	}
	if h.broker.Addr() != nil {
		fmt.Fprintf(stdout, "  MQTT                     mqtts://%s\n", reachable(h.broker.Addr()))
	}
	if h.broker.PlainAddr() != nil {
		fmt.Fprintf(stdout, "  MQTT, plain              mqtt://%s\n", h.broker.PlainAddr())
	}
	fmt.Fprintf(stdout, "  admin token              %s\n  CA certificate           %s\n", h.path("admin.token"), h.path("tls/ca.pem"))
}

// reachable is an address that a browser on this machine can open.
func reachable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
