package api_test

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/auth"
	"telemetryhub/devices"
)

// noCertificates stands for connections whose clients show none.
type noCertificates struct{}

func (noCertificates) Client(*tls.ConnectionState) (auth.ClientCertificate, bool, error) {
	return auth.ClientCertificate{}, false, nil
}

func (noCertificates) Still(auth.ClientCertificate) error { return errors.New("no such certificate") }

// fakeIssuer signs any request that begins like one.
type fakeIssuer struct{ *fakeHub }

func (f fakeIssuer) Issue(_ context.Context, device string, request []byte) (auth.IssuedCertificate, error) {
	if _, ok := fakeRegistry(f).Get(device); !ok {
		return auth.IssuedCertificate{}, devices.ErrNotFound
	}
	if !strings.HasPrefix(string(request), "-----BEGIN CERTIFICATE REQUEST") {
		return auth.IssuedCertificate{}, &auth.SigningRequestError{Message: "is not PKCS #10"}
	}
	return auth.IssuedCertificate{
		PEM: []byte("-----BEGIN CERTIFICATE-----\n"), Fingerprint: auth.Hash{0xab, 0xcd}, Serial: "1f", Key: "ECDSA P-256",
		NotAfter: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	}, nil
}

func TestNewCertificate(t *testing.T) {
	b := newBench(t, api.Config{})
	made := b.ask("POST", "/api/v1/devices/d1/certificate", "op_admin", `{"csr":"-----BEGIN CERTIFICATE REQUEST-----"}`).want(201).json()
	if made["device"] != "d1" || made["id"] != "abcd00000000" || made["certificate"] != "-----BEGIN CERTIFICATE-----\n" || made["serial"] != "1f" ||
		made["key"] != "ECDSA P-256" || made["expires"] != "2027-01-01T00:00:00Z" || !strings.HasPrefix(made["fingerprint"].(string), "abcd000") {
		t.Errorf("%v", made)
	}
	for _, test := range []struct {
		path, token, body string
		status            int
		reason            string
	}{
		{"d1", "op_operator", `{"csr":"-----BEGIN CERTIFICATE REQUEST-----"}`, 403, "role"},
		{"d1", "op_admin", `{"csr":"x"}`, 422, "bad_csr"},
		{"d1", "op_admin", `{}`, 422, "invalid"},
		{"d1", "op_admin", `{"csr":"` + strings.Repeat("x", 17<<10) + `"}`, 422, "invalid"},
		{"nobody", "op_admin", `{"csr":"-----BEGIN CERTIFICATE REQUEST-----"}`, 404, "device_not_found"},
	} {
		b.ask("POST", "/api/v1/devices/"+test.path+"/certificate", test.token, test.body).wantProblem(test.status, test.reason)
	}
	if acts := b.recorded(); acts[0] != "ada admin device.certificate d1 accepted" {
		t.Errorf("recorded %v", acts)
	}
}
