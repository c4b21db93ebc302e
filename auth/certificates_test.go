package auth_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/auth"
)

const day = 24 * time.Hour

func openCertificates(t *testing.T, dir string, cfg auth.TLSConfig) *auth.Certificates {
	t.Helper()
	certificates, err := auth.OpenCertificates(dir, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return certificates
}

func leafOf(t *testing.T, certificates *auth.Certificates) *x509.Certificate {
	t.Helper()
	pair, err := certificates.ServerTLS().GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

// serveTLS accepts connections, sends each one byte and waits for its end.
func serveTLS(t *testing.T, cfg *tls.Config) (port string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = listener.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte{'!'})
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	_, port, err = net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// dial shakes hands as a device does that was given only the authority's certificate.
func dial(t *testing.T, host, port string, cfg *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	dialer := tls.Dialer{Config: cfg}
	conn, err := dialer.DialContext(t.Context(), "tcp4", net.JoinHostPort(host, port))
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	// In TLS 1.3 the ticket comes with the first data.
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return tls.ConnectionState{}, err
	}
	return conn.(*tls.Conn).ConnectionState(), nil
}

func pool(t *testing.T, pemData []byte) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pemData) {
		t.Fatal("ca.pem holds no certificate")
	}
	return roots
}

func TestHandshakeTrustingOnlyTheAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	certificates := openCertificates(t, dir, auth.TLSConfig{})
	fromFile, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil || !bytes.Equal(fromFile, certificates.CAPEM()) {
		t.Fatalf("ca.pem is not what CAPEM gives: %v", err)
	}
	port := serveTLS(t, certificates.ServerTLS())
	for _, host := range []string{"127.0.0.1", "localhost"} {
		state, err := dial(t, host, port, &tls.Config{RootCAs: pool(t, fromFile)})
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		key, ok := state.PeerCertificates[0].PublicKey.(*ecdsa.PublicKey)
		if !ok || key.Curve != elliptic.P256() {
			t.Errorf("%s: the key is not P-256: %T", host, state.PeerCertificates[0].PublicKey)
		}
	}
	other := openCertificates(t, filepath.Join(t.TempDir(), "tls"), auth.TLSConfig{})
	if _, err := dial(t, "127.0.0.1", port, &tls.Config{RootCAs: pool(t, other.CAPEM())}); err == nil {
		t.Error("a device that trusts another hub shakes hands")
	}
	_, err = dial(t, "127.0.0.1", port, &tls.Config{RootCAs: pool(t, fromFile), MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	if err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
}

func TestSecondHandshakeIsResumed(t *testing.T) {
	certificates := openCertificates(t, t.TempDir(), auth.TLSConfig{})
	port := serveTLS(t, certificates.ServerTLS())
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &tls.Config{
			RootCAs: pool(t, certificates.CAPEM()), MaxVersion: version,
			ClientSessionCache: tls.NewLRUClientSessionCache(1),
		}
		for i, want := range []bool{false, true} {
			state, err := dial(t, "127.0.0.1", port, client)
			if err != nil {
				t.Fatal(err)
			}
			if state.DidResume != want {
				t.Errorf("%s, connection %d: resumed = %v", tls.VersionName(version), i+1, state.DidResume)
			}
		}
	}
}

func TestNamesAndUsesOfTheCertificates(t *testing.T) {
	certificates := openCertificates(t, t.TempDir(), auth.TLSConfig{Names: []string{"Hub.Example.org", "*.hub.example.org", "192.0.2.7", "2001:db8::7"}})
	leaf := leafOf(t, certificates)
	names := []string{"localhost", "127.0.0.1", "::1", "hub.example.org", "a.hub.example.org", "192.0.2.7", "2001:db8::7"}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && !network.IP.IsLinkLocalUnicast() {
			names = append(names, network.IP.String())
		}
	}
	for _, name := range names {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		t.Errorf("server: CA %v, usage %b, extended %v", leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage)
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life != 397*day {
		t.Errorf("server lives %v", life)
	}
	block, _ := pem.Decode(certificates.CAPEM())
	authority, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !authority.IsCA || !authority.BasicConstraintsValid || !authority.MaxPathLenZero || authority.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("authority: CA %v, path %v, usage %b", authority.IsCA, authority.MaxPathLenZero, authority.KeyUsage)
	}
	if life := authority.NotAfter.Sub(authority.NotBefore); life < 10*365*day {
		t.Errorf("authority lives %v", life)
	}
}

func TestFilesStayOverARestart(t *testing.T) {
	dir := t.TempDir()
	first := openCertificates(t, dir, auth.TLSConfig{})
	second := openCertificates(t, dir, auth.TLSConfig{})
	if !bytes.Equal(first.CAPEM(), second.CAPEM()) {
		t.Error("the authority changed")
	}
	if !leafOf(t, first).Equal(leafOf(t, second)) {
		t.Error("the server's certificate changed for no reason")
	}
	for _, name := range []string{"ca.key", "server.key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	third := openCertificates(t, dir, auth.TLSConfig{Names: []string{"hub.example.org"}})
	if err := leafOf(t, third).VerifyHostname("hub.example.org"); err != nil {
		t.Errorf("after a change of names: %v", err)
	}
	if err := leafOf(t, openCertificates(t, dir, auth.TLSConfig{})).VerifyHostname("hub.example.org"); err == nil {
		t.Error("a name taken out of the configuration is still certified")
	}
	if !bytes.Equal(first.CAPEM(), third.CAPEM()) {
		t.Error("the authority changed with the names")
	}
}

// TestCrashBetweenFiles opens a folder in each state that a crash of the first start can leave.
func TestCrashBetweenFiles(t *testing.T) {
	for name, remove := range map[string][]string{
		"before ca.pem":     {"ca.pem", "server.key", "server.pem"},
		"before server.key": {"server.key", "server.pem"},
		"before server.pem": {"server.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			before := openCertificates(t, dir, auth.TLSConfig{})
			for _, file := range remove {
				if err := os.Remove(filepath.Join(dir, file)); err != nil {
					t.Fatal(err)
				}
			}
			after := openCertificates(t, dir, auth.TLSConfig{})
			// Also a device that was given the lost ca.pem goes on trusting.
			for _, authority := range [][]byte{before.CAPEM(), after.CAPEM()} {
				if _, err := leafOf(t, after).Verify(x509.VerifyOptions{Roots: pool(t, authority), DNSName: "localhost"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestDamagedAuthorityIsNotReplaced(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(dir string) error
		want   string
	}{
		"key missing": {func(dir string) error { return os.Remove(filepath.Join(dir, "ca.key")) }, "ca.key is missing: restore it"},
		"cert broken": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("x"), 0o600) }, "ca.pem: holds no PEM block"},
		"key of another": {func(dir string) error {
			other := filepath.Join(dir, "other")
			if _, err := auth.OpenCertificates(other, auth.TLSConfig{}, slog.New(slog.DiscardHandler)); err != nil {
				return err
			}
			return os.Rename(filepath.Join(other, "ca.key"), filepath.Join(dir, "ca.key"))
		}, "does not belong to ca.key"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			openCertificates(t, dir, auth.TLSConfig{})
			if err := test.damage(dir); err != nil {
				t.Fatal(err)
			}
			_, err := auth.OpenCertificates(dir, auth.TLSConfig{}, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q", err, test.want)
			}
		})
	}
}

// TestRenewal runs through a year and a half of virtual time.
func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		certificates := openCertificates(t, dir, auth.TLSConfig{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); certificates.Run(ctx) }()
		first := leafOf(t, certificates)
		start := time.Now()
		due := first.NotBefore.Add(397 * day * 2 / 3)
		time.Sleep(due.Sub(start) - time.Hour)
		synctest.Wait()
		if !leafOf(t, certificates).Equal(first) {
			t.Error("renewed before two thirds of its life")
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		renewed := leafOf(t, certificates)
		if renewed.Equal(first) {
			t.Error("not renewed after two thirds of its life")
		}
		if _, err := renewed.Verify(x509.VerifyOptions{Roots: pool(t, certificates.CAPEM()), DNSName: "localhost"}); err != nil {
			t.Error(err)
		}
		time.Sleep(500 * day)
		synctest.Wait()
		if _, err := leafOf(t, certificates).Verify(x509.VerifyOptions{Roots: pool(t, certificates.CAPEM())}); err != nil {
			t.Error(err)
		}
		if again := leafOf(t, openCertificates(t, dir, auth.TLSConfig{})); !again.Equal(leafOf(t, certificates)) {
			t.Error("the renewed certificate is not the one on disk")
		}
		cancel()
		<-ended
	})
}

func TestExpiredAuthorityIsAnError(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		openCertificates(t, dir, auth.TLSConfig{})
		time.Sleep(21 * 365 * day)
		_, err := auth.OpenCertificates(dir, auth.TLSConfig{}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "ca.pem: has expired on 20") {
			t.Errorf("error = %v", err)
		}
	})
}

// writeOwn makes a certificate as an operator would bring it.
func writeOwn(t *testing.T, dir, name string, notAfter time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: notAfter.Add(-30 * day), NotAfter: notAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", keyDER)
	return certFile, keyFile
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOwnCertificate(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := writeOwn(t, dir, "own", time.Now().Add(10*day))
	folder := filepath.Join(dir, "tls")
	certificates := openCertificates(t, folder, auth.TLSConfig{CertFile: certFile, KeyFile: keyFile})
	if certificates.CAPEM() != nil {
		t.Error("an authority is offered that did not sign the certificate")
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a local authority was made without need: %v", err)
	}
	own, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, "localhost", serveTLS(t, certificates.ServerTLS()), &tls.Config{RootCAs: pool(t, own)}); err != nil {
		t.Error(err)
	}
}

func TestOwnCertificateFaults(t *testing.T) {
	dir := t.TempDir()
	good, goodKey := writeOwn(t, dir, "good", time.Now().Add(10*day))
	_, otherKey := writeOwn(t, dir, "other", time.Now().Add(10*day))
	old, oldKey := writeOwn(t, dir, "old", time.Now().Add(-time.Hour))
	locked := filepath.Join(dir, "locked.key")
	writePEM(t, locked, "ENCRYPTED PRIVATE KEY", []byte{1})
	missing := filepath.Join(dir, "missing.pem")
	for name, test := range map[string]struct {
		cfg  auth.TLSConfig
		want string
	}{
		"no certificate":  {auth.TLSConfig{CertFile: missing, KeyFile: goodKey}, "tls certificate: open " + missing + ": no such file"},
		"no key":          {auth.TLSConfig{CertFile: good, KeyFile: missing}, "tls key: open " + missing + ": no such file"},
		"other key":       {auth.TLSConfig{CertFile: good, KeyFile: otherKey}, "private key does not match public key"},
		"swapped":         {auth.TLSConfig{CertFile: goodKey, KeyFile: good}, "private key"},
		"expired":         {auth.TLSConfig{CertFile: old, KeyFile: oldKey}, old + ": has expired on"},
		"passphrase":      {auth.TLSConfig{CertFile: good, KeyFile: locked}, "protected by a passphrase"},
		"only one":        {auth.TLSConfig{CertFile: good}, "belong together"},
		"impossible name": {auth.TLSConfig{Names: []string{"ok.example", "a b"}}, `"a b" is neither a DNS name nor an IP address`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := auth.OpenCertificates(filepath.Join(dir, "tls"), test.cfg, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q", err, test.want)
			}
		})
	}
}

// TestOwnCertificateIsReadAgain replaces the files under a running hub, first by useless ones.
func TestOwnCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		if err := os.Mkdir(filepath.Join(dir, "new"), 0o700); err != nil {
			t.Fatal(err)
		}
		certFile, keyFile := writeOwn(t, dir, "own", time.Now().Add(10*day))
		certificates := openCertificates(t, dir, auth.TLSConfig{CertFile: certFile, KeyFile: keyFile})
		first := leafOf(t, certificates)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); certificates.Run(ctx) }()

		if err := os.WriteFile(certFile, []byte("half a file"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !leafOf(t, certificates).Equal(first) {
			t.Error("a broken file took the certificate away")
		}
		if certificates.Fault() == nil || certificates.Status().Failures != 1 {
			t.Errorf("a broken file: %v, %+v", certificates.Fault(), certificates.Status())
		}
		// The pair is replaced file by file, and looked at in between.
		newCert, newKey := writeOwn(t, filepath.Join(dir, "new"), "own", time.Now().Add(20*day))
		if err := os.Rename(newCert, certFile); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if err := certificates.Fault(); !leafOf(t, certificates).Equal(first) || err == nil || !strings.Contains(err.Error(), "private key does not match") {
			t.Errorf("half a pair: fault %v", err)
		}
		if err := os.Rename(newKey, keyFile); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if leafOf(t, certificates).Equal(first) || certificates.Fault() != nil || certificates.Status().Failures != 2 {
			t.Errorf("the new pair is not read: %v, %+v", certificates.Fault(), certificates.Status())
		}
		time.Sleep(20 * day)
		if err := certificates.Fault(); err == nil || !strings.Contains(err.Error(), "has expired") {
			t.Errorf("after its end: fault %v", err)
		}
		cancel()
		<-ended
	})
}
