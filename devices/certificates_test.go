package devices_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/auth"
	"telemetryhub/devices"
)

// signingRequest makes a request for a new key, as a device would.
func signingRequest(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// showing is the TLS connection of a client with this certificate.
func showing(t *testing.T, certificate []byte) *tls.ConnectionState {
	t.Helper()
	block, _ := pem.Decode(certificate)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
}

const certificateLife, certificateGrace = 30 * 24 * time.Hour, 24 * time.Hour

// openAuthority opens an authority and what trusts it.
func openAuthority(t *testing.T) (*auth.DeviceAuthority, *auth.DeviceTrust) {
	t.Helper()
	authority, err := auth.OpenDeviceAuthority(t.TempDir(), certificateLife)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := auth.OpenDeviceTrust(auth.DeviceTrustConfig{Grace: certificateGrace}, authority, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return authority, trust
}

func TestADeviceHasTwoCertificatesAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		kv := newMemoryKV()
		r := openRegistry(t, kv)
		authority, trust := openAuthority(t)
		issuer := devices.NewIssuer(authority, r, devices.NewSessions(devices.Life{}, slog.New(slog.DiscardHandler)))
		_, token, err := r.Create(ctx, devices.Device{ID: "d1"})
		if err != nil {
			t.Fatal(err)
		}
		if r.HasCertificates() {
			t.Error("there are certificates before the first")
		}
		var certs []*tls.ConnectionState
		var ids []string
		for range 3 {
			made, err := issuer.Issue(ctx, "d1", signingRequest(t))
			if err != nil {
				t.Fatal(err)
			}
			certs, ids = append(certs, showing(t, made.PEM)), append(ids, made.ID())
			time.Sleep(time.Minute)
		}
		want := func(r *devices.Registry, good ...bool) {
			t.Helper()
			for i, want := range good {
				d, p, err := devices.Identify(r, trust, certs[i], devices.Credentials{})
				if want && (err != nil || d.ID != "d1" || p.Kind != devices.ProofCertificate || p.ID != ids[i] || r.Current("d1", p) != nil) {
					t.Errorf("certificate %d: %v, %+v", i, err, p)
				}
				if !want && !errors.Is(err, devices.ErrRevoked) {
					t.Errorf("certificate %d: %v, want that it was revoked", i, err)
				}
			}
		}
		want(r, false, true, true)
		other := openRegistry(t, kv) // of another hub, or after a restart
		want(other, false, true, true)
		if !other.HasCertificates() {
			t.Error("after a restart nobody is asked for certificates")
		}
		// What else changes the record leaves them.
		if _, err := r.Update(ctx, "d1", func(d *devices.Device) error { d.Tags, d.Certificates = []string{"x"}, nil; return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := r.NewToken(ctx, "d1"); err != nil {
			t.Fatal(err)
		}
		want(r, false, true, true)
		if _, _, err := devices.Identify(r, trust, certs[2], devices.Credentials{Token: token}); err != nil {
			t.Errorf("with a token that is nobody's any more: %v", err)
		}
		_, p, err := devices.Identify(r, trust, certs[1], devices.Credentials{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.RevokeCertificate(ctx, "d1", ids[1]); err != nil {
			t.Fatal(err)
		}
		want(r, false, false, true)
		if err := r.Current("d1", p); !errors.Is(err, devices.ErrRevoked) {
			t.Errorf("a connection that rests on it: %v", err)
		}
		if err := r.RevokeCertificate(ctx, "d1", ids[1]); !errors.Is(err, devices.ErrNoCertificate) {
			t.Errorf("revoked twice: %v", err)
		}
		if err := r.Delete(ctx, "d1"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := devices.Identify(r, trust, certs[2], devices.Credentials{}); !errors.Is(err, devices.ErrNotFound) {
			t.Errorf("of a deleted device: %v", err)
		}
		// A device made anew by that id does not take over what its namesake had.
		if _, _, err := r.Create(ctx, devices.Device{ID: "d1"}); err != nil {
			t.Fatal(err)
		}
		want(r, false, false, false)
		synctest.Wait()
		if r.HasCertificates() || other.HasCertificates() {
			t.Error("there are certificates of a deleted device")
		}
		for name, test := range map[string]struct {
			device  string
			request []byte
			is      error
		}{"no such device": {"d9", signingRequest(t), devices.ErrNotFound}, "no request": {"d1", []byte("x"), &auth.SigningRequestError{}}} {
			_, err := issuer.Issue(ctx, test.device, test.request)
			var bad *auth.SigningRequestError
			if !errors.Is(err, test.is) && !errors.As(err, &bad) || r.HasCertificates() {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestACertificateOverItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		r, err := devices.OpenRegistry(ctx, newMemoryKV(), devices.TokenConfig{Grace: certificateGrace})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		authority, trust := openAuthority(t)
		issuer := devices.NewIssuer(authority, r, devices.NewSessions(devices.Life{}, slog.New(slog.DiscardHandler)))
		if _, _, err := r.Create(ctx, devices.Device{ID: "d1"}); err != nil {
			t.Fatal(err)
		}
		made, err := issuer.Issue(ctx, "d1", signingRequest(t))
		if err != nil {
			t.Fatal(err)
		}
		cert := showing(t, made.PEM)
		_, fresh, err := devices.Identify(r, trust, cert, devices.Credentials{})
		if err != nil || fresh.Renewal || !fresh.Expires.Equal(made.NotAfter) {
			t.Errorf("fresh: %v, %+v", err, fresh)
		}
		time.Sleep(certificateLife + time.Second)
		_, late, err := devices.Identify(r, trust, cert, devices.Credentials{})
		if err != nil || !late.Renewal || r.Current("d1", late) != nil {
			t.Errorf("in its grace: %v, %+v, %v", err, late, r.Current("d1", late))
		}
		if err := r.Current("d1", fresh); !errors.Is(err, devices.ErrExpired) {
			t.Errorf("a connection from before the end: %v", err)
		}
		time.Sleep(certificateGrace)
		_, _, err = devices.Identify(r, trust, cert, devices.Credentials{})
		if refused, ok := errors.AsType[*auth.CertificateError](err); !ok || refused.Reason != auth.CertificateExpired {
			t.Errorf("after its grace: %v", err)
		}
		if err := r.Current("d1", late); !errors.Is(err, devices.ErrExpired) {
			t.Errorf("a connection for renewal after the grace: %v", err)
		}
		// The dead one makes room.
		for range 2 {
			if _, err := issuer.Issue(ctx, "d1", signingRequest(t)); err != nil {
				t.Fatal(err)
			}
		}
		if d, _ := r.Get("d1"); len(d.Certificates) != 2 {
			t.Errorf("%d certificates", len(d.Certificates))
		}
	})
}
