package bridge

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
)

// credentials are what the client of an external broker shows and trusts, read from their files for each connection: so
// a renewed certificate or a new password counts from the next connection on. A file that cannot be used, perhaps because
// it is being written, leaves what was read before.
type credentials struct {
	cfg ExternalConfig
	log *slog.Logger

	mu       sync.Mutex
	roots    *x509.CertPool
	pair     *tls.Certificate
	password string
}

// openCredentials reads all files, so that one that cannot be used is told at the start.
func openCredentials(cfg ExternalConfig, log *slog.Logger) (*credentials, error) {
	c := &credentials{cfg: cfg, log: log}
	return c, c.read()
}

func (c *credentials) read() error {
	password, err := c.cfg.password()
	if err != nil {
		return err
	}
	roots, err := c.cfg.TLS.roots()
	if err != nil {
		return err
	}
	pair, err := c.cfg.TLS.pair()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roots, c.pair, c.password = roots, pair, password
	return nil
}

// refresh reads the files again.
func (c *credentials) refresh() {
	if err := c.read(); err != nil {
		c.log.Warn("credentials for the external mqtt broker cannot be read again; those from before are used", "err", err)
	}
}

// secret returns the password.
func (c *credentials) secret() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.password
}

// tls returns what a connection to u trusts and shows, nil for one without TLS.
func (c *credentials) tls(u *url.URL) *tls.Config {
	if over, _ := secured(u.Scheme); !over {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	trust := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname(), RootCAs: c.roots}
	if c.cfg.TLS.ServerName != "" {
		trust.ServerName = c.cfg.TLS.ServerName
	}
	if c.pair != nil {
		pair := c.pair // shown whatever authorities the broker lists: some list none, or the wrong ones
		trust.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	return trust
}

// roots returns the authorities that are trusted, nil for those of the system.
func (t ExternalTLS) roots() (*x509.CertPool, error) {
	if t.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM", t.CAFile)
	}
	return pool, nil
}

// pair returns the hub's certificate for the broker, nil for none.
func (t ExternalTLS) pair() (*tls.Certificate, error) {
	if t.CertFile == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("cert_file, key_file: %w", err)
	}
	return &pair, nil
}
