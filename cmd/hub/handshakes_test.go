package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"telemetryhub/auth"
)

// gated is an HTTPS server with a bound on handshakes, and a place within each handshake where the test can hold it.
type gated struct {
	addr   string
	client *tls.Config
	inside chan chan struct{} // each handshake that has its turn sends a channel here and waits until it is closed

	now, mostAtOnce atomic.Int64 // handshakes that have their turn
}

func startGated(t *testing.T, most int, wait time.Duration) *gated {
	t.Helper()
	certs, err := auth.OpenCertificates(t.TempDir(), auth.TLSConfig{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certs.CAPEM())
	g := &gated{client: &tls.Config{RootCAs: roots, ServerName: "localhost"}, inside: make(chan chan struct{}, 100)}
	config := certs.ServerTLS()
	certificate := config.GetCertificate
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		held := make(chan struct{})
		now := g.now.Add(1)
		defer g.now.Add(-1)
		for seen := g.mostAtOnce.Load(); now > seen && !g.mostAtOnce.CompareAndSwap(seen, now); seen = g.mostAtOnce.Load() {
		}
		g.inside <- held
		<-held
		return certificate(hello)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = listener.Addr().String()
	gate, sockets := newHandshakes(most, wait), newSockets(100)
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }),
		TLSConfig:         gate.config(config),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(gate.listener(sockets.listener(listener)), "", "") }()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return g
}

// connect makes a handshake; its outcome comes later.
func (g *gated) connect(t *testing.T) <-chan error {
	t.Helper()
	outcome := make(chan error, 1)
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() { outcome <- tls.Client(conn, g.client).Handshake() }()
	return outcome
}

func TestOnlySoManyHandshakesAtOnceAndTheOthersAfterThem(t *testing.T) {
	const most, all = 2, 8
	g := startGated(t, most, time.Minute)
	outcomes := make([]<-chan error, all)
	for i := range outcomes {
		outcomes[i] = g.connect(t)
	}
	held := []chan struct{}{<-g.inside, <-g.inside}
	for done := range all {
		close(held[0])
		held = held[1:]
		if done+most < all {
			held = append(held, <-g.inside)
		}
	}
	for _, outcome := range outcomes {
		if err := <-outcome; err != nil {
			t.Errorf("handshake: %v", err)
		}
	}
	if g.mostAtOnce.Load() > most {
		t.Errorf("%d handshakes at once, want at most %d", g.mostAtOnce.Load(), most)
	}
}

func TestSilentClientsTakeNoTurn(t *testing.T) {
	g := startGated(t, 1, time.Minute)
	go func() {
		for held := range g.inside {
			close(held)
		}
	}()
	for range 5 {
		silent, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		conn, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(clientHello(t, g.client)); err != nil { // says nothing more
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
			t.Fatalf("no answer to a hello: %v", err)
		}
	}
	if err := <-g.connect(t); err != nil {
		t.Errorf("handshake beside silent clients: %v", err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: g.client, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	response, err := client.Get("https://" + g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "HTTP/2.0" {
		t.Errorf("spoke %q, %v; want HTTP/2.0", body, err)
	}
}

func TestWhoGetsNoTurnInTimeIsLetGo(t *testing.T) {
	g := startGated(t, 1, 100*time.Millisecond)
	first := g.connect(t)
	held := <-g.inside
	if err := <-g.connect(t); err == nil {
		t.Error("a handshake without a turn went through")
	}
	close(held)
	if err := <-first; err != nil {
		t.Errorf("the one that had the turn: %v", err)
	}
	next := g.connect(t)
	close(<-g.inside)
	if err := <-next; err != nil {
		t.Errorf("the one after it: %v", err)
	}
}

// clientHello is what a client says first.
func clientHello(t *testing.T, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	go func() { _ = tls.Client(client, config).Handshake() }()
	hello := make([]byte, 4096)
	n, err := server.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = server.Close(), client.Close()
	return hello[:n]
}
