package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// fleetCA is an authority of the operator's own.
type fleetCA struct {
	t    *testing.T
	cert *x509.Certificate
	key  crypto.Signer
	crls int64
}

func newFleetCA(t *testing.T) *fleetCA {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Fleet"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-30 * 24 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &fleetCA{t: t, cert: cert, key: key}
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (ca *fleetCA) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// issue makes a certificate of a device and its key; change may spoil it.
func (ca *fleetCA) issue(name string, change func(*x509.Certificate)) *tls.Certificate {
	ca.t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		ca.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(template)
	}
	key := newKey(ca.t)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// crl is the list of what it has revoked.
func (ca *fleetCA) crl(revoked ...*tls.Certificate) []byte {
	ca.t.Helper()
	ca.crls++
	list := &x509.RevocationList{Number: big.NewInt(ca.crls), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.cert, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// certified is a hub that takes the certificates of an operator's authority.
type certified struct {
	*hubProcess
	*fleetCA
	t           *testing.T
	caFile, crl string
}

func startCertified(t *testing.T) *certified {
	t.Helper()
	dir := t.TempDir()
	h := &certified{fleetCA: newFleetCA(t), t: t, caFile: filepath.Join(dir, "fleet.pem"), crl: filepath.Join(dir, "fleet.crl")}
	h.replace(h.caFile, h.pem())
	h.replace(h.crl, h.fleetCA.crl())
	config := filepath.Join(dir, "hub.yaml")
	h.replace(config, fmt.Appendf(nil, "log: {level: debug}\ndevices:\n  certificates:\n    ca_files: [%s]\n    crl_files: [%s]\n", h.caFile, h.crl))
	h.hubProcess = startHub(t, filepath.Join(dir, "data"), "--config", config)
	return h
}

// replace puts a file in place of another, whole.
func (h *certified) replace(path string, data []byte) {
	h.t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", data, 0o600), os.Rename(path+".new", path)); err != nil {
		h.t.Fatal(err)
	}
}

// with is a client that shows a certificate, whatever the hub asks for; nil: none.
func (h *certified) with(cert *tls.Certificate) *tls.Config {
	config := h.tls()
	config.ServerName = "localhost"
	if cert != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	return config
}

// connect opens a WebSocket, or returns what the hub says instead.
func (h *certified) connect(cert *tls.Certificate, path, token string) (ws *websocket.Conn, status int, reason string) {
	h.t.Helper()
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	d := websocket.Dialer{TLSClientConfig: h.with(cert)}
	ws, answer, err := d.DialContext(h.t.Context(), strings.Replace(h.url, "https", "wss", 1)+path, header)
	if answer == nil {
		h.t.Fatalf("no answer: %v", err)
	}
	defer answer.Body.Close()
	if err == nil {
		h.t.Cleanup(func() { ws.Close() })
		return ws, answer.StatusCode, ""
	}
	return nil, answer.StatusCode, problemReason(h.t, answer)
}

func problemReason(t *testing.T, answer *http.Response) string {
	t.Helper()
	var problem struct{ Reason, Detail string }
	if err := json.NewDecoder(answer.Body).Decode(&problem); err != nil || problem.Detail == "" || answer.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d is no explained problem: %+v, %v", answer.StatusCode, problem, err)
	}
	return problem.Reason
}

// post posts a reading as a device.
func (h *certified) post(cert *tls.Certificate, device, token string) (status int, reason string) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.url+"/api/v1/devices/"+device+"/telemetry", strings.NewReader(`{"temp":1}`))
	if err != nil {
		h.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: h.with(cert), DisableKeepAlives: true, ForceAttemptHTTP2: true}}).Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNoContent {
		return answer.StatusCode, ""
	}
	return answer.StatusCode, problemReason(h.t, answer)
}

// connectMQTT sends an MQTT 5 CONNECT and returns the connection with CONNACK's code and reason string.
func (h *certified) connectMQTT(cert *tls.Certificate, username, password string) (conn *tls.Conn, code byte, reason string) {
	h.t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(h.mqtt, "mqtts://"), h.with(cert))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	body := []byte("\x00\x04MQTT\x05")
	flags := byte(2)
	tail := []byte("\x00\x3c\x00\x00\x01c") // keepalive, no properties, client id
	for bit, text := range map[byte]string{0x80: username, 0x40: password} {
		if text != "" {
			flags |= bit
		}
	}
	for _, text := range []string{username, password} {
		if text != "" {
			tail = append(tail, byte(len(text)>>8), byte(len(text)))
			tail = append(tail, text...)
		}
	}
	body = append(append(body, flags), tail...)
	if _, err := conn.Write(append([]byte{0x10, byte(len(body))}, body...)); err != nil {
		h.t.Fatal(err)
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(conn, head); err != nil || head[0] != 0x20 {
		h.t.Fatalf("no CONNACK: % x, %v", head, err)
	}
	length := int(head[1])
	if head[1] >= 0x80 { // two bytes of length: the code comes one later
		length = int(head[1]&0x7f) | int(head[2])<<7
		head = append(head[1:], 0)
		if _, err := io.ReadFull(conn, head[3:]); err != nil {
			h.t.Fatal(err)
		}
	}
	rest := make([]byte, length-2)
	if _, err := io.ReadFull(conn, rest); err != nil {
		h.t.Fatal(err)
	}
	if at := bytes.IndexByte(rest, 0x1f); at >= 0 && head[3] != 0 {
		reason = string(rest[at+3:])
	}
	return conn, head[3], reason
}

// TestCertificatesOnEveryTransport is the matrix of certificates and ways in.
func TestCertificatesOnEveryTransport(t *testing.T) {
	t.Parallel()
	h := startCertified(t)
	for _, id := range []string{"node-1", "node-2", "off", "lost", "localhost"} {
		h.newDevice(id)
	}
	token2 := h.newDevice("node-3")
	if status := h.call(http.MethodPatch, "/api/v1/devices/off", map[string]bool{"enabled": false}, nil); status != 200 {
		t.Fatal(status)
	}
	revoked := h.issue("lost", nil)
	h.replace(h.crl, h.fleetCA.crl(revoked))
	until(t, "the new list", func() bool { status, _ := h.post(revoked, "lost", ""); return status == 401 })
	other := newFleetCA(t) // of the same name
	server := h.issue("localhost", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })

	const badCredentials, notAuthorized = 0x86, 0x87
	for name, test := range map[string]struct {
		cert         *tls.Certificate
		device       string // in the path of the POST
		token        string
		status       int // of HTTP; 0: it is let in
		reason, says string
		code         byte
	}{
		"valid":                         {cert: h.issue("node-1", nil), device: "node-1"},
		"no usage said":                 {cert: h.issue("node-1", func(c *x509.Certificate) { c.ExtKeyUsage = nil }), device: "node-1"},
		"valid, with its own token":     {cert: h.issue("node-3", nil), device: "node-3", token: token2},
		"valid, with a token of nobody": {cert: h.issue("node-3", nil), device: "node-3", token: "dev_old"},
		"with another device's token":   {cert: h.issue("node-1", nil), device: "node-1", token: token2, status: 403, reason: "other_device", says: "another's", code: notAuthorized},
		"unknown authority":             {cert: other.issue("node-1", nil), device: "node-1", status: 401, reason: "certificate_untrusted", says: `issued by "CN=Fleet"`, code: badCredentials},
		"expired": {
			cert: h.issue("node-1", func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-9*24*time.Hour), time.Now().Add(-8*24*time.Hour)
			}), device: "node-1",
			status: 401, reason: "certificate_expired", says: "has expired", code: badCredentials,
		},
		"not yet valid": {
			cert: h.issue("node-1", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), device: "node-1",
			status: 401, reason: "certificate_not_yet_valid", says: "by the hub's clock it is", code: badCredentials,
		},
		"revoked":         {cert: revoked, device: "lost", status: 401, reason: "certificate_revoked", says: "was revoked by its authority", code: badCredentials},
		"a server's":      {cert: server, device: "localhost", status: 401, reason: "certificate_usage", says: "clientAuth", code: badCredentials},
		"unknown device":  {cert: h.issue("nobody", nil), device: "nobody", status: 403, reason: "unknown_device", says: "hubctl devices add nobody", code: notAuthorized},
		"disabled device": {cert: h.issue("off", nil), device: "off", status: 403, reason: "device_disabled", says: "disabled", code: notAuthorized},
		"no name":         {cert: h.issue("", nil), device: "node-1", status: 401, reason: "certificate_identity", says: "names no device", code: badCredentials},
		"none":            {device: "node-1", status: 401, reason: "no_credentials", says: "are not known", code: badCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			ws, status, reason := h.connect(test.cert, "/connect", test.token)
			if test.status == 0 && ws == nil || test.status != 0 && (status != test.status || reason != test.reason) {
				t.Errorf("wss: %d %s; want %d %s", status, reason, test.status, test.reason)
			}
			if status, reason := h.post(test.cert, test.device, test.token); test.status == 0 && status != 204 || test.status != 0 && (status != test.status || reason != test.reason) {
				t.Errorf("POST: %d %s; want %d %s", status, reason, test.status, test.reason)
			}
			username := "" // a device may leave it out
			if test.token != "" {
				username = test.device
			}
			if test.reason == "other_device" {
				username = "node-3"
			}
			if _, code, said := h.connectMQTT(test.cert, username, test.token); code != test.code || test.code != 0 && !strings.Contains(said, test.says) {
				t.Errorf("MQTT: %#x %q; want %#x %q", code, said, test.code, test.says)
			}
		})
	}
	if ws, status, reason := h.connect(h.issue("node-1", nil), "/connect/node-2", ""); ws != nil || status != 403 || reason != "wrong_device" {
		t.Errorf("wss, another's path: %d %s", status, reason)
	}
	if status, reason := h.post(h.issue("node-1", nil), "node-2", ""); status != 403 || reason != "wrong_device" {
		t.Errorf("POST, another's path: %d %s", status, reason)
	}
	if _, code, said := h.connectMQTT(h.issue("node-1", nil), "node-2", ""); code != notAuthorized {
		t.Errorf("MQTT, another's username: %#x %s", code, said)
	}
	if out, _, _ := h.ctl("why", "node-1"); !strings.Contains(out, "certificate_expired") {
		t.Errorf("why does not know of the refusals:\n%s", out)
	}
}
