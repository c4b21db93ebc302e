package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

const (
	// authorityLife ends before 2050, up to which certificates use the short form of time that every TLS library reads.
	authorityLife = 20 * 365 * 24 * time.Hour
	// serverLife is within the 398 days that browsers and phones accept.
	serverLife = 397 * 24 * time.Hour
	// backdate lets devices connect whose clock is up to a day behind.
	backdate = 24 * time.Hour

	serverCertFile = "server.pem"
	serverKeyFile  = "server.key"

	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY" // PKCS #8
)

// authorityKind tells the hub's authorities apart: where they are kept, and how they are called.
type authorityKind struct {
	certFile, keyFile string // within the folder
	name              string // in words
	subject           string // beginning of the certificate's name
	given             string // who must be given a new one
}

// localAuthority signs the server's certificate.
func localAuthority() authorityKind {
	return authorityKind{
		certFile: "ca.pem", keyFile: "ca.key", name: "the local authority", subject: "Telemetry Hub local authority",
		given: "which every device then has to be given",
	}
}

// authority is a CA of the hub's own: a thing that others trust, and that therefore never changes by itself.
type authority struct {
	kind authorityKind
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// openAuthority reads the CA of a folder or makes it.
func openAuthority(dir string, kind authorityKind, now time.Time) (*authority, error) {
	certPath, keyPath := filepath.Join(dir, kind.certFile), filepath.Join(dir, kind.keyFile)
	certPEM, certErr := os.ReadFile(certPath)
	keyPEM, keyErr := os.ReadFile(keyPath)
	certMissing, keyMissing := errors.Is(certErr, fs.ErrNotExist), errors.Is(keyErr, fs.ErrNotExist)
	switch {
	case certErr != nil && !certMissing:
		return nil, fmt.Errorf("read %s: %w", kind.name, certErr)
	case keyErr != nil && !keyMissing:
		return nil, fmt.Errorf("read %s: %w", kind.name, keyErr)
	case keyMissing && !certMissing:
		return nil, fmt.Errorf("read %s: %s is missing: restore it, or remove %s too to get a new authority, %s", kind.name, keyPath, certPath, kind.given)
	case keyMissing:
		var err error
		if keyPEM, err = newKeyPEM(); err != nil {
			return nil, fmt.Errorf("make %s: %w", kind.name, err)
		}
		if err := writeFileAtomic(keyPath, keyPEM, 0o600); err != nil {
			return nil, fmt.Errorf("make %s: %w", kind.name, err)
		}
	}
	key, err := parseKeyPEM(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("read %s: %s: %w", kind.name, keyPath, err)
	}
	if certMissing {
		// Also after a crash between the two files, and when ca.pem was lost: the name is made of the key, so devices that
		// trust the earlier certificate of the same key go on trusting.
		if certPEM, err = newAuthorityPEM(key, kind.subject, now); err != nil {
			return nil, fmt.Errorf("make %s: %w", kind.name, err)
		}
		if err := writeFileAtomic(certPath, certPEM, 0o644); err != nil {
			return nil, fmt.Errorf("make %s: %w", kind.name, err)
		}
	}
	a := &authority{kind: kind, key: key, pem: certPEM}
	if a.cert, err = parseCertPEM(certPEM); err != nil {
		return nil, fmt.Errorf("read %s: %s: %w", kind.name, certPath, err)
	}
	if err := a.check(now); err != nil {
		return nil, fmt.Errorf("read %s: %s: %w", kind.name, certPath, err)
	}
	return a, nil
}

// check refuses an authority that could not sign what a device accepts.
func (a *authority) check(now time.Time) error {
	public, ok := a.cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(a.key.Public()):
		return fmt.Errorf("does not belong to %s", a.kind.keyFile)
	case !a.cert.IsCA:
		return errors.New("is not the certificate of an authority")
	case now.After(a.cert.NotAfter):
		return fmt.Errorf("has expired on %s: remove it and %s to get a new authority, %s; or set this machine's clock",
			a.cert.NotAfter.Format(time.DateOnly), a.kind.keyFile, a.kind.given)
	}
	return nil
}

// issue makes a server certificate and its key.
func (a *authority) issue(names serverNames, now time.Time) (certPEM, keyPEM []byte, err error) {
	keyPEM, err = newKeyPEM()
	if err != nil {
		return nil, nil, err
	}
	key, err := parseKeyPEM(keyPEM)
	if err != nil {
		return nil, nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	start := now.Add(-backdate).UTC().Truncate(time.Second)
	end := start.Add(serverLife)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Telemetry Hub"},
		NotBefore:             start,
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              names.dns,
	}
	for _, address := range names.addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(address.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}), keyPEM, nil
}

// usable says why a server certificate must be replaced, or "" if it serves on. A certificate from the future is kept:
// then the clock is wrong, and one made by that clock would be of no use later.
func (a *authority) usable(pair *tls.Certificate, want serverNames, now time.Time) (reason string) {
	leaf := pair.Leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	switch {
	case leaf.CheckSignatureFrom(a.cert) != nil:
		return "signed by another authority"
	case !namesOf(leaf).covers(want):
		return "names changed"
	case now.After(leaf.NotBefore.Add(life * 2 / 3)):
		return "two thirds of its life are over"
	}
	return ""
}

// namesOf reads the names back from a certificate.
func namesOf(cert *x509.Certificate) serverNames {
	names := serverNames{dns: cert.DNSNames}
	for _, ip := range cert.IPAddresses {
		if address, ok := netip.AddrFromSlice(ip); ok {
			names.addresses = append(names.addresses, address.Unmap())
		}
	}
	return names
}

func newAuthorityPEM(key crypto.Signer, subject string, now time.Time) ([]byte, error) {
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(public)
	start := now.Add(-backdate).UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: serial,
		// The end of the name tells hubs apart in a browser's list of authorities.
		Subject:               pkix.Name{CommonName: subject + " " + hex.EncodeToString(sum[:4])},
		NotBefore:             start,
		NotAfter:              start.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it never signs another authority
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}), nil
}

// newKeyPEM makes a P-256 key: a handshake costs the hub a fifth of what RSA-2048 does.
func newKeyPEM() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

func parseKeyPEM(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemKey {
		return nil, fmt.Errorf("holds no PEM block %q", pemKey)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return signer, nil
}

func parseCertPEM(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemCertificate {
		return nil, fmt.Errorf("holds no PEM block %q", pemCertificate)
	}
	return x509.ParseCertificate(block.Bytes)
}

// newSerial makes a serial number of 128 random bits (RFC 5280, 4.1.2.2: positive, at most 20 octets).
func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
}
