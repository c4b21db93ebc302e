package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/auth"
)

// exchange is one request and its answer, for what huma's handlers do not see.
type exchange struct {
	http.ResponseWriter
	request  *http.Request
	operator auth.Operator  // set by authorize
	device   string         // that the act concerns, where the path does not say so
	target   string         // that it concerns, other than a device, likewise
	facts    map[string]any // of the act, for the audit log
	status   int            // 0: nothing written yet
}

type exchangeKey struct{}

// exchangeOf returns the exchange that ctx belongs to.
func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// OperatorName returns who asked for what is done in ctx; "" where it is not done for an operator.
func OperatorName(ctx context.Context) string {
	if x := exchangeOf(ctx); x != nil {
		return x.operator.Name
	}
	return ""
}

// WriteHeader keeps the status.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write keeps the status.
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	return x.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// origin is the address that the request came from, without its port.
func (x *exchange) origin() string {
	if host, _, err := net.SplitHostPort(x.request.RemoteAddr); err == nil {
		return host
	}
	return x.request.RemoteAddr
}

func (x *exchange) control() *http.ResponseController { return http.NewResponseController(x) }

// serve is what happens around every request: the answer to unknown paths and methods, panics, metrics.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	x := &exchange{ResponseWriter: w}
	x.request = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")

	route := "none"
	handler, pattern := s.mux.Handler(r)
	if pattern != "" {
		route = pattern[strings.IndexByte(pattern, ' ')+1:]
	}
	defer func() {
		if v := recover(); v != nil {
			s.recovered(x, v)
		}
		s.metrics.observe(route, x.status, time.Since(began))
	}()
	if pattern == "" {
		noSuchRoute(x, handler)
		return
	}
	s.mux.ServeHTTP(x, x.request)
}

// recovered answers for a handler that panicked; huma panics when an answer cannot be written.
func (s *Server) recovered(x *exchange, v any) {
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	if x.request.Context().Err() == nil {
		s.log.Error("handler panicked", "method", x.request.Method, "path", x.request.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	}
	if x.status != 0 {
		panic(http.ErrAbortHandler) // half an answer is out: cut it, so that nobody takes it for a whole one
	}
	newProblem(http.StatusInternalServerError, "internal", "internal error; the hub's log says more").write(x)
}

// noSuchRoute answers as the mux would, 404 or 405 with Allow, but as a problem.
func noSuchRoute(x *exchange, mux http.Handler) {
	var plain discard
	mux.ServeHTTP(&plain, x.request)
	path := clip(x.request.URL.Path)
	if allow := plain.Header().Get("Allow"); plain.status == http.StatusMethodNotAllowed {
		newProblem(http.StatusMethodNotAllowed, "method_not_allowed", "%s takes %s, not %s", path, allow, x.request.Method).with("Allow", allow).write(x)
		return
	}
	newProblem(http.StatusNotFound, "no_such_path", "there is nothing at %s; /api/v1/openapi.json lists what there is", path).write(x)
}

// discard keeps of an answer its status and headers.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header {
	if d.header == nil {
		d.header = http.Header{}
	}
	return d.header
}
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

// register adds an operation. Its role is enforced by authorize and stands in the document.
func register[I, O any](s *Server, role access, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	op.Extensions = map[string]any{"x-hub-role": string(role), "x-hub-scope": string(reachOf(&op))}
	op.Metadata = map[string]any{"role": role}
	op.Security = role.security()
	if op.BodyReadTimeout == 0 {
		op.BodyReadTimeout = s.cfg.BodyTimeout
	}
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = maxBody + 1 // huma refuses a body that fills its limit
	}
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	op.Responses["default"] = &huma.Response{
		Description: "Problem",
		Content:     map[string]*huma.MediaType{problemType: {Schema: schemaOf[Problem](s)}},
	}
	handle = logged(s, op, handle)
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return out, nil
	})
}

// schemaOf returns the reference to T's schema in the document.
func schemaOf[T any](s *Server) *huma.Schema {
	t := reflect.TypeFor[T]()
	return s.api.OpenAPI().Components.Schemas.Schema(t, true, t.Name())
}

// metrics are this package's own.
type metrics struct {
	requests *prometheus.HistogramVec // route, code
	streams  prometheus.Gauge
	missed   prometheus.Counter
	logins   prometheus.Counter

	suppressed *prometheus.CounterVec // act
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hub_http_request_seconds", Help: "Time to answer HTTP requests, by route and class of status.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60},
		}, []string{"route", "code"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hub_live_streams", Help: "Live streams (server-sent events) open now."}),
		missed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "hub_live_missed_total", Help: "Live events lost because a client was slow."}),
		logins:  prometheus.NewCounter(prometheus.CounterOpts{Name: "hub_login_failures_total", Help: "Logins refused because of a wrong token or the limit."}),
		suppressed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hub_acts_suppressed_total", Help: "Refused acts that came too often to be put into the audit log one by one.",
		}, []string{"act"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.streams, m.missed, m.logins, m.suppressed} {
		if err := to.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) observe(route string, status int, took time.Duration) {
	if status == 0 {
		status = http.StatusOK // net/http's own answer for a handler that wrote nothing
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status/100)+"xx").Observe(took.Seconds())
}

// metricsLog carries promhttp's complaints into the log.
type metricsLog struct{ log *slog.Logger }

func (l metricsLog) Println(v ...any) { l.log.Error("metrics not gathered", "error", fmt.Sprint(v...)) }
