package bridge_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"

	"telemetryhub/bridge"
)

// authority signs certificates of clients and servers on 127.0.0.1.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, cert: cert, key: key, file: filepath.Join(t.TempDir(), "authority.pem")}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue writes a certificate and its key.
func (a *authority) issue(name, certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	writePEM(a.t, certFile, "CERTIFICATE", der)
	writePEM(a.t, keyFile, "PRIVATE KEY", secret)
}

func TestExternalShowsItsCertificateAndReadsItAgain(t *testing.T) {
	ours, foreign, dir := newAuthority(t), newAuthority(t), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	ours.issue("broker.example", in("broker.pem"), in("broker.key"))
	port := freePort(t)
	m := newMosquitto(t, fmt.Sprintf("listener %d 127.0.0.1\ncafile %s\ncertfile %s\nkeyfile %s\nrequire_certificate true\nuse_identity_as_username true\n",
		port, ours.file, in("broker.pem"), in("broker.key")))
	h := newHub(t)
	h.device("sensor-1")
	device := m.client("device")
	defer device.Disconnect(100)

	cfg := externalConfig(fmt.Sprintf("mqtts://127.0.0.1:%d", port))
	cfg.Username, cfg.Password = "", ""
	cfg.TLS = bridge.ExternalTLS{CAFile: ours.file, CertFile: in("hub.pem"), KeyFile: in("hub.key"), ServerName: "broker.example"}
	foreign.issue("bridge", in("hub.pem"), in("hub.key"))
	e, err := bridge.OpenExternal(cfg, h.parts())
	if err != nil {
		t.Fatal(err)
	}
	defer closeExternal(t, e)
	wantStats(t, e, "refusal of the certificate", func(s bridge.ExternalStats) bool { return strings.Contains(s.Failure, "without an answer to CONNECT") })
	ours.issue("bridge", in("hub.pem"), in("hub.key"))
	wantStats(t, e, "connection by the new certificate", func(s bridge.ExternalStats) bool { return s.Connected })
	wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, false, `{"n":1}`))
	h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=1"})

	// Half a pair leaves the one from before.
	device.Disconnect(100)
	if err := os.WriteFile(in("hub.key"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.stop()
	wantStats(t, e, "loss of the connection", func(s bridge.ExternalStats) bool { return !s.Connected })
	m.start()
	wantStats(t, e, "connection by the certificate from before", func(s bridge.ExternalStats) bool { return s.Connected })

	// Another name than the certificate's is not the broker.
	cfg.TLS = bridge.ExternalTLS{CAFile: ours.file, ServerName: "other.example"}
	cfg.Name = "other"
	other, err := bridge.OpenExternal(cfg, h.parts())
	if err != nil {
		t.Fatal(err)
	}
	defer closeExternal(t, other)
	wantStats(t, other, "distrust of another name", func(s bridge.ExternalStats) bool { return strings.Contains(s.Failure, "other.example") })
}

func TestExternalRefusesFilesThatCannotBeUsed(t *testing.T) {
	h, dir := newHub(t), t.TempDir()
	junk := filepath.Join(dir, "junk.pem")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, set := range map[string]bridge.ExternalTLS{"ca_file": {CAFile: junk}, "cert_file, key_file": {CertFile: junk, KeyFile: junk}} {
		cfg := externalConfig("mqtts://127.0.0.1:1")
		cfg.TLS = set
		if _, err := bridge.OpenExternal(cfg, h.parts()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A proxy before the broker, as they stand before brokers in clouds: WebSocket over TLS, on a path, for who has a token.
func TestExternalConnectsByWebSocketWithPathAndHeaders(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	upgrader := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
	proxy := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() != "/a/mqtt?site=7" || r.Header.Get("Authorization") != "Bearer abc" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		broker, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.port))
		if err != nil {
			return
		}
		defer broker.Close()
		back := make(chan struct{})
		go func() {
			defer close(back)
			buf := make([]byte, 7) // packets come in pieces
			for {
				n, err := broker.Read(buf)
				if err != nil || ws.WriteMessage(websocket.BinaryMessage, buf[:n]) != nil {
					_ = ws.Close()
					return
				}
			}
		}()
		for {
			_, frame, err := ws.NextReader()
			if err != nil {
				break
			}
			if _, err := io.Copy(broker, frame); err != nil {
				break
			}
		}
		_ = broker.Close()
		<-back
	}))
	defer proxy.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, ca, "CERTIFICATE", proxy.Certificate().Raw)
	cfg := externalConfig("wss" + strings.TrimPrefix(proxy.URL, "https") + "/a/mqtt?site=7")
	cfg.TLS.CAFile = ca
	cfg.Headers = map[string]string{"Authorization": "Bearer abc"}
	e := openExternal(t, h, cfg)
	device := m.client("device")
	defer device.Disconnect(100)
	var want []entry
	for n := range 100 {
		wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, false, fmt.Sprintf(`{"n":%d}`, n)))
		want = append(want, entry{"sensor-1", fmt.Sprintf("telemetry n=%d", n)})
	}
	h.journal.wantDurable(t, want...)
	closeExternal(t, e)

	cfg.Headers = nil
	e, err := bridge.OpenExternal(cfg, h.parts())
	if err != nil {
		t.Fatal(err)
	}
	defer closeExternal(t, e)
	wantStats(t, e, "word on path and headers", func(s bridge.ExternalStats) bool {
		return strings.Contains(s.Failure, "check the path and the headers")
	})
}

func TestExternalReadsItsPasswordAgain(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old\n")
	cfg := externalConfig(m.url())
	cfg.Password, cfg.PasswordFile = "", file
	e, err := bridge.OpenExternal(cfg, h.parts())
	if err != nil {
		t.Fatal(err)
	}
	defer closeExternal(t, e)
	wantStats(t, e, "refusal", func(s bridge.ExternalStats) bool { return strings.Contains(s.Failure, "the broker refuses the hub") })
	write("secret\r\n")
	wantStats(t, e, "connection by the new password", func(s bridge.ExternalStats) bool { return s.Connected })
	if s := e.Stats(); !strings.Contains(s.LastFailure, "refuses") {
		t.Errorf("stats %+v, want the last failure to be known", s)
	}
}

func TestExternalSaysOnItsStatusTopicWhatItIs(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	watcher := m.client("watcher")
	defer watcher.Disconnect(100)
	said := make(chan string, 10)
	wantToken(t, watcher.Subscribe("hubs/one", 1, func(_ paho.Client, m paho.Message) { said <- string(m.Payload()) }))
	want := func(status string) {
		t.Helper()
		if got := next(t, status, said); got != status {
			t.Fatalf("the topic says %s, want %s", got, status)
		}
	}
	cfg := externalConfig(m.url())
	cfg.StatusTopic, cfg.ClientID = "hubs/one", "hub-1"
	e := openExternal(t, h, cfg)
	want("online")
	// A connection that ends without DISCONNECT, for another has its client id: the broker speaks for the hub.
	m.client("hub-1")
	want("offline")
	want("online")
	wantStats(t, e, "connection", func(s bridge.ExternalStats) bool { return s.Connects == 2 && s.Connected })
	closeExternal(t, e)
	want("offline") // by the hub: a DISCONNECT drops the will

	late := m.client("late")
	defer late.Disconnect(100)
	wantToken(t, late.Subscribe("hubs/one", 1, func(_ paho.Client, m paho.Message) { said <- fmt.Sprintf("%v %s", m.Retained(), m.Payload()) }))
	if got := next(t, "retained status", said); got != "true offline" {
		t.Errorf("retained: %s", got)
	}
}

func TestExternalHubsOfAGroupSplitTheReadings(t *testing.T) {
	m := newMosquitto(t, "")
	device := m.client("device")
	defer device.Disconnect(100)
	var hubs []*hub
	for n := range 2 {
		h := newHub(t)
		h.device("sensor-1")
		cfg := externalConfig(m.url())
		cfg.Share, cfg.ClientID = "hubs", fmt.Sprintf("hub-%d", n)
		openExternal(t, h, cfg)
		hubs = append(hubs, h)
	}
	const readings = 200
	for n := range readings {
		wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, false, fmt.Sprintf(`{"n":%d}`, n)))
	}
	// An answer comes to each: only the hub that asked knows what to do with it.
	wantToken(t, device.Publish("devices/sensor-1/response", 1, false, `{"id":"A","result":1}`))
	for _, h := range hubs {
		next(t, "answer", h.answers.answered)
	}
	count := func(h *hub) int {
		h.journal.mu.Lock()
		defer h.journal.mu.Unlock()
		return len(h.journal.durable)
	}
	hubs[0].journal.until(t, "all readings", func() bool { return len(hubs[0].journal.durable)+count(hubs[1]) >= readings })
	var all []entry
	for n, h := range hubs {
		if count(h) == 0 {
			t.Errorf("hub %d got nothing", n)
		}
		h.journal.mu.Lock()
		all = append(all, h.journal.durable...)
		h.journal.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.text, b.text) })
	if unique := slices.Compact(slices.Clone(all)); len(all) != readings || len(unique) != readings {
		t.Errorf("%d readings, %d different ones, want %d", len(all), len(unique), readings)
	}
}

// A broker without persistence: after its restart it knows neither session nor subscriptions.
func TestExternalSubscribesAgainAtABrokerThatLostItsSessions(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	e := openExternal(t, h, externalConfig(m.url()))
	before := m.client("device")
	wantToken(t, before.Publish("devices/sensor-1/telemetry", 1, false, `{"n":0}`))
	h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=0"})
	m.stop()
	if err := os.Remove(filepath.Join(filepath.Dir(m.conf), "mosquitto.db")); err != nil {
		t.Fatal(err)
	}
	m.start()
	wantStats(t, e, "reconnection", func(s bridge.ExternalStats) bool { return s.Connects == 2 && s.Connected })
	if e.Stats().Resumed {
		t.Error("the broker is said to know the session")
	}
	after := m.client("device")
	defer after.Disconnect(100)
	wantToken(t, after.Publish("devices/sensor-1/telemetry", 1, false, `{"n":1}`))
	h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=0"}, entry{"sensor-1", "telemetry n=1"})
	if got := h.metric(t, "hub_bridge_sessions_lost_total"); got != 1 {
		t.Errorf("sessions lost: %v, want 1", got)
	}
}

// metric returns the sum of a metric's values.
func (h *hub) metric(t *testing.T, name string) (sum float64) {
	t.Helper()
	families, err := h.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}
