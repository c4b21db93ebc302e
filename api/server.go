package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"telemetryhub/wire"
)

// Config holds the limits. The zero value of a member means its default.
type Config struct {
	MaxFrame    int           `yaml:"max_frame"`    // bytes of one posted telemetry; 64 KiB, as on the socket
	MaxParams   int           `yaml:"max_params"`   // bytes of a command's params; 64 KiB
	MaxLive     int           `yaml:"max_live"`     // live streams at a time; 256
	LiveBuffer  int           `yaml:"live_buffer"`  // events a live stream may lag; 4096
	BodyTimeout time.Duration `yaml:"body_timeout"` // a body must have arrived; 10 s

	Now func() time.Time `yaml:"-"` // the clock; time.Now
}

func (c Config) withDefaults() Config {
	for _, n := range []struct {
		p *int
		d int
	}{{&c.MaxFrame, wire.DefaultMaxFrame}, {&c.MaxParams, wire.DefaultMaxFrame}, {&c.MaxLive, 256}, {&c.LiveBuffer, 4096}} {
		if *n.p == 0 {
			*n.p = n.d
		}
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = 10 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate reports every member that is wrong.
func (c Config) Validate() error {
	var faults []error
	for _, n := range []struct {
		name string
		v    int
		most int
	}{{"max_frame", c.MaxFrame, wire.HardMaxFrame}, {"max_params", c.MaxParams, wire.HardMaxFrame}, {"max_live", c.MaxLive, 100_000}, {"live_buffer", c.LiveBuffer, 1 << 20}} {
		if n.v < 0 || n.v > n.most {
			faults = append(faults, fmt.Errorf("%s: %d: must be 1 to %d, or 0 for the default", n.name, n.v, n.most))
		}
	}
	if c.BodyTimeout < 0 || c.BodyTimeout > 10*time.Minute {
		faults = append(faults, fmt.Errorf("body_timeout: %v: must be at most 10m, or 0 for the default", c.BodyTimeout))
	}
	return errors.Join(faults...)
}

// Server serves the API.
type Server struct {
	cfg  Config
	deps Deps
	log  *slog.Logger

	mux      *http.ServeMux
	api      huma.API
	openAPI  []byte // the document, made once
	metrics  *metrics
	logins   *loginLimits
	refusals *refusalLimits
	origin   *http.CrossOriginProtection
	decode   sync.Pool // of *telemetryScratch
	live     atomic.Int64

	stop     chan struct{} // closed by Close
	stopOnce sync.Once
}

// Paths are the prefixes under which Handler answers, in the words of http.ServeMux. Everything else is the dashboard's.
func Paths() []string {
	return []string{"/api/", "/healthz", "/readyz", "/ca.pem", "/metrics"}
}

// New builds the API. It fails when the configuration is wrong, something in deps is missing, or the metrics' names are
// taken.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := errors.Join(cfg.Validate(), deps.check()); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, fmt.Errorf("api: register metrics: %w", err)
	}
	s := &Server{
		cfg: cfg.withDefaults(), deps: deps, log: deps.Log, mux: http.NewServeMux(), metrics: m,
		logins: newLoginLimits(), refusals: newRefusalLimits(), origin: http.NewCrossOriginProtection(), stop: make(chan struct{}),
	}
	s.decode.New = func() any { return new(telemetryScratch) }
	s.api = humago.New(s.mux, s.humaConfig())
	s.api.UseMiddleware(s.authorize)
	s.registerLogin()
	s.registerAccounts()
	s.registerDevices()
	s.registerCertificates()
	s.registerCredentials()
	s.registerWhy()
	s.registerLife()
	s.registerImport()
	s.registerTelemetry()
	s.registerHistory()
	s.registerCommands()
	s.registerRollouts()
	s.registerState()
	s.registerLive()
	s.registerAudit()
	s.registerQuarantine()
	s.registerReplay()
	s.registerTypes()
	s.registerActs()
	s.registerEnrolment()
	s.registerDiscovery()
	s.registerBridges()
	s.registerDeviceTypes()
	s.registerHealth(promhttp.HandlerFor(deps.Gatherer, promhttp.HandlerOpts{ErrorLog: metricsLog{s.log}, ErrorHandling: promhttp.ContinueOnError}))
	if err := s.mountOpenAPI(); err != nil {
		return nil, fmt.Errorf("api: write the OpenAPI document: %w", err)
	}
	return s, nil
}

// Handler serves the paths of Paths.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Close ends the live streams and the waiting for commands, so that http.Server.Shutdown has nothing to wait for.
// Requests may still come in; streams are refused.
func (s *Server) Close() { s.stopOnce.Do(func() { close(s.stop) }) }

// check names what is missing.
func (d Deps) check() error {
	var faults []error
	v := reflect.ValueOf(d)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "CAPEM" && v.Field(i).IsZero() {
			faults = append(faults, fmt.Errorf("deps: %s is missing", name))
		}
	}
	if d.Feeds.Telemetry == nil || d.Feeds.Presence == nil || d.Feeds.Commands == nil || d.Feeds.Rollouts == nil || d.Feeds.States == nil || d.Feeds.Discovery == nil {
		faults = append(faults, errors.New("deps: a feed is missing"))
	}
	return errors.Join(faults...)
}

func (s *Server) humaConfig() huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Telemetry Hub", Version: "1",
				Description: "Devices, their readings and commands. Each operation's x-hub-role says who may call it: a viewer, operator or admin " +
					"(each includes those before), a device with its own credentials, whoever has an enrolment key, or anyone (open). Its x-hub-scope says what it is to an operator whose scope is the devices with some tags: " +
					"path: what the path names is not found unless it is theirs; filtered: it tells of theirs alone; all: it is refused (403 scope); none: it tells of no device. Errors are application/problem+json with a machine-readable reason.",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"bearer": {Type: "http", Scheme: "bearer", Description: "An operator's token, a device's where the role is device, or an enrolment key"},
					"cookie": {Type: "apiKey", In: "cookie", Name: cookieName, Description: "Set by POST /api/v1/login; changes are taken from the hub's own pages only"},
					"basic":  {Type: "http", Scheme: "basic", Description: "A device's id and token"},
				},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{s.problemOfHuma},
	}
}

// mountOpenAPI serves the document of what has been registered so far. (huma's own handler makes the document at the
// first request, without a lock.)
func (s *Server) mountOpenAPI() error {
	// huma documents its own error model beside ours, which every operation refers to.
	schemas := s.api.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	var err error
	if s.openAPI, err = json.Marshal(s.api.OpenAPI()); err != nil {
		return err
	}
	s.mux.HandleFunc("GET /api/v1/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(s.openAPI) // the client is gone: nobody is left to tell
	})
	return nil
}
