package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// localCheckPeriod is how often the hub looks whether its own certificate needs a new one: often enough to notice a
// changed address within the hour, and a small part of the third of its life that is left at renewal.
const localCheckPeriod = time.Hour

// TLSConfig says which certificate the hub shows.
type TLSConfig struct {
	CertFile string   `yaml:"cert_file"` // PEM, the leaf first; empty: a certificate of the local authority
	KeyFile  string   `yaml:"key_file"`  // PEM, without a passphrase
	Names    []string `yaml:"names"`     // further DNS names and addresses for the local certificate
}

// validate reports what cannot be meant.
func (c TLSConfig) validate() error {
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("tls: cert_file and key_file belong together: set both or none")
	}
	var errs []error
	for _, name := range c.Names {
		if err := CheckServerName(name); err != nil {
			errs = append(errs, fmt.Errorf("tls: names: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Certificates holds the certificate of the TLS port and keeps it valid.
type Certificates struct {
	dir   string
	cfg   TLSConfig
	log   *slog.Logger
	local *authority // nil with the operator's own files

	current   atomic.Pointer[tls.Certificate]
	handshake handshakeCounts

	mu       sync.Mutex
	files    watchedFiles // the operator's own
	fault    error        // why the certificate is not the one that it should be
	failures uint64
}

// handshakeCounts are of completed handshakes.
type handshakeCounts struct {
	full, resumed, certificates atomic.Uint64
}

// count implements tls.Config.VerifyConnection, which is called for each handshake.
func (h *handshakeCounts) count(state tls.ConnectionState) error {
	if state.DidResume {
		h.resumed.Add(1)
	} else {
		h.full.Add(1)
	}
	if len(state.PeerCertificates) > 0 {
		h.certificates.Add(1)
	}
	return nil
}

// ServerStatus is what there is to tell of the server's certificate and of the handshakes in figures.
type ServerStatus struct {
	Expires      time.Time
	Failures     uint64 // times that changed files were not taken, or no certificate could be issued
	Full         uint64 // handshakes
	Resumed      uint64 // handshakes by a session ticket
	Certificates uint64 // handshakes of either kind with a certificate of the client
}

// Status returns the figures of this moment.
func (c *Certificates) Status() ServerStatus {
	c.mu.Lock()
	failures := c.failures
	c.mu.Unlock()
	return ServerStatus{
		Expires: c.current.Load().Leaf.NotAfter, Failures: failures,
		Full: c.handshake.full.Load(), Resumed: c.handshake.resumed.Load(), Certificates: c.handshake.certificates.Load(),
	}
}

// Fault says why the certificate is not the one that it should be; nil: it is.
func (c *Certificates) Fault() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if end := c.current.Load().Leaf.NotAfter; c.fault == nil && time.Now().After(end) {
		return fmt.Errorf("the server's certificate has expired at %s", rfc3339(end))
	}
	return c.fault
}

// OpenCertificates loads the operator's own certificate if cfg names one. Otherwise it opens the local authority in dir,
// or makes it (ca.pem, ca.key), and has it issue a certificate (server.pem, server.key) unless a good one is there.
func OpenCertificates(dir string, cfg TLSConfig, log *slog.Logger) (*Certificates, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Certificates{dir: dir, cfg: cfg, log: log}
	now := time.Now()
	if cfg.CertFile != "" {
		c.files.watch(cfg.CertFile, cfg.KeyFile)
		pair, err := loadOwnFiles(cfg.CertFile, cfg.KeyFile, now)
		if err != nil {
			return nil, err
		}
		c.current.Store(pair)
		return c, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { // the keys themselves are 0600; ca.pem is for everybody
		return nil, fmt.Errorf("open certificates: %w", err)
	}
	local, err := openAuthority(dir, localAuthority(), now)
	if err != nil {
		return nil, err
	}
	c.local = local
	if err := c.refresh(now); err != nil {
		return nil, err
	}
	return c, nil
}

// CAPEM returns the certificate of the local authority, the one thing that devices and operators have to trust. It is nil
// with the operator's own certificate, whose authority the hub does not know.
func (c *Certificates) CAPEM() []byte {
	if c.local == nil {
		return nil
	}
	return bytes.Clone(c.local.pem)
}

// ServerTLS returns a configuration for a listener. It always shows the newest certificate. Session tickets are on: a
// resumed handshake saves a microcontroller most of its energy. Their keys live in memory and go with the process, unless
// TicketKeys.Use brings others.
func (c *Certificates) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
		VerifyConnection: c.handshake.count,
	}
}

// Run keeps the certificate valid until ctx ends. Live connections are not disturbed by a new certificate.
func (c *Certificates) Run(ctx context.Context) {
	period := localCheckPeriod
	if c.local == nil {
		period = filesPeriod
	}
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.check(time.Now())
		}
	}
}

// check refreshes the certificate and remembers why it could not.
func (c *Certificates) check(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.local == nil && !c.files.changed() {
		return
	}
	if c.fault = c.refresh(now); c.fault != nil {
		c.failures++
		c.log.Error("certificate not renewed, the earlier one stays", "error", c.fault, "expires", c.current.Load().Leaf.NotAfter)
	}
}

// refresh replaces the current certificate if a better one is there or is due.
func (c *Certificates) refresh(now time.Time) error {
	if c.local == nil {
		return c.refreshOwnFiles(now)
	}
	want := hostNames(c.cfg.Names, c.log)
	current := c.current.Load()
	if current == nil {
		current = c.loadServerFiles()
	}
	reason := "none there"
	if current != nil {
		reason = c.local.usable(current, want, now)
	}
	if reason == "" {
		c.current.Store(current)
		return nil
	}
	return c.reissue(want, reason, now)
}

func (c *Certificates) refreshOwnFiles(now time.Time) error {
	pair, err := loadOwnFiles(c.cfg.CertFile, c.cfg.KeyFile, now)
	if err != nil {
		return err
	}
	if bytes.Equal(pair.Leaf.Raw, c.current.Load().Leaf.Raw) {
		return nil
	}
	c.current.Store(pair)
	c.log.Info("certificate read again", "file", c.cfg.CertFile, "expires", pair.Leaf.NotAfter)
	return nil
}

// loadServerFiles returns the certificate of an earlier run, or nil: whatever is wrong with it, a new one mends it.
func (c *Certificates) loadServerFiles() *tls.Certificate {
	pair, err := tls.LoadX509KeyPair(filepath.Join(c.dir, serverCertFile), filepath.Join(c.dir, serverKeyFile))
	if err != nil {
		return nil
	}
	return &pair
}

// reissue makes a certificate and puts it to use. A crash between the two files leaves a pair that does not match, which
// the next start replaces.
func (c *Certificates) reissue(names serverNames, reason string, now time.Time) error {
	certPEM, keyPEM, err := c.local.issue(names, now)
	if err != nil {
		return fmt.Errorf("issue a certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("issue a certificate: %w", err)
	}
	if err := writeFileAtomic(filepath.Join(c.dir, serverKeyFile), keyPEM, 0o600); err != nil {
		return fmt.Errorf("issue a certificate: %w", err)
	}
	if err := writeFileAtomic(filepath.Join(c.dir, serverCertFile), certPEM, 0o644); err != nil {
		return fmt.Errorf("issue a certificate: %w", err)
	}
	c.current.Store(&pair)
	c.log.Info("certificate issued", "reason", reason, "names", names.dns, "expires", pair.Leaf.NotAfter)
	return nil
}
