package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"telemetryhub/devices"
	"telemetryhub/web"
)

// Bounds of a request's head and of its answer; the body is bounded where it is read.
const (
	maxHeader   = 16 << 10 // bytes
	idleTimeout = 2 * time.Minute
	// answerTimeout ends an answer that nobody takes, such as that of an HTTP/2 client that opens no window. What lasts
	// longer by its nature (the live stream, a command's wait) sets deadlines of its own; a WebSocket has none of these.
	answerTimeout = time.Minute
)

// listen binds the ports before anything is opened: a port that is in use is the commonest fault, and costs nothing so.
func (h *hub) listen(ctx context.Context) (err error) {
	lc := devices.ListenConfig(h.cfg.Devices.unacked())
	if h.listener, err = lc.Listen(ctx, "tcp", h.cfg.Listen); err != nil {
		return fmt.Errorf("listen on %s (key listen): %w", h.cfg.Listen, err)
	}
	h.stop.add("port", func(context.Context) error { return ignoreClosed(h.listener.Close()) })
	if h.cfg.HTTP.Listen == "" {
		return nil
	}
	if h.plain, err = lc.Listen(ctx, "tcp", h.cfg.HTTP.Listen); err != nil {
		return fmt.Errorf("listen on %s (key http.listen): %w", h.cfg.HTTP.Listen, err)
	}
	h.stop.add("plain port", func(context.Context) error { return ignoreClosed(h.plain.Close()) })
	return nil
}

// unacked is how long what was sent to a device may go without an acknowledgement of its TCP.
func (c DevicesConfig) unacked() time.Duration { return max(c.Keepalive, leastUnacked) }

// leastUnacked leaves a bad network the time for some retransmissions.
const leastUnacked = 10 * time.Second

// ignoreClosed is for listeners that their server has closed already.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// handler is the one port's: devices, API, dashboard.
func (h *hub) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/connect", h.connector)
	mux.Handle("/connect/{device}", h.connector)
	mux.Handle(devices.PathMQTT, h.connector)
	for _, path := range []string{"/api/", "/healthz", "/readyz", "/ca.pem", "/metrics"} {
		mux.Handle(path, h.api.Handler())
	}
	mux.Handle("/", web.Handler())
	return boundLeftovers(mux)
}

// leftoverTime is how long net/http may wait for the rest of a body that the handler has not read: so many bytes of one
// that was refused would otherwise have no deadline, byte by byte.
const leftoverTime = 2 * time.Second

// boundLeftovers bounds what comes of a request after its answer. (What is hijacked has no body.)
func boundLeftovers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		if r.Body != nil && r.Body != http.NoBody {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(leftoverTime)) // fails on a connection that is gone
		}
	})
}

// serve answers on the bound ports.
func (h *hub) serve() {
	handler := h.handler()
	server := h.server(handler)
	server.TLSConfig = h.handshakes.config(h.serverTLS("h2", "http/1.1"))
	h.run("https", server, func() error { return server.ServeTLS(h.bounded(h.listener), "", "") })
	if h.plain != nil {
		plain := h.server(behindProxy(handler, h.cfg.HTTP.Forwarded))
		h.run("http", plain, func() error { return plain.Serve(h.sockets.listener(h.plain)) })
	}
	// Streams have no end of their own; before the server waits for its requests, they are told.
	h.stop.add("streams", func(context.Context) error {
		h.api.Close()
		return nil
	})
	h.stop.add("admission", h.stopAdmission)
}

// server bounds what a client of either port may cost.
func (h *hub) server(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: endChunked(handler), ReadHeaderTimeout: h.cfg.Devices.HandshakeTimeout, WriteTimeout: answerTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ConnState: h.sockets.follow,
		// What net/http logs are failed handshakes of scanners: for debugging only.
		ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
}

// behindProxy takes the address that a proxy on this machine says its client has, for logs, limits and the audit log.
// Of several the last counts, which the proxy has added itself: those before it are what the client said.
func behindProxy(handler http.Handler, forwarded bool) http.Handler {
	if !forwarded {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
		client, err := netip.ParseAddr(strings.TrimSpace(said[strings.LastIndexByte(said, ',')+1:]))
		if err == nil && loopback(r.RemoteAddr) {
			r.RemoteAddr = net.JoinHostPort(client.String(), "0") // the port is nobody's to know
		}
		handler.ServeHTTP(w, r)
	})
}

func (h *hub) run(name string, server *http.Server, serve func() error) {
	go func() {
		if err := serve(); !errors.Is(err, http.ErrServerClosed) {
			h.failed <- fmt.Errorf("serve %s: %w", name, err)
		}
	}()
	h.stop.add(name, func(ctx context.Context) error {
		// A client that keeps a request open must not use up the whole budget.
		ctx, cancel := context.WithTimeout(ctx, stopBudget/4)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			return server.Close()
		}
		return nil
	})
}
