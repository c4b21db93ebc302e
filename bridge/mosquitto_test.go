package bridge_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"telemetryhub/bridge"
	"telemetryhub/wire"
)

const getClients = "apt-get install mosquitto-clients"

// selfSigned returns a server's TLS configuration for 127.0.0.1 and the file with its certificate; key.pem beside it holds
// the key.
func selfSigned(t *testing.T) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, file
}

func TestBrokerServesMosquittosClientsOverTLS(t *testing.T) {
	pub, sub := realPart(t, "mosquitto_pub", getClients), realPart(t, "mosquitto_sub", getClients)
	h := newHub(t)
	token := h.device("sensor-1")
	serverTLS, ca := selfSigned(t)
	cfg := bridge.DefaultBrokerConfig()
	cfg.Listen = "127.0.0.1:0"
	b, err := bridge.OpenBroker(cfg, serverTLS, h.parts())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	_, port, _ := net.SplitHostPort(b.Addr().String())
	args := func(version, password string, more ...string) []string {
		return append([]string{"-V", version, "-h", "127.0.0.1", "-p", port, "--cafile", ca, "-u", "sensor-1", "-P", password}, more...)
	}
	var want []entry
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for _, qos := range []string{"0", "1", "2"} {
			h.run(pub, args(version, token, "-q", qos, "-t", "devices/sensor-1/telemetry", "-m", `{"Temp":`+qos+`}`)...)
			want = append(want, entry{"sensor-1", "telemetry Temp=" + qos})
			h.journal.wantDurable(t, want...)
		}
		if out, err := exec.Command(pub, args(version, "wrong", "-t", "devices/sensor-1/telemetry", "-m", "{}")...).CombinedOutput(); err == nil {
			t.Errorf("%s: a wrong password was taken: %s", version, out)
		}
		// A subscriber that waits for one command and answers nothing.
		listener := exec.Command(sub, args(version, token, "-q", "1", "-C", "1", "-t", "devices/sensor-1/command")...)
		var got bytes.Buffer
		listener.Stdout = &got
		if err := listener.Start(); err != nil {
			t.Fatal(err)
		}
		h.wantReady("sensor-1")
		if err := h.send("sensor-1", wire.Command{ID: "A", Method: "ping", Attempt: 1, AtLeastOnce: true}); err != nil {
			t.Error(err)
		}
		if err := listener.Wait(); err != nil || strings.TrimSpace(got.String()) != `{"jsonrpc":"2.0","id":"A","method":"ping","attempt":1}` {
			t.Errorf("%s: mosquitto_sub: %v, %s", version, err, &got)
		}
		out, _ := exec.Command(sub, args(version, token, "-W", "5", "-E", "-t", "devices/+/command")...).CombinedOutput()
		if !bytes.Contains(out, []byte("denied")) && !bytes.Contains(out, []byte("not authori")) && !bytes.Contains(out, []byte("All subscription requests")) {
			t.Errorf("%s: mosquitto_sub to the topics of others says %q", version, out)
		}
	}
}

// run runs a program that must succeed.
func (h *hub) run(program string, args ...string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
		h.t.Fatalf("%s: %v: %s", filepath.Base(program), err, out)
	}
}

// wantReady waits until the device's session takes commands.
func (h *hub) wantReady(device string) {
	h.t.Helper()
	for next(h.t, "readiness", h.answers.ready) != device {
	}
}

func TestBrokerServesPaho(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token := h.device("sensor-1")
	commands := make(chan paho.Message, 10)
	client := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + b.PlainAddr().String()).
		SetClientID("paho").SetUsername("sensor-1").SetPassword(token).SetAutoReconnect(false))
	wantToken(t, client.Connect())
	wantToken(t, client.Subscribe("devices/sensor-1/command", 1, func(_ paho.Client, m paho.Message) { commands <- m }))
	h.wantReady("sensor-1")
	var want []entry
	for n := range 100 {
		wantToken(t, client.Publish("devices/sensor-1/telemetry", byte(n%3), false, fmt.Sprintf(`{"values":{"n":%d},"boot":"b","seq":%d}`, n, n+1)))
		want = append(want, entry{"sensor-1", fmt.Sprintf("telemetry %d n=%d", n+1, n)})
	}
	h.journal.wantDurable(t, want...)
	if err := h.send("sensor-1", wire.Command{ID: "A", Method: "ping", Attempt: 1}); err != nil {
		t.Fatal(err)
	}
	if m := next(t, "command", commands); m.Retained() || m.Qos() != 0 {
		t.Errorf("command retained %v, QoS %d", m.Retained(), m.Qos())
	}
	client.Disconnect(100)
	h.wantOnline("sensor-1", false, "")
}

func wantToken(t *testing.T, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("mqtt: %v", token.Error())
	}
}

// mosquitto is a real Mosquitto, whose sessions survive its restart.
type mosquitto struct {
	t    *testing.T
	path string
	conf string
	port int
	cmd  *exec.Cmd
	done chan error
}

// newMosquitto writes a configuration with the user bridge, password "secret"; more is appended to it.
func newMosquitto(t *testing.T, more string) *mosquitto {
	t.Helper()
	m := &mosquitto{t: t, path: realPart(t, "mosquitto", "apt-get install mosquitto"), port: freePort(t)}
	dir := t.TempDir()
	passwords := filepath.Join(dir, "passwords")
	if out, err := exec.Command(realPart(t, "mosquitto_passwd", "apt-get install mosquitto"), "-b", "-c", passwords, "bridge", "secret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v: %s", err, out)
	}
	if err := os.Chmod(passwords, 0o644); err != nil { // Mosquitto gives up root's rights
		t.Fatal(err)
	}
	m.conf = filepath.Join(dir, "mosquitto.conf")
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous false\npassword_file %s\npersistence true\npersistence_location %s/\nuser root\n%s\n", m.port, passwords, dir, more)
	if err := os.WriteFile(m.conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(m.stop)
	return m
}

// freePort returns a port that was free a moment ago; Mosquitto takes none by itself.
func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = exec.Command(m.path, "-c", m.conf)
	stderr, err := m.cmd.StderrPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	running := make(chan string, 1)
	m.done = make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if strings.Contains(lines.Text(), " running") {
				running <- lines.Text()
			}
		}
		m.done <- m.cmd.Wait()
	}()
	next(m.t, "running mosquitto", running)
}

// stop lets Mosquitto save its sessions and end.
func (m *mosquitto) stop() {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Signal(os.Interrupt)
	next(m.t, "end of mosquitto", m.done)
	m.cmd = nil
}

// client connects as another client of Mosquitto.
func (m *mosquitto) client(id string) paho.Client {
	m.t.Helper()
	c := paho.NewClient(paho.NewClientOptions().AddBroker(m.url()).SetClientID(id).SetUsername("bridge").SetPassword("secret").SetAutoReconnect(false))
	wantToken(m.t, c.Connect())
	return c
}

func (m *mosquitto) url() string { return fmt.Sprintf("mqtt://127.0.0.1:%d", m.port) }
