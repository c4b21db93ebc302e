package auth_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/auth"
)

// factory is an authority of an operator's own, made and run by openssl.
type factory struct {
	t   *testing.T
	dir string
}

func newFactory(t *testing.T, name string) *factory {
	t.Helper()
	f := &factory{t, t.TempDir()}
	f.write("ca.cnf", `[ca]
default_ca = factory
[factory]
dir = `+f.dir+`
database = $dir/index.txt
crlnumber = $dir/crlnumber
certificate = $dir/ca.pem
private_key = $dir/ca.key
default_md = sha256
default_crl_days = 30
`)
	f.write("index.txt", "")
	f.write("crlnumber", "01\n")
	f.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650", "-subj", "/CN="+name, "-keyout", "ca.key", "-out", "ca.pem")
	return f
}

func (f *factory) run(args ...string) { f.t.Helper(); openssl(f.t, f.dir, args...) }

func (f *factory) path(name string) string { return filepath.Join(f.dir, name) }

func (f *factory) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// issue has the authority in the file by (without its ending) sign name.pem, with these extensions.
func (f *factory) issue(by, name, subject, extensions string, args ...string) *x509.Certificate {
	f.t.Helper()
	f.run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject, "-keyout", name+".key", "-out", name+".csr")
	f.write(name+".ext", extensions)
	f.run(append([]string{
		"x509", "-req", "-in", name + ".csr", "-CA", by + ".pem", "-CAkey", by + ".key", "-CAcreateserial", "-out", name + ".pem", "-extfile", name + ".ext",
	}, args...)...)
	return parse(f.t, read(f.t, f.path(name+".pem")))
}

// revoke puts certificates on the authority's list, in crl.pem.
func (f *factory) revoke(names ...string) {
	f.t.Helper()
	for _, name := range names {
		f.run("ca", "-config", "ca.cnf", "-revoke", name+".pem")
	}
	f.run("ca", "-config", "ca.cnf", "-gencrl", "-out", "crl.new")
	if err := os.Rename(f.path("crl.new"), f.path("crl.pem")); err != nil {
		f.t.Fatal(err)
	}
}

const forClients = "extendedKeyUsage=clientAuth\nkeyUsage=critical,digitalSignature\n"

func openTrust(t *testing.T, cfg auth.DeviceTrustConfig, own *auth.DeviceAuthority) *auth.DeviceTrust {
	t.Helper()
	trust, err := auth.OpenDeviceTrust(cfg, own, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// wantDevice fails unless the certificates are those of that device, or refused with that reason.
func wantDevice(t *testing.T, trust *auth.DeviceTrust, device, reason string, shown ...*x509.Certificate) auth.ClientCertificate {
	t.Helper()
	c, ok, err := trust.Client(&tls.ConnectionState{PeerCertificates: shown})
	var refused *auth.CertificateError
	switch {
	case !ok:
		t.Error("no certificate was seen")
	case reason == "" && (err != nil || c.Device != device):
		t.Errorf("device %q, error %v; want %q", c.Device, err, device)
	case reason != "" && (!errors.As(err, &refused) || refused.Reason != reason):
		t.Errorf("error %v; want %s", err, reason)
	}
	return c
}

func TestTrustOfAnOperatorsAuthority(t *testing.T) {
	f, other := newFactory(t, "Factory"), newFactory(t, "Factory")
	own := openDeviceAuthority(t, t.TempDir())
	f.issue("ca", "line", "/CN=Line 2", "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n")
	line := parse(t, read(t, f.path("line.pem")))
	trust := openTrust(t, auth.DeviceTrustConfig{CAFiles: []string{f.path("ca.pem")}}, own)
	if !trust.HasOperators() || trust.Status().Operators != 1 {
		t.Errorf("status %+v", trust.Status())
	}
	byName := f.issue("ca", "byname", "/O=Acme/CN=node-1", forClients)
	for name, test := range map[string]struct {
		shown          []*x509.Certificate
		device, reason string
	}{
		"common name":        {[]*x509.Certificate{byName}, "node-1", ""},
		"URI before name":    {[]*x509.Certificate{f.issue("ca", "uri", "/CN=node-1", forClients+"subjectAltName=DNS:x.example,URI:https://x.example/,URI:urn:device:node-2")}, "node-2", ""},
		"URI in capitals":    {[]*x509.Certificate{f.issue("ca", "caps", "/CN=x", forClients+"subjectAltName=URI:URN:Device:Node-2")}, "Node-2", ""},
		"two devices":        {[]*x509.Certificate{f.issue("ca", "two", "/CN=a", forClients+"subjectAltName=URI:urn:device:a,URI:urn:device:b")}, "", auth.CertificateIdentity},
		"no name":            {[]*x509.Certificate{f.issue("ca", "none", "/O=Acme", forClients)}, "", auth.CertificateIdentity},
		"no extended usage":  {[]*x509.Certificate{f.issue("ca", "plain", "/CN=node-3", "basicConstraints=CA:FALSE\n")}, "node-3", ""}, // RFC 5280 section 4.2.1.12: any
		"a server's":         {[]*x509.Certificate{f.issue("ca", "server", "/CN=node-1", "extendedKeyUsage=serverAuth\n")}, "", auth.CertificateUsage},
		"through another":    {[]*x509.Certificate{f.issue("line", "far", "/CN=node-4", forClients), line}, "node-4", ""},
		"without the middle": {[]*x509.Certificate{f.issue("line", "far2", "/CN=node-4", forClients)}, "", auth.CertificateUntrusted},
		"namesake authority": {[]*x509.Certificate{other.issue("ca", "x", "/CN=node-1", forClients)}, "", auth.CertificateUntrusted},
		"signed by a device": {[]*x509.Certificate{f.issue("byname", "child", "/CN=node-5", forClients), byName}, "", auth.CertificateUntrusted},
	} {
		t.Run(name, func(t *testing.T) { wantDevice(t, trust, test.device, test.reason, test.shown...) })
	}
	if _, ok, err := trust.Client(&tls.ConnectionState{}); ok || err != nil {
		t.Errorf("without a certificate: %v, %v", ok, err)
	}
	if _, ok, err := trust.Client(nil); ok || err != nil {
		t.Errorf("without TLS: %v, %v", ok, err)
	}
}

// TestTrustOverTime goes through the life of a certificate of the hub's own authority.
func TestTrustOverTime(t *testing.T) {
	dir := t.TempDir()
	request := makeRequest(t, dir, "/CN=x", "-newkey", "ed25519")
	synctest.Test(t, func(t *testing.T) {
		own, err := auth.OpenDeviceAuthority(dir, 30*day)
		if err != nil {
			t.Fatal(err)
		}
		trust := openTrust(t, auth.DeviceTrustConfig{Grace: 7 * day}, own)
		issued, err := own.Issue(request, "node-1")
		if err != nil {
			t.Fatal(err)
		}
		cert := parse(t, issued.PEM)
		c := wantDevice(t, trust, "node-1", "", cert)
		if !c.Issued || c.Fingerprint != issued.Fingerprint || c.Expired(time.Now()) || trust.Still(c) != nil {
			t.Errorf("%+v", c)
		}
		time.Sleep(30*day + time.Second)
		if c := wantDevice(t, trust, "node-1", "", cert); !c.Expired(time.Now()) {
			t.Error("in its grace the certificate is not called expired")
		}
		time.Sleep(7 * day)
		wantDevice(t, trust, "", auth.CertificateExpired, cert)
		if err := trust.Still(c); err == nil {
			t.Error("an open connection is not told that its certificate's time is over")
		}
	})
}

func TestTrustOfACertificateFromTheFuture(t *testing.T) {
	dir := t.TempDir()
	request := makeRequest(t, dir, "/CN=x", "-newkey", "ed25519")
	var later *x509.Certificate
	synctest.Test(t, func(t *testing.T) { // its clock stands in 2000
		own := openDeviceAuthority(t, dir)
		issued := make(chan auth.IssuedCertificate, 1)
		early := openTrust(t, auth.DeviceTrustConfig{}, own)
		time.AfterFunc(2*day, func() {
			i, err := own.Issue(request, "node-1")
			if err != nil {
				t.Error(err)
			}
			issued <- i
		})
		later = parse(t, (<-issued).PEM)
		wantDevice(t, early, "node-1", "", later)
	})
	synctest.Test(t, func(t *testing.T) {
		trust := openTrust(t, auth.DeviceTrustConfig{}, openDeviceAuthority(t, dir))
		wantDevice(t, trust, "", auth.CertificateNotYetValid, later)
	})
}

func TestRevocationLists(t *testing.T) {
	f := newFactory(t, "Factory")
	own := openDeviceAuthority(t, t.TempDir())
	good, bad := f.issue("ca", "good", "/CN=good", forClients), f.issue("ca", "bad", "/CN=bad", forClients)
	line := f.issue("ca", "line", "/CN=Line 2", "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n")
	far := f.issue("line", "far", "/CN=far", forClients)
	f.revoke("bad")
	both := f.path("both.pem")
	f.write("both.pem", string(read(t, f.path("ca.pem")))+string(read(t, f.path("line.pem"))))
	cfg := auth.DeviceTrustConfig{CAFiles: []string{both}, CRLFiles: []string{f.path("crl.pem")}}
	trust := openTrust(t, cfg, own)
	wantDevice(t, trust, "good", "", good)
	wantDevice(t, trust, "far", "", far)
	wantDevice(t, trust, "", auth.CertificateRevoked, bad)
	if s := trust.Status(); s.Revoked != 1 || s.Operators != 2 || time.Until(s.Lists[f.path("crl.pem")]) < 29*day {
		t.Errorf("status %+v", s)
	}

	t.Run("DER", func(t *testing.T) {
		f.run("crl", "-in", "crl.pem", "-outform", "DER", "-out", "crl.der")
		trust := openTrust(t, auth.DeviceTrustConfig{CAFiles: []string{both}, CRLFiles: []string{f.path("crl.der")}}, own)
		wantDevice(t, trust, "", auth.CertificateRevoked, bad)
	})
	t.Run("out of date", func(t *testing.T) { // it counts all the same, and is told of
		f.run("ca", "-config", "ca.cnf", "-gencrl", "-out", "old.pem", "-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200201000000Z")
		trust := openTrust(t, auth.DeviceTrustConfig{CAFiles: []string{both}, CRLFiles: []string{f.path("old.pem")}}, own)
		wantDevice(t, trust, "", auth.CertificateRevoked, bad)
		wantDevice(t, trust, "good", "", good)
		if err := trust.Fault(); err == nil || !strings.Contains(err.Error(), "old.pem should have been replaced by 2020-02-01") {
			t.Errorf("fault %v", err)
		}
	})
	t.Run("authority in the middle", func(t *testing.T) {
		f.revoke("line")
		trust := openTrust(t, cfg, own)
		wantDevice(t, trust, "", auth.CertificateRevoked, far)
		wantDevice(t, trust, "", auth.CertificateRevoked, far, line)
		wantDevice(t, trust, "good", "", good)
	})
}

func TestTrustFilesThatCannotBeUsed(t *testing.T) {
	f, other := newFactory(t, "Factory"), newFactory(t, "Other")
	own := openDeviceAuthority(t, t.TempDir())
	f.issue("ca", "leaf", "/CN=a", forClients+"basicConstraints=CA:FALSE\n")
	f.revoke()
	other.revoke()
	f.write("empty.pem", "")
	f.write("rubbish.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	missing := f.path("missing.pem")
	ca := []string{f.path("ca.pem")}
	for name, test := range map[string]struct {
		cfg  auth.DeviceTrustConfig
		want string
	}{
		"no file":             {auth.DeviceTrustConfig{CAFiles: []string{missing}}, missing + ": no such file"},
		"empty":               {auth.DeviceTrustConfig{CAFiles: []string{f.path("empty.pem")}}, `empty.pem: holds no PEM block "CERTIFICATE"`},
		"rubbish":             {auth.DeviceTrustConfig{CAFiles: []string{f.path("rubbish.pem")}}, "rubbish.pem: certificate 1: "},
		"a key":               {auth.DeviceTrustConfig{CAFiles: []string{f.path("ca.key")}}, `ca.key: holds a PEM block "PRIVATE KEY"`},
		"a device's":          {auth.DeviceTrustConfig{CAFiles: []string{f.path("leaf.pem")}}, "leaf.pem: certificate 1 (CN=a) is not that of an authority"},
		"list of another":     {auth.DeviceTrustConfig{CAFiles: ca, CRLFiles: []string{other.path("crl.pem")}}, "crl.pem: is signed by none of the authorities in ca_files"},
		"no list":             {auth.DeviceTrustConfig{CAFiles: ca, CRLFiles: []string{missing}}, missing + ": no such file"},
		"certificate as list": {auth.DeviceTrustConfig{CAFiles: ca, CRLFiles: ca}, `ca.pem: holds a PEM block "CERTIFICATE", not "X509 CRL"`},
		"rubbish as list":     {auth.DeviceTrustConfig{CAFiles: ca, CRLFiles: []string{f.path("empty.pem")}}, "empty.pem: is no list of revoked certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := auth.OpenDeviceTrust(test.cfg, own, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q", err, test.want)
			}
		})
	}
}

// TestTrustIsReadAgain replaces the files under a running hub, once by a useless one.
func TestTrustIsReadAgain(t *testing.T) {
	f, other := newFactory(t, "Factory"), newFactory(t, "Other")
	own := openDeviceAuthority(t, t.TempDir())
	cert, others := f.issue("ca", "a", "/CN=a", forClients), other.issue("ca", "b", "/CN=b", forClients)
	f.revoke()
	other.revoke()
	first := read(t, f.path("crl.pem"))
	f.revoke("a")
	second := read(t, f.path("crl.pem"))
	f.write("crl.pem", string(first))
	synctest.Test(t, func(t *testing.T) {
		// Both are older than these certificates by the bubble's clock; what counts here is the list.
		trust := openTrust(t, auth.DeviceTrustConfig{CAFiles: []string{f.path("ca.pem")}, CRLFiles: []string{f.path("crl.pem")}}, own)
		changes := 0
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); trust.Run(ctx, func() { changes++ }) }()
		defer func() { cancel(); <-ended }()
		pass := func() { time.Sleep(5 * time.Second); synctest.Wait() }

		pass()
		wantDevice(t, trust, "", auth.CertificateNotYetValid, cert)
		if changes != 0 {
			t.Errorf("%d changes of files that did not change", changes)
		}
		f.write("crl.pem", "half a li")
		pass()
		if trust.Fault() == nil || trust.Status().Failures != 1 || changes != 0 {
			t.Errorf("a broken list: fault %v, %+v, %d changes", trust.Fault(), trust.Status(), changes)
		}
		f.write("crl.pem", string(read(t, other.path("crl.pem"))))
		pass()
		if trust.Fault() == nil || trust.Status().Failures != 2 || changes != 0 {
			t.Errorf("the list of another authority in place of this one's: fault %v, %d changes", trust.Fault(), changes)
		}
		f.write("crl.pem", string(second))
		pass()
		if changes != 1 || trust.Fault() != nil || trust.Status().Revoked != 1 {
			t.Errorf("a new list: %d changes, fault %v, %+v", changes, trust.Fault(), trust.Status())
		}
		f.write("crl.pem", string(first))
		f.write("ca.pem", string(read(t, f.path("ca.pem")))+string(read(t, other.path("ca.pem"))))
		pass()
		wantDevice(t, trust, "", auth.CertificateNotYetValid, others)
		if changes != 2 || trust.Status().Operators != 2 {
			t.Errorf("a new authority: %d changes, %+v", changes, trust.Status())
		}
		// An authority is taken away: its list need not go at the same time.
		f.write("ca.pem", string(read(t, other.path("ca.pem"))))
		pass()
		wantDevice(t, trust, "", auth.CertificateUntrusted, cert)
		if err := trust.Fault(); changes != 3 || err == nil || !strings.Contains(err.Error(), "signed by none of the authorities") {
			t.Errorf("an authority is gone: %d changes, fault %v", changes, err)
		}
	})
}

// TestHandshakeWithCertificates: the handshake lets everybody through, with or without one, so that the answer can explain;
// only somebody without the key is stopped in it.
func TestHandshakeWithCertificates(t *testing.T) {
	f := newFactory(t, "Factory")
	dir := t.TempDir()
	certificates, own := openCertificates(t, dir, auth.TLSConfig{}), openDeviceAuthority(t, dir)
	trust := openTrust(t, auth.DeviceTrustConfig{CAFiles: []string{f.path("ca.pem")}}, own)
	wanted := false
	config := certificates.ServerTLS()
	shown := make(chan *tls.ConnectionState, 1)
	trust.Ask(config, func() bool { return wanted })
	port := serveStates(t, config, shown)
	f.issue("ca", "a", "/CN=node-1", forClients)
	pair, err := tls.LoadX509KeyPair(f.path("a.pem"), f.path("a.key"))
	if err != nil {
		t.Fatal(err)
	}
	var asked [][]byte
	client := &tls.Config{RootCAs: pool(t, certificates.CAPEM()), GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = info.AcceptableCAs
		return &pair, nil
	}}
	for _, want := range []bool{false, true} {
		wanted, asked = want, nil
		if _, err := dial(t, "localhost", port, client); err != nil {
			t.Fatal(err)
		}
		state := <-shown
		if c, ok, err := trust.Client(state); ok != want || err != nil || want && c.Device != "node-1" {
			t.Errorf("asked %v: certificate %v, %v", want, c.Device, err)
		}
		if want && len(asked) != 2 {
			t.Errorf("asked for certificates of %d authorities", len(asked))
		}
	}
	if _, err := dial(t, "localhost", port, &tls.Config{RootCAs: pool(t, certificates.CAPEM())}); err != nil {
		t.Errorf("without a certificate: %v", err)
	}
	<-shown
	// Another's certificate without its key.
	f.issue("ca", "b", "/CN=node-2", forClients)
	block, _ := pem.Decode(read(t, f.path("b.pem")))
	pair.Certificate = [][]byte{block.Bytes}
	if _, err := dial(t, "localhost", port, client); err == nil {
		t.Error("a certificate without its key is let in")
	}
	<-shown
	// More of them than anybody needs.
	for len(pair.Certificate) < 100 {
		pair.Certificate = append(pair.Certificate, block.Bytes)
	}
	if _, err := dial(t, "localhost", port, client); err == nil || !strings.Contains(err.Error(), "bad certificate") {
		t.Errorf("a flood of certificates: %v", err)
	}
	<-shown
}

// serveStates is serveTLS that tells what each client has shown.
func serveStates(t *testing.T, config *tls.Config, shown chan<- *tls.ConnectionState) (port string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
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
			state := conn.(*tls.Conn).ConnectionState()
			shown <- &state
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
