package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"time"
)

// MaxSigningRequest bounds a certificate signing request: one with an RSA key of 4096 bits takes 2 KB.
const MaxSigningRequest = 16 << 10

// DefaultDeviceCertificateLife is how long a certificate lives that the hub issues to a device, unless it is configured.
const DefaultDeviceCertificateLife = 365 * 24 * time.Hour

// deviceAuthority signs the certificates of devices. It is another one than the server's: a device may be called like the
// hub's host, and some small TLS libraries look neither at the extended key usage nor only at DNS names. Devices do
// not trust this one, so that none of its certificates can pass for the hub's.
func deviceAuthority() authorityKind {
	return authorityKind{
		certFile: "device-ca.pem", keyFile: "device-ca.key", name: "the devices' authority", subject: "Telemetry Hub devices",
		given: "with which every device then has to get a new certificate",
	}
}

// SigningRequestError says what is wrong with a certificate signing request.
type SigningRequestError struct{ Message string }

// Error says the message.
func (e *SigningRequestError) Error() string { return "certificate signing request: " + e.Message }

func badRequest(format string, args ...any) error {
	return &SigningRequestError{fmt.Sprintf(format, args...)}
}

// DeviceAuthority issues certificates to devices.
type DeviceAuthority struct {
	authority *authority
	life      time.Duration
}

// OpenDeviceAuthority reads the authority from dir (device-ca.pem, device-ca.key) or makes it there. What it issues lives
// for life.
func OpenDeviceAuthority(dir string, life time.Duration) (*DeviceAuthority, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { // the keys themselves are 0600
		return nil, fmt.Errorf("open the devices' authority: %w", err)
	}
	a, err := openAuthority(dir, deviceAuthority(), time.Now())
	if err != nil {
		return nil, err
	}
	return &DeviceAuthority{authority: a, life: life}, nil
}

// CAPEM returns the authority's certificate. Devices need it nowhere: it is for whoever checks their certificates.
func (a *DeviceAuthority) CAPEM() []byte { return a.authority.pem }

// IssuedCertificate is a certificate that the hub has just signed. It is worth nothing until the registry has it.
type IssuedCertificate struct {
	PEM         []byte
	Fingerprint Hash   // SHA-256 of the certificate's DER
	Serial      string // hexadecimal
	NotAfter    time.Time
	Key         string // its kind: "ECDSA P-256"
}

// ID names the certificate in lists and logs.
func (c IssuedCertificate) ID() string { return CertificateID(c.Fingerprint) }

// CertificateID is the name in lists and logs of the certificate with that fingerprint: its first digits.
func CertificateID(fingerprint Hash) string { return hex.EncodeToString(fingerprint[:6]) }

// Issue signs a request (PKCS #10, in PEM or DER) for a device. Of the request only the key counts: the names are the
// device's, the use is that of a TLS client. Errors: *SigningRequestError.
func (a *DeviceAuthority) Issue(request []byte, device string) (IssuedCertificate, error) {
	csr, kind, err := parseRequest(request)
	if err != nil {
		return IssuedCertificate{}, err
	}
	serial, err := newSerial()
	if err != nil {
		return IssuedCertificate{}, fmt.Errorf("issue a device's certificate: %w", err)
	}
	now := time.Now()
	end := now.Add(a.life).UTC().Truncate(time.Second)
	if end.After(a.authority.cert.NotAfter) {
		end = a.authority.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: device},
		URIs:                  []*url.URL{deviceURI(device)},
		NotBefore:             now.Add(-backdate).UTC().Truncate(time.Second),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.authority.cert, csr.PublicKey, a.authority.key)
	if err != nil {
		return IssuedCertificate{}, fmt.Errorf("issue a device's certificate: %w", err)
	}
	return IssuedCertificate{
		PEM:         pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}),
		Fingerprint: sha256.Sum256(der), Serial: serial.Text(16), NotAfter: end, Key: kind,
	}, nil
}

// parseRequest checks a request: that its sender has the key, and that the key is good enough.
func parseRequest(request []byte) (_ *x509.CertificateRequest, kind string, _ error) {
	if len(request) > MaxSigningRequest {
		return nil, "", badRequest("%d bytes; at most %d", len(request), MaxSigningRequest)
	}
	der := request
	if block, _ := pem.Decode(request); block != nil {
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return nil, "", badRequest("is a PEM block %q, not a CERTIFICATE REQUEST", block.Type)
		}
		der = block.Bytes
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, "", badRequest("is not PKCS #10 in PEM or DER: %v", err)
	}
	kind, err = checkKey(csr.PublicKey)
	if err != nil {
		return nil, "", err
	}
	switch csr.SignatureAlgorithm {
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		return nil, "", badRequest("is signed with SHA-1; use SHA-256")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, "", badRequest("is not signed with the key in it: %v", err)
	}
	return csr, kind, nil
}

// Bounds of RSA keys in bits: below, they are no longer thought safe (NIST SP 800-57); above, each connection
// costs the hub too much.
const (
	minRSA = 2048
	maxRSA = 4096
)

// checkKey says what kind of key it is, or why it is not taken.
func checkKey(public any) (kind string, _ error) {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P224() {
			return "", badRequest("its key is on the curve P-224; use P-256, which is the best choice for most devices")
		}
		return "ECDSA " + key.Curve.Params().Name, nil
	case ed25519.PublicKey:
		return "Ed25519", nil
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSA || bits > maxRSA {
			return "", badRequest("its RSA key has %d bits; %d to %d are taken", bits, minRSA, maxRSA)
		}
		return fmt.Sprintf("RSA %d", key.N.BitLen()), nil
	}
	return "", badRequest("its key is of no kind that is taken: ECDSA P-256, P-384 or P-521, Ed25519, or RSA of %d to %d bits", minRSA, maxRSA)
}

// deviceURI is how a certificate names its device: urn:device:ID.
func deviceURI(device string) *url.URL { return &url.URL{Scheme: "urn", Opaque: "device:" + device} }
