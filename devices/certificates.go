package devices

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"telemetryhub/auth"
)

// ErrOtherDevice says that a connection showed credentials of two devices.
var ErrOtherDevice = errors.New("the certificate is one device's, and the token or the name beside it another's")

// ErrNoCertificate says that the device has no certificate of that id, issued by the hub.
var ErrNoCertificate = errors.New("the device has no such certificate")

// Certificates tells whose certificates are those of devices; auth.DeviceTrust is one.
//
// Client returns the one that the client of a connection has shown, which may be nil; ok is false where it has shown
// none. Still says whether one would be taken now. Their errors are of *auth.CertificateError.
type Certificates interface {
	Client(state *tls.ConnectionState) (c auth.ClientCertificate, ok bool, err error)
	Still(c auth.ClientCertificate) error
}

// Authenticator is the part of the Registry that Identify asks.
type Authenticator interface {
	Get(id string) (Device, bool)
	Authenticate(device, token string) (Device, Proof, error)
}

// Certificate is one of a device that the hub has issued. It counts as long as it stands in the device's record.
type Certificate struct {
	ID          string    `json:"id"` // the first digits of the fingerprint
	Fingerprint auth.Hash `json:"fingerprint"`
	Serial      string    `json:"serial"`
	Created     time.Time `json:"created"`
	Expires     time.Time `json:"expires"`
}

func (c Certificate) equal(other Certificate) bool { return c.Fingerprint == other.Fingerprint }

// certificate returns the device's certificate of that fingerprint.
func (d Device) certificate(fingerprint auth.Hash) (Certificate, bool) {
	for _, c := range d.Certificates {
		if c.Fingerprint == fingerprint {
			return c, true
		}
	}
	return Certificate{}, false
}

// shownCertificate is what the Proof of a certificate rests on: it is asked again when something has changed.
type shownCertificate struct {
	auth.ClientCertificate

	of Certificates
}

// current says why the certificate is no longer one of the device. Errors: ErrRevoked, *auth.CertificateError.
func (c *shownCertificate) current(d Device) error {
	if c == nil {
		return ErrRevoked
	}
	if err := c.of.Still(c.ClientCertificate); err != nil {
		return err
	}
	if _, has := d.certificate(c.Fingerprint); c.Issued && !has {
		return ErrRevoked
	}
	return nil
}

// Identify returns the device that a connection comes from, and what proves it: a certificate if it has shown one, else the
// token. A token beside a certificate must be the same device's. certificates may be nil, as may state of a connection
// without TLS. Errors: those of Registry.Authenticate; of certificates *auth.CertificateError, ErrNotFound (with the id
// in the Device), ErrDisabled, ErrRevoked, ErrOtherDevice.
func Identify(r Authenticator, certificates Certificates, state *tls.ConnectionState, shown Credentials) (Device, Proof, error) {
	if certificates == nil {
		return r.Authenticate(shown.Device, shown.Token)
	}
	c, ok, err := certificates.Client(state)
	if !ok {
		return r.Authenticate(shown.Device, shown.Token)
	}
	if err != nil {
		return Device{ID: c.Device}, Proof{}, err
	}
	p := Proof{
		Kind: ProofCertificate, ID: auth.CertificateID(c.Fingerprint), Expires: c.NotAfter, Renewal: c.Expired(time.Now()),
		certificate: &shownCertificate{c, certificates},
	}
	d, ok := r.Get(c.Device)
	if !ok {
		return Device{ID: c.Device}, Proof{}, fmt.Errorf("device %s: %w", c.Device, ErrNotFound)
	}
	if _, has := d.certificate(c.Fingerprint); c.Issued && !has {
		return d, Proof{}, ErrRevoked
	}
	if other := shown.Device; other != "" && other != d.ID {
		return d, Proof{}, ErrOtherDevice
	}
	// A token that is nobody's any more is no other device's.
	if other, _, _ := r.Authenticate(shown.Device, shown.Token); other.ID != "" && other.ID != d.ID {
		return d, Proof{}, ErrOtherDevice
	}
	if !d.Enabled {
		return d, p, ErrDisabled
	}
	if registry, ok := r.(*Registry); ok && d.Unconfirmed() && !p.Renewal {
		return d, p, registry.confirmUse(d.ID, p)
	}
	return d, p, nil
}

// CertificateRefusal says how a request is answered whose certificate lets nobody in, as HTTP does; ok is false where
// err is not about certificates. d is what Identify returned with it.
func CertificateRefusal(d Device, err error) (status int, reason, detail string, ok bool) {
	const quoted = 64 // bytes of a name that anybody could have written
	name := d.ID[:min(len(d.ID), quoted)]
	var refused *auth.CertificateError
	switch {
	case errors.As(err, &refused):
		return http.StatusUnauthorized, refused.Reason, refused.Message, true
	case errors.Is(err, ErrRevoked):
		return http.StatusUnauthorized, auth.CertificateRevoked,
			fmt.Sprintf("the certificate is not, or no longer, among the credentials of device %q; `hubctl devices cert %s` gives a new one", name, name), true
	case errors.Is(err, ErrNotFound):
		return http.StatusForbidden, "unknown_device", fmt.Sprintf("the certificate is good, but there is no device %q; `hubctl devices add %s` makes it", name, name), true
	case errors.Is(err, ErrOtherDevice):
		return http.StatusForbidden, "other_device", ErrOtherDevice.Error(), true
	}
	return 0, "", "", false
}
