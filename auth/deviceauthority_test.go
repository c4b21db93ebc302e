package auth_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/auth"
)

func openDeviceAuthority(t *testing.T, dir string) *auth.DeviceAuthority {
	t.Helper()
	authority, err := auth.OpenDeviceAuthority(dir, auth.DefaultDeviceCertificateLife)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

// openssl runs the command line tool in dir.
func openssl(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// makeRequest has openssl make a key of that kind and a request with these names.
func makeRequest(t *testing.T, dir, subject string, newkey ...string) []byte {
	t.Helper()
	args := []string{"req", "-new", "-nodes", "-subj", subject, "-addext", "subjectAltName=DNS:hub.example.org,URI:urn:device:other", "-keyout", "key.pem", "-out", "csr.pem"}
	openssl(t, dir, append(args, newkey...)...)
	return read(t, dir, "csr.pem")
}

func parse(t *testing.T, pemData []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(pemData)
	if block == nil {
		t.Fatalf("no PEM: %s", pemData)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestIssueTakesOnlyTheKeyOfARequest(t *testing.T) {
	dir := t.TempDir()
	authority := openDeviceAuthority(t, filepath.Join(dir, "tls"))
	for kind, newkey := range map[string][]string{
		"ECDSA P-256": {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"},
		"ECDSA P-384": {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"},
		"Ed25519":     {"-newkey", "ed25519"},
		"RSA 2048":    {"-newkey", "rsa:2048"},
	} {
		// The request asks for the name of another device and of the hub.
		request := makeRequest(t, dir, "/CN=hub.example.org/O=Mallory", newkey...)
		block, _ := pem.Decode(request)
		for form, csr := range map[string][]byte{"PEM": request, "DER": block.Bytes} {
			issued, err := authority.Issue(csr, "node:1.a_b-C")
			if err != nil {
				t.Errorf("%s in %s: %v", kind, form, err)
				continue
			}
			cert := parse(t, issued.PEM)
			if cert.Subject.String() != "CN=node:1.a_b-C" || len(cert.DNSNames) != 0 || len(cert.URIs) != 1 || cert.URIs[0].String() != "urn:device:node:1.a_b-C" {
				t.Errorf("%s: subject %s, DNS %v, URIs %v", kind, cert.Subject, cert.DNSNames, cert.URIs)
			}
			if !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature {
				t.Errorf("%s: usage %v %v, CA %v", kind, cert.KeyUsage, cert.ExtKeyUsage, cert.IsCA)
			}
			if issued.Key != kind || issued.Serial != cert.SerialNumber.Text(16) || !issued.NotAfter.Equal(cert.NotAfter) || cert.SerialNumber.BitLen() < 96 {
				t.Errorf("%s: %+v of %v", kind, issued, cert.SerialNumber)
			}
			if left := time.Until(cert.NotAfter); left < 364*day || left > 365*day {
				t.Errorf("%s lives %v", kind, left)
			}
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	dir := t.TempDir()
	authority := openDeviceAuthority(t, filepath.Join(dir, "tls"))
	good := makeRequest(t, dir, "/CN=node-1", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
	block, _ := pem.Decode(good)
	forged := bytes.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	// Another's key in a request: nobody has signed with it.
	swapped := bytes.Clone(block.Bytes)
	at := bytes.Index(swapped, []byte("node-1"))
	copy(swapped[at:], "node-2")
	openssl(t, dir, "req", "-x509", "-new", "-nodes", "-newkey", "ed25519", "-keyout", "c.key", "-out", "cert.pem", "-subj", "/CN=x")
	for name, test := range map[string]struct {
		request []byte
		want    string
	}{
		"empty":         {nil, "is not PKCS #10"},
		"rubbish":       {[]byte("rubbish"), "is not PKCS #10"},
		"too large":     {make([]byte, auth.MaxSigningRequest+1), "16385 bytes; at most 16384"},
		"a certificate": {read(t, dir, "cert.pem"), `is a PEM block "CERTIFICATE"`},
		"a key":         {read(t, dir, "key.pem"), `is a PEM block "PRIVATE KEY"`},
		"forged":        {forged, "is not signed with the key in it"},
		"other subject": {swapped, "is not signed with the key in it"},
		"RSA 1024":      {makeRequest(t, dir, "/CN=a", "-newkey", "rsa:1024"), "its RSA key has 1024 bits; 2048 to 4096"},
		"P-224":         {makeRequest(t, dir, "/CN=a", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp224r1"), "P-224"},
		"secp256k1":     {makeRequest(t, dir, "/CN=a", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"), "unsupported elliptic curve"},
		"SHA-1":         {makeRequest(t, dir, "/CN=a", "-newkey", "rsa:2048", "-sha1"), "SHA-1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := authority.Issue(test.request, "node-1")
			if refused, ok := errors.AsType[*auth.SigningRequestError](err); !ok || !strings.Contains(refused.Message, test.want) {
				t.Errorf("error = %v, want %q", err, test.want)
			}
		})
	}
}

// TestAuthoritiesAreApart: a certificate of a device proves nothing where the hub's is asked for, and the other way round.
func TestAuthoritiesAreApart(t *testing.T) {
	dir := t.TempDir()
	tlsDir := filepath.Join(dir, "tls")
	certificates, authority := openCertificates(t, tlsDir, auth.TLSConfig{}), openDeviceAuthority(t, tlsDir)
	issued, err := authority.Issue(makeRequest(t, dir, "/CN=localhost", "-newkey", "ed25519"), "localhost")
	if err != nil {
		t.Fatal(err)
	}
	device := parse(t, issued.PEM)
	both := pool(t, certificates.CAPEM())
	both.AppendCertsFromPEM(authority.CAPEM())
	for name, roots := range map[string]*x509.CertPool{"what devices trust": pool(t, certificates.CAPEM()), "both authorities": both} {
		if _, err := device.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
			t.Errorf("with %s a device passes for the hub", name)
		}
	}
	if _, err := leafOf(t, certificates).Verify(x509.VerifyOptions{Roots: both, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("the hub's certificate passes for a device's")
	}
	info, err := os.Stat(filepath.Join(tlsDir, "device-ca.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("device-ca.key: %v, %v", info.Mode(), err)
	}
	if again := openDeviceAuthority(t, tlsDir); !bytes.Equal(again.CAPEM(), authority.CAPEM()) {
		t.Error("the devices' authority changed with a restart")
	}
	if err := os.Remove(filepath.Join(tlsDir, "device-ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.OpenDeviceAuthority(tlsDir, time.Hour); err == nil || !strings.Contains(err.Error(), "device-ca.key is missing: restore it") {
		t.Errorf("without its key: %v", err)
	}
}

// TestIssueNearTheAuthoritysEnd: no certificate outlives its authority.
func TestIssueNearTheAuthoritysEnd(t *testing.T) {
	dir := t.TempDir()
	request := makeRequest(t, dir, "/CN=a", "-newkey", "ed25519")
	synctest.Test(t, func(t *testing.T) {
		openDeviceAuthority(t, dir)
		end := parse(t, read(t, dir, "device-ca.pem")).NotAfter
		time.Sleep(time.Until(end) - 10*day)
		issued, err := openDeviceAuthority(t, dir).Issue(request, "a")
		if err != nil || !issued.NotAfter.Equal(end) {
			t.Errorf("ends at %v, the authority at %v; %v", issued.NotAfter, end, err)
		}
	})
}
