package devices

import (
	"context"
	"fmt"
	"slices"
	"time"

	"telemetryhub/auth"
)

// maxCertificates is how many certificates of the hub's a device has at a time, so that one can be replaced by the next
// while both are good.
const maxCertificates = 2

// Signer signs certificate signing requests; auth.DeviceAuthority is one. Its error is an *auth.SigningRequestError where the
// request is to blame.
type Signer interface {
	Issue(request []byte, device string) (auth.IssuedCertificate, error)
}

// Issuer gives devices certificates of the hub's own authority, and enters them in the registry.
type Issuer struct {
	signer   Signer
	registry *Registry
	sessions *Sessions
}

// NewIssuer returns an Issuer.
func NewIssuer(signer Signer, registry *Registry, sessions *Sessions) *Issuer {
	return &Issuer{signer, registry, sessions}
}

// Issue signs a device's request (PKCS #10, in PEM or DER). The certificate is among the device's credentials when Issue
// returns. Beside it only one of those before is kept: that of the device's connection, else the newest; the
// others are void at once. Errors: ErrNotFound, ErrDisabled, *auth.SigningRequestError.
func (i *Issuer) Issue(ctx context.Context, device string, request []byte) (auth.IssuedCertificate, error) {
	d, ok := i.registry.Get(device)
	if !ok {
		return auth.IssuedCertificate{}, fmt.Errorf("device %s: %w", device, ErrNotFound)
	}
	if !d.Enabled {
		return auth.IssuedCertificate{}, fmt.Errorf("device %s: %w", device, ErrDisabled)
	}
	made, err := i.signer.Issue(request, device)
	if err != nil {
		return auth.IssuedCertificate{}, err
	}
	var inUse string
	if n := i.sessions.session(device); n != nil {
		inUse = n.Proved().ID
	}
	return made, i.registry.addCertificate(ctx, device, Certificate{
		ID: made.ID(), Fingerprint: made.Fingerprint, Serial: made.Serial,
		Created: time.Now().UTC().Truncate(time.Millisecond), Expires: made.NotAfter,
	}, inUse)
}

// addCertificate enters a certificate and takes out those that it makes superfluous.
func (r *Registry) addCertificate(ctx context.Context, device string, c Certificate, inUse string) error {
	_, err := r.update(ctx, device, func(d *Device) error {
		kept := slices.Clone(d.Certificates) // the record's own are read by others
		kept = slices.DeleteFunc(kept, func(old Certificate) bool {
			return c.Created.After(old.Expires.Add(r.tokens.Grace))
		})
		for len(kept) >= maxCertificates {
			oldest := slices.IndexFunc(kept, func(old Certificate) bool { return old.ID != inUse })
			kept = slices.Delete(kept, oldest, oldest+1)
		}
		d.Certificates = append(kept, c)
		return nil
	})
	return err
}

// RevokeCertificate makes a certificate of a device void; a connection that rests on it ends. Errors: ErrNotFound,
// ErrNoCertificate.
func (r *Registry) RevokeCertificate(ctx context.Context, device, id string) error {
	_, err := r.update(ctx, device, func(d *Device) error {
		at := slices.IndexFunc(d.Certificates, func(c Certificate) bool { return c.ID == id })
		if at < 0 {
			return fmt.Errorf("device %s, certificate %s: %w", device, id, ErrNoCertificate)
		}
		d.Certificates = slices.Delete(slices.Clone(d.Certificates), at, at+1)
		return nil
	})
	return err
}
