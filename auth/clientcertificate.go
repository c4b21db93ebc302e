package auth

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Reasons why a certificate is refused, for programs.
const (
	CertificateUntrusted   = "certificate_untrusted"
	CertificateExpired     = "certificate_expired"
	CertificateNotYetValid = "certificate_not_yet_valid"
	CertificateRevoked     = "certificate_revoked"
	CertificateUsage       = "certificate_usage"
	CertificateIdentity    = "certificate_identity"
)

// CertificateError says why a certificate is none of a device.
type CertificateError struct {
	Reason  string // one of the constants above
	Message string // for the author of the device
}

// Error says the message.
func (e *CertificateError) Error() string { return e.Message }

func refuseCertificate(reason, format string, args ...any) *CertificateError {
	return &CertificateError{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// ClientCertificate is a certificate of a device, whose private key the client has.
type ClientCertificate struct {
	Device      string // as the certificate names it; whether there is such a device is the registry's to say
	Fingerprint Hash   // SHA-256 of its DER
	NotAfter    time.Time
	// Issued is set where the hub's own authority has signed it: then it counts only as long as the registry has its fingerprint.
	Issued bool

	// As the client sent them, leaf first. crypto/tls holds the same objects for the connection's life, so that they cost
	// nothing here.
	chain []*x509.Certificate
}

// Expired reports whether the certificate's own time is over, so that it serves for its renewal only.
func (c ClientCertificate) Expired(now time.Time) bool { return now.After(c.NotAfter) }

// deviceScheme begins the URI by which a certificate names its device.
const deviceScheme = "urn:device:"

// errNoDevice is what deviceOf says of a certificate that names no device.
var errNoDevice = errors.New("names no device: neither a URI " + deviceScheme + "ID nor a common name")

// deviceOf returns the id by which a certificate names its device: that of a URI urn:device:ID among the subject's
// alternative names, else the common name.
func deviceOf(cert *x509.Certificate) (string, error) {
	var named string
	for _, uri := range cert.URIs {
		id, ok := cutScheme(uri.String())
		if !ok {
			continue
		}
		if named != "" && named != id {
			return "", fmt.Errorf("names two devices, %q and %q", named, id)
		}
		named = id
	}
	if named == "" {
		named = cert.Subject.CommonName
	}
	if named == "" {
		return "", errNoDevice
	}
	return named, nil
}

// cutScheme returns what follows urn:device: (of a URN both first parts are written in any case, RFC 8141 section 3.1).
func cutScheme(uri string) (string, bool) {
	if len(uri) <= len(deviceScheme) || !strings.EqualFold(uri[:len(deviceScheme)], deviceScheme) {
		return "", false
	}
	return uri[len(deviceScheme):], true
}
