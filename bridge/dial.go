package bridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// dialTimeout bounds the connection, TLS, and the wait for CONNACK and SUBACK each.
const dialTimeout = 10 * time.Second

// dial opens the connection that paho speaks MQTT on.
func (e *External) dial(ctx context.Context) (net.Conn, error) {
	u, err := url.Parse(e.cfg.URL)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	switch u.Scheme {
	case "ws", "wss":
		plain := *u
		plain.User = nil // gorilla takes no URL with a user
		return paho.NewWebsocket(plain.String(), e.tls, dialTimeout, nil, nil)
	case "mqtts", "ssl", "tls":
		return (&tls.Dialer{Config: e.tls}).DialContext(ctx, "tcp", withPort(u, "8883"))
	}
	return new(net.Dialer).DialContext(ctx, "tcp", withPort(u, "1883"))
}

func withPort(u *url.URL, port string) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// tlsConfig returns what connections to the broker trust, nil for those without TLS.
func (c ExternalConfig) tlsConfig() (*tls.Config, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}
	if over, _ := secured(u.Scheme); !over {
		return nil, nil
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	if c.CAFile == "" {
		return trust, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	trust.RootCAs = x509.NewCertPool()
	if !trust.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM", c.CAFile)
	}
	return trust, nil
}

// watchedConn tells of a broken connection at once: paho tells only when its handlers have returned. Its writes have a
// deadline, which paho's acknowledgements and pings have not.
type watchedConn struct {
	net.Conn
	broken func(error)
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.broken(err)
	}
	if errors.Is(err, net.ErrClosed) {
		// paho takes the closing of the socket for its own doing, and would keep its goroutines for ever.
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *watchedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		c.broken(err)
	}
	return n, err
}
