package auth

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// filesPeriod is how often configured files are looked at. It is a few calls of stat, which unlike notifications of the
// file system see through symbolic links, mounts and volumes of containers.
const filesPeriod = 2 * time.Second

// DeviceTrustConfig says whose certificates are those of devices.
type DeviceTrustConfig struct {
	CAFiles  []string      // PEM; each certificate is an authority, or lies between one and the devices
	CRLFiles []string      // PEM or DER; each signed by one of the authorities
	Grace    time.Duration // how long after its end a certificate still serves for its renewal
}

// DeviceTrust tells which certificates are those of devices: the hub's own authority's, and those of the operator's
// authorities less what their lists revoke.
type DeviceTrust struct {
	cfg     DeviceTrustConfig
	log     *slog.Logger
	own     *DeviceAuthority
	current atomic.Pointer[anchors]

	mu       sync.Mutex
	files    watchedFiles
	fault    error // why the files as they are now were not taken
	failures uint64
}

// OpenDeviceTrust reads the files of cfg.
func OpenDeviceTrust(cfg DeviceTrustConfig, own *DeviceAuthority, log *slog.Logger) (*DeviceTrust, error) {
	t := &DeviceTrust{cfg: cfg, log: log, own: own}
	t.files.watch(append(append([]string{}, cfg.CAFiles...), cfg.CRLFiles...)...)
	read, err := readAnchors(cfg, own.authority.cert)
	if err != nil {
		return nil, err
	}
	if len(read.orphans) > 0 {
		return nil, fmt.Errorf("revoked certificates of devices: %w", errors.Join(read.orphans...))
	}
	t.take(read)
	return t, nil
}

// Run reads the files again when they have changed, until ctx ends, and calls changed after each time. What cannot be read
// changes nothing.
func (t *DeviceTrust) Run(ctx context.Context, changed func()) {
	if len(t.cfg.CAFiles)+len(t.cfg.CRLFiles) == 0 {
		return
	}
	ticker := time.NewTicker(filesPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if t.reread() {
				changed()
			}
		}
	}
}

// reread reports whether it has read something else than before.
func (t *DeviceTrust) reread() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.files.changed() {
		return false
	}
	read, err := readAnchors(t.cfg, t.own.authority.cert)
	if err == nil {
		err = read.follows(t.current.Load())
	}
	if err != nil {
		t.failures++
		t.fault = err
		t.log.Error("authorities of devices not read again, the earlier ones stay", "error", err)
		return false
	}
	t.fault = nil
	t.take(read)
	return true
}

func (t *DeviceTrust) take(read *anchors) {
	t.current.Store(read)
	if len(t.cfg.CAFiles)+len(t.cfg.CRLFiles) > 0 {
		t.log.Info("authorities of devices read", "certificates", read.authorities-1, "revoked", read.revoked())
	}
	for _, list := range read.lists {
		if list.stale(time.Now()) {
			t.log.Warn("list of revoked certificates is out of date: what it revokes stays revoked, what was revoked since is not known",
				"file", list.file, "next_update", list.nextUpdate)
		}
	}
}

// Fault says why the files as they are now were not taken; nil: they were.
func (t *DeviceTrust) Fault() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault != nil {
		return t.fault
	}
	current := t.current.Load()
	if len(current.orphans) > 0 { // of an authority that was taken away
		return errors.Join(current.orphans...)
	}
	for _, list := range current.lists {
		if list.stale(time.Now()) {
			return fmt.Errorf("%s should have been replaced by %s: what was revoked since is not known", list.file, list.nextUpdate.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// TrustStatus is what there is to tell of the trust in figures.
type TrustStatus struct {
	Failures  uint64               // times that changed files were not taken
	Lists     map[string]time.Time // when each file of revoked certificates is due to be replaced; zero: never
	Revoked   int                  // certificates on the lists
	Operators int                  // certificates of the operator's authorities
}

// Status returns the figures of this moment.
func (t *DeviceTrust) Status() TrustStatus {
	read := t.current.Load()
	t.mu.Lock()
	s := TrustStatus{Failures: t.failures, Lists: map[string]time.Time{}, Revoked: read.revoked(), Operators: read.authorities - 1}
	t.mu.Unlock()
	for _, list := range read.lists {
		if earlier, ok := s.Lists[list.file]; !ok || list.nextUpdate.Before(earlier) {
			s.Lists[list.file] = list.nextUpdate
		}
	}
	return s
}

// HasOperators reports whether certificates of the operator's own authorities are taken.
func (t *DeviceTrust) HasOperators() bool { return len(t.cfg.CAFiles) > 0 }

// Client returns the certificate that the client of a connection has shown, which may be nil. ok is false where it has
// shown none. Errors: *CertificateError.
func (t *DeviceTrust) Client(state *tls.ConnectionState) (c ClientCertificate, ok bool, err error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return ClientCertificate{}, false, nil
	}
	c, err = t.verify(state.PeerCertificates, time.Now())
	return c, true, err
}

// Still tells whether a certificate that Client returned would be taken now. Whether the registry knows it is not asked.
func (t *DeviceTrust) Still(c ClientCertificate) error {
	_, err := t.verify(c.chain, time.Now())
	return err
}

// verify checks everything on each connection, resumed ones too: a session ticket says only what was shown once.
func (t *DeviceTrust) verify(shown []*x509.Certificate, now time.Time) (ClientCertificate, error) {
	leaf := shown[0]
	c := ClientCertificate{NotAfter: leaf.NotAfter, Fingerprint: sha256.Sum256(leaf.Raw), chain: shown}
	var unnamed error
	c.Device, unnamed = deviceOf(leaf) // also of one that is refused, to tell whom it is about
	trust := t.current.Load()
	// The chain is judged within the leaf's own time, which is looked at below: so an expired one is told so only if it is ours.
	chains, err := trust.chains(shown, clampTime(now, leaf.NotBefore, leaf.NotAfter))
	if err != nil {
		return c, err
	}
	switch {
	case now.Before(leaf.NotBefore):
		return c, refuseCertificate(CertificateNotYetValid, "the certificate is valid from %s; by the hub's clock it is %s", rfc3339(leaf.NotBefore), rfc3339(now))
	case now.After(leaf.NotAfter.Add(t.cfg.Grace)):
		return c, refuseCertificate(CertificateExpired, "the certificate has expired at %s, by the hub's clock %s ago, and its time for renewal is over", rfc3339(leaf.NotAfter), now.Sub(leaf.NotAfter).Round(time.Second))
	}
	if err := trust.check(chains, now); err != nil {
		return c, err
	}
	if unnamed != nil {
		return c, refuseCertificate(CertificateIdentity, "the certificate %v", unnamed)
	}
	c.Issued = slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool { return chain[len(chain)-1].Equal(t.own.authority.cert) })
	return c, nil
}

func clampTime(t, from, to time.Time) time.Time {
	if t.Before(from) {
		return from
	}
	if t.After(to) {
		return to
	}
	return t
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// maxShown bounds the bytes of the certificates that a client shows: they are held for the connection's life. A chain of
// three with RSA keys takes 5 KB.
const maxShown = 16 << 10

// boundShown is called with what a client shows before anything is made of it.
func boundShown(shown [][]byte, _ [][]*x509.Certificate) error {
	size := 0
	for _, der := range shown {
		size += len(der)
	}
	if size > maxShown {
		return errors.New("the client's certificates are larger than the hub takes")
	}
	return nil
}

// Ask makes c ask clients for certificates as long as wanted says so, naming the authorities that count: so a browser asks
// its user for none, unless one of these authorities has given one to him. Who has none goes on without. Which
// certificate is good is not decided in the handshake, whose alerts explain nothing, but by Client.
func (t *DeviceTrust) Ask(c *tls.Config, wanted func() bool) {
	type asking struct {
		of     *anchors
		config *tls.Config
	}
	var current atomic.Pointer[asking]
	plain := c.Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if !wanted() {
			return nil, nil //nolint:nilnil // crypto/tls: go on with the listener's own
		}
		trust := t.current.Load()
		if a := current.Load(); a != nil && a.of == trust {
			return a.config, nil
		}
		config := plain.Clone()
		config.ClientAuth, config.ClientCAs, config.VerifyPeerCertificate = tls.RequestClientCert, trust.asked, boundShown
		current.Store(&asking{trust, config})
		return config, nil
	}
}
