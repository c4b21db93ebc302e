package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// certify has hubctl give a device a certificate for a new key.
func (h *certified) certify(device string) (cert *tls.Certificate, id string) {
	h.t.Helper()
	prefix := filepath.Join(h.t.TempDir(), "device")
	out, errs, status := h.ctl("devices", "cert", device, "--new-key", prefix, "--json")
	var made struct{ ID, KeyFile string }
	if err := json.Unmarshal([]byte(out), &made); err != nil || status != 0 {
		h.t.Fatalf("hubctl devices cert: %d %s %s", status, out, errs)
	}
	if info, err := os.Stat(prefix + ".key"); err != nil || info.Mode().Perm() != 0o600 {
		h.t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	pair, err := tls.LoadX509KeyPair(prefix+".pem", prefix+".key")
	if err != nil {
		h.t.Fatal(err)
	}
	key, err := os.ReadFile(prefix + ".key")
	if err != nil {
		h.t.Fatal(err)
	}
	if block, _ := pem.Decode(key); block == nil || strings.Contains(h.stderr.String(), string(key[40:80])) {
		h.t.Error("the key is in the hub's log")
	}
	return &pair, made.ID
}

// closeCode reads until the hub closes and returns the code.
func closeCode(t *testing.T, ws *websocket.Conn) int {
	t.Helper()
	if err := ws.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			closed, _ := errors.AsType[*websocket.CloseError](err)
			if closed == nil {
				t.Fatalf("no close frame: %v", err)
			}
			return closed.Code
		}
	}
}

// disconnectCode reads until MQTT's DISCONNECT and returns its reason code.
func disconnectCode(t *testing.T, conn *tls.Conn) byte {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if len(all) < 3 || all[0] != 0xe0 {
		t.Fatalf("no DISCONNECT: % x, %v", all, err)
	}
	return all[2]
}

// connectMQTTOverWSS opens a WebSocket with a certificate and is accepted by a CONNECT of MQTT 5 that names nobody.
func (h *certified) connectMQTTOverWSS(cert *tls.Certificate) *websocket.Conn {
	h.t.Helper()
	d := websocket.Dialer{TLSClientConfig: h.with(cert), Subprotocols: []string{"mqtt"}}
	ws, _, err := d.DialContext(h.t.Context(), strings.Replace(h.url, "https", "wss", 1)+"/mqtt", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { ws.Close() })
	if err := ws.WriteMessage(websocket.BinaryMessage, []byte("\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c")); err != nil {
		h.t.Fatal(err)
	}
	if _, ack, err := ws.ReadMessage(); err != nil || len(ack) < 4 || ack[0] != 0x20 || ack[3] != 0 {
		h.t.Fatalf("CONNACK % x, %v", ack, err)
	}
	return ws
}

// disconnectCodeOf reads until MQTT's DISCONNECT on a WebSocket and returns its reason code.
func disconnectCodeOf(t *testing.T, ws *websocket.Conn) byte {
	t.Helper()
	if err := ws.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for {
		_, packet, err := ws.ReadMessage()
		if err != nil {
			t.Fatalf("no DISCONNECT: %v", err)
		}
		if len(packet) >= 3 && packet[0] == 0xe0 {
			return packet[2]
		}
	}
}

// TestRevokedCertificatesEndLiveConnections: each way to revoke ends what rests on the certificate within a second, on each
// transport, and nothing else; a session ticket does not bring it back.
func TestRevokedCertificatesEndLiveConnections(t *testing.T) {
	t.Parallel()
	h := startCertified(t)
	for _, id := range []string{"w", "m", "mw", "stays"} {
		h.newDevice(id)
	}
	bystander, _, reason := h.connect(h.issue("stays", nil), "/connect", "")
	if bystander == nil {
		t.Fatal(reason)
	}
	ended := func(what string, revoke func(), w, m, mw *tls.Certificate) {
		t.Helper()
		client := h.with(w)
		client.ClientSessionCache = tls.NewLRUClientSessionCache(2)
		ws, _, err := (&websocket.Dialer{TLSClientConfig: client}).DialContext(t.Context(), strings.Replace(h.url, "https", "wss", 1)+"/connect", nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer ws.Close()
		conn, code, said := h.connectMQTT(m, "m", "")
		if code != 0 {
			t.Fatalf("%s: MQTT %#x %s", what, code, said)
		}
		over := h.connectMQTTOverWSS(mw)
		revoke()
		since := time.Now()
		if code := closeCode(t, ws); code != 4003 {
			t.Errorf("%s: closed with %d", what, code)
		}
		if code := disconnectCode(t, conn); code != 0x87 && code != 0x98 {
			t.Errorf("%s: MQTT disconnected with %#x", what, code)
		}
		if code := disconnectCodeOf(t, over); code != 0x87 && code != 0x98 {
			t.Errorf("%s: MQTT over wss disconnected with %#x", what, code)
		}
		t.Logf("%s: out after %v", what, time.Since(since).Round(time.Millisecond))
		// The client resumes its TLS session: that proves nothing.
		_, answer, err := (&websocket.Dialer{TLSClientConfig: client}).DialContext(t.Context(), strings.Replace(h.url, "https", "wss", 1)+"/connect", nil)
		if err == nil || answer == nil || answer.StatusCode/100 != 4 {
			t.Fatalf("%s: it is let in again: %v", what, err)
		}
		answer.Body.Close()
	}

	enable := func(enabled bool) {
		t.Helper()
		for _, device := range []string{"w", "m", "mw"} {
			if status := h.call(http.MethodPatch, "/api/v1/devices/"+device, map[string]bool{"enabled": enabled}, nil); status != 200 {
				t.Fatal(status)
			}
		}
	}
	w, _ := h.certify("w")
	m, _ := h.certify("m")
	mw, _ := h.certify("mw")
	ended("disabled", func() { enable(false) }, w, m, mw)
	enable(true)

	fw, fm, fmw := h.issue("w", nil), h.issue("m", nil), h.issue("mw", nil)
	ended("a list of the operator's authority", func() { h.replace(h.crl, h.fleetCA.crl(fw, fm, fmw)) }, fw, fm, fmw)
	// What was issued to the same devices by the hub is none of that list's business.
	if ws, _, reason := h.connect(w, "/connect", ""); ws == nil {
		t.Error(reason)
	}
	// Superseded: a device's connection keeps its own beside the newest, an older one is void at once.
	newer, _ := h.certify("w")
	newest, _ := h.certify("w")
	for name, test := range map[string]struct {
		cert *tls.Certificate
		want string
	}{"of the connection": {w, ""}, "between": {newer, "certificate_revoked"}, "newest": {newest, ""}} {
		if _, _, reason := h.connect(test.cert, "/connect", ""); reason != test.want {
			t.Errorf("%s: %q, want %q", name, reason, test.want)
		}
	}

	if err := bystander.WriteMessage(websocket.TextMessage, []byte(`{"id":1,"method":"hello"}`)); err != nil {
		t.Fatal(err)
	}
	if _, answer, err := bystander.ReadMessage(); err != nil || !strings.Contains(string(answer), `"stays"`) {
		t.Errorf("the connection of another certificate did not stay: %s, %v", answer, err)
	}
	fw, fm, fmw = h.issue("w", nil), h.issue("m", nil), h.issue("mw", nil)
	ended("another authority in its place", func() { h.replace(h.caFile, newFleetCA(t).pem()) }, fw, fm, fmw)
	if code := closeCode(t, bystander); code != 4003 {
		t.Errorf("a connection of an authority that is gone: %d", code)
	}
}

// TestTLSSessionsOutliveTheHub: a device that comes back after a restart of the hub, be it by kill -9, resumes its
// session, with its certificate or without one.
func TestTLSSessionsOutliveTheHub(t *testing.T) {
	t.Parallel()
	h := startCertified(t)
	h.newDevice("node-1")
	cert := h.issue("node-1", nil)
	again := map[string]func() bool{}
	for name, cert := range map[string]*tls.Certificate{"with a certificate": cert, "without": nil} {
		for address, request := range map[string]string{
			strings.TrimPrefix(h.url, "https://"):  "GET / HTTP/1.0\r\n\r\n",
			strings.TrimPrefix(h.mqtt, "mqtts://"): "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00", // a CONNECT by nobody
		} {
			client := h.with(cert)
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			resumed := func() bool {
				conn, err := tls.Dial("tcp", address, client)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				if _, err = io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
				if _, err = conn.Read(make([]byte, 1)); err != nil { // in TLS 1.3 the ticket comes before the answer
					t.Fatal(err)
				}
				return conn.ConnectionState().DidResume
			}
			if resumed() || !resumed() {
				t.Errorf("%s, %s: the second connection, and it alone, is to be resumed", name, address)
			}
			again[name+", "+address] = resumed
		}
	}
	h.kill()
	h.again()
	for name, resumed := range again {
		if !resumed() {
			t.Errorf("%s: not resumed after a restart of the hub", name)
		}
	}
}

// answered is what the hub answers to a request on a WebSocket.
type answered struct {
	Result struct{ Certificate, Device string }
	Error  struct{ Data struct{ Reason string } }
}

// ask sends a request on a WebSocket and returns its answer, past whatever else comes.
func ask(t *testing.T, ws *websocket.Conn, request string) (answer answered) {
	t.Helper()
	if err := errors.Join(ws.WriteMessage(websocket.TextMessage, []byte(request)), ws.SetReadDeadline(time.Now().Add(time.Minute))); err != nil {
		t.Fatal(err)
	}
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		var with struct{ ID *int }
		if err := json.Unmarshal(frame, &with); err == nil && with.ID != nil {
			if err := json.Unmarshal(frame, &answer); err != nil {
				t.Fatal(err)
			}
			return answer
		}
	}
}

// TestADeviceRenewsItsCertificate: within the grace after its end it serves for that and nothing else, and the device asks
// by itself for the next one, which is the hub's own.
func TestADeviceRenewsItsCertificate(t *testing.T) {
	t.Parallel()
	h := startCertified(t)
	h.newDevice("node-1")
	expired := h.issue("node-1", func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	})
	if status, reason := h.post(expired, "node-1", ""); status != 401 || reason != "credentials_expired" {
		t.Errorf("POST: %d %s", status, reason)
	}
	ws, _, reason := h.connect(expired, "/connect", "")
	if ws == nil {
		t.Fatalf("not let in for renewal: %s", reason)
	}
	if a := ask(t, ws, `{"id":1,"method":"telemetry","params":{"values":{"temp":1}}}`); a.Error.Data.Reason != "credentials_expired" {
		t.Errorf("telemetry: %+v", a)
	}
	if a := ask(t, ws, `{"id":2,"method":"credentials","params":{"csr":"x"}}`); a.Error.Data.Reason != "bad_csr" {
		t.Errorf("a request that is none: %+v", a)
	}
	key := newKey(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	if err != nil {
		t.Fatal(err)
	}
	request := `{"id":3,"method":"credentials","params":{"csr":` + string(csr) + `}}`
	a := ask(t, ws, request)
	block, _ := pem.Decode([]byte(a.Result.Certificate))
	if block == nil {
		t.Fatalf("no certificate: %+v", a)
	}
	if a := ask(t, ws, request); a.Error.Data.Reason != "renewed_just_now" {
		t.Errorf("at once again: %+v", a)
	}
	renewed := &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
	fresh, _, reason := h.connect(renewed, "/connect", "")
	if fresh == nil {
		t.Fatalf("with the new one: %s", reason)
	}
	if a := ask(t, fresh, `{"id":1,"method":"hello"}`); a.Result.Device != "node-1" {
		t.Errorf("hello: %+v", a)
	}
	out, _, _ := h.ctl("devices", "credentials", "node-1", "--json")
	var list []struct {
		ID, Kind string
		InUse    bool `json:"in_use"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 2 || list[1].Kind != "certificate" || !list[1].InUse {
		t.Fatalf("credentials: %s %v", out, err)
	}
	if _, errs, status := h.ctl("devices", "revoke", "node-1", list[1].ID); status != 0 {
		t.Fatal(errs)
	}
	if code := closeCode(t, fresh); code != 4003 {
		t.Errorf("revoked: closed with %d", code)
	}
	if ws, _, reason := h.connect(renewed, "/connect", ""); ws != nil || reason != "certificate_revoked" {
		t.Errorf("after it was revoked: %s", reason)
	}
}
