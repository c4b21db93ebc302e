package bridge

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// dial opens the connection that paho speaks MQTT on.
func (e *External) dial(ctx context.Context) (net.Conn, error) {
	u, err := url.Parse(e.cfg.URL)
	if err != nil {
		return nil, err
	}
	trust := e.credentials.tls(u)
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Timing.Connect)
	defer cancel()
	switch {
	case overWebSocket(u.Scheme):
		return e.dialWebSocket(ctx, u, trust)
	case trust != nil:
		return (&tls.Dialer{Config: trust}).DialContext(ctx, "tcp", withPort(u, "8883"))
	}
	return new(net.Dialer).DialContext(ctx, "tcp", withPort(u, "1883"))
}

// dialWebSocket opens MQTT over WebSocket (MQTT 3.1.1 section 6). paho knows no context: a connection that comes after
// its end is closed.
func (e *External) dialWebSocket(ctx context.Context, u *url.URL, trust *tls.Config) (net.Conn, error) {
	headers := http.Header{}
	for name, value := range e.cfg.Headers {
		headers.Set(name, value)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	opened := make(chan result, 1)
	go func() {
		conn, err := paho.NewWebsocket(u.String(), trust, e.cfg.Timing.Connect, headers, nil)
		opened <- result{conn, err}
	}()
	select {
	case r := <-opened:
		if r.err == nil {
			return r.conn, nil
		}
		if strings.Contains(r.err.Error(), "bad handshake") {
			return nil, fmt.Errorf("%w: what answers at %s takes no WebSocket for MQTT; check the path and the headers", r.err, u.Redacted())
		}
		return nil, fmt.Errorf("open a websocket: %w", r.err)
	case <-ctx.Done():
		go func() {
			if late := <-opened; late.err == nil {
				_ = late.conn.Close()
			}
		}()
		return nil, fmt.Errorf("open a websocket: %w", ctx.Err())
	}
}

func withPort(u *url.URL, port string) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), port)
}
