package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"
)

// The three ways of a device to its credentials. Each returns the token, or the HTTP status or CONNACK's return code of
// the refusal and as much of the reason as that way tells.
type wayIn struct {
	name  string
	enrol func(h *hubProcess, device, key string) (token string, status int, reason string)
}

func waysIn() []wayIn {
	return []wayIn{{"http", (*hubProcess).enrolHTTP}, {"wss", (*hubProcess).enrolWSS}, {"mqtt", (*hubProcess).enrolMQTT}, {"mqtt+wss", (*hubProcess).enrolMQTTOverWSS}}
}

func (h *hubProcess) enrolHTTP(device, key string) (string, int, string) {
	h.t.Helper()
	e := enrol(h.t.Context(), h.httpClient(), h.url, key, map[string]any{"id": device})
	return e.Token, e.Status, e.Reason
}

// enrolWSS confirms and says something on the same connection.
func (h *hubProcess) enrolWSS(device, key string) (string, int, string) {
	h.t.Helper()
	ws, token, status, reason := h.dialWithKey(device, key)
	if ws == nil {
		return "", status, reason
	}
	defer ws.Close()
	for _, frame := range []string{`{"id":"hub:enrol","result":{}}`, `{"id":1,"method":"telemetry","params":{"values":{"temp":20.5}}}`} {
		if err := ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			h.t.Fatal(err)
		}
	}
	_ = ws.SetReadDeadline(time.Now().Add(time.Minute))
	if _, answer, err := ws.ReadMessage(); err != nil || !strings.Contains(string(answer), `"result":{}`) {
		h.t.Errorf("%s: after the confirmation it got %s, %v", device, answer, err)
	}
	return token, 0, ""
}

// dialWithKey connects by an enrolment key and returns the connection with the token that came on it, not confirmed.
func (h *hubProcess) dialWithKey(device, key string) (ws *websocket.Conn, token string, status int, reason string) {
	h.t.Helper()
	dialer := websocket.Dialer{TLSClientConfig: h.tls(), HandshakeTimeout: time.Minute}
	address := strings.Replace(h.url, "https", "wss", 1) + "/connect/" + device
	ws, resp, err := dialer.DialContext(h.t.Context(), address, http.Header{"Authorization": {"Bearer " + key}})
	if errors.Is(err, websocket.ErrBadHandshake) {
		body, _ := io.ReadAll(resp.Body)
		var problem struct{ Reason string }
		_ = json.Unmarshal(body, &problem)
		return nil, "", resp.StatusCode, problem.Reason
	}
	if err != nil {
		h.t.Fatal(err)
	}
	var first struct {
		Method string
		Params struct{ Token string }
	}
	_ = ws.SetReadDeadline(time.Now().Add(time.Minute))
	if err := ws.ReadJSON(&first); err != nil || first.Method != "hub.credentials" || first.Params.Token == "" {
		h.t.Fatalf("%s: the first frame is %+v, %v", device, first, err)
	}
	return ws, first.Params.Token, 0, ""
}

func (h *hubProcess) enrolMQTT(device, key string) (string, int, string) {
	return h.enrolMQTTAt(strings.Replace(h.mqtt, "mqtts://", "ssl://", 1), device, key)
}

func (h *hubProcess) enrolMQTTOverWSS(device, key string) (string, int, string) {
	return h.enrolMQTTAt(strings.Replace(h.url, "https://", "wss://", 1)+"/mqtt", device, key)
}

// enrolMQTTAt confirms and publishes a reading on the same connection, with paho, which speaks 3.1.1.
func (h *hubProcess) enrolMQTTAt(broker, device, key string) (string, int, string) {
	h.t.Helper()
	options := mqtt.NewClientOptions().AddBroker(broker).SetTLSConfig(&tls.Config{RootCAs: h.tls().RootCAs}).
		SetClientID(device).SetUsername(device).SetPassword(key).SetProtocolVersion(4).SetAutoReconnect(false).SetConnectRetry(false).
		SetConnectTimeout(time.Minute).SetOrderMatters(false)
	client := mqtt.NewClient(options)
	connecting, ok := client.Connect().(*mqtt.ConnectToken)
	if !ok || !connecting.WaitTimeout(time.Minute) {
		h.t.Fatal("MQTT did not connect")
	}
	if connecting.Error() != nil {
		return "", int(connecting.ReturnCode()), ""
	}
	defer client.Disconnect(100)
	given := make(chan string, 1)
	finished := func(token mqtt.Token) {
		h.t.Helper()
		if !token.WaitTimeout(time.Minute) || token.Error() != nil {
			h.t.Errorf("%s: %v", device, token.Error())
		}
	}
	finished(client.Subscribe("devices/"+device+"/command", 1, func(_ mqtt.Client, m mqtt.Message) {
		var asked struct {
			Method string
			Params struct{ Token string }
		}
		if json.Unmarshal(m.Payload(), &asked) == nil && asked.Method == "hub.credentials" {
			given <- asked.Params.Token
		}
	}))
	select {
	case token := <-given:
		finished(client.Publish("devices/"+device+"/response", 1, false, `{"id":"hub:enrol","result":{}}`))
		finished(client.Publish("devices/"+device+"/telemetry", 1, false, `{"temp":20.5}`))
		return token, 0, ""
	case <-time.After(time.Minute):
		h.t.Fatalf("%s: hub.credentials did not come", device)
	}
	return "", 0, ""
}

// TestEnrolMatrix tries what is wrong with a key or a device on each way to the hub, and what is right.
func TestEnrolMatrix(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	h.newDevice("by-hand")
	good := h.newKey(map[string]any{"name": "good", "limit": 100, "pattern": "node-*"})
	expired := h.newKey(map[string]any{"name": "expired", "limit": 100, "expires": time.Now().Add(2 * time.Second).Format(time.RFC3339Nano)})
	disabled := h.newKey(map[string]any{"name": "disabled", "limit": 100})
	exhausted := h.newKey(map[string]any{"name": "exhausted", "limit": 1})
	free := h.newKey(map[string]any{"name": "free", "limit": 100})
	h.call(http.MethodPatch, "/api/v1/enrolment-keys/"+disabled.ID, map[string]any{"enabled": false}, nil)
	if _, status, reason := h.enrolHTTP("first", exhausted.Secret); status != http.StatusCreated {
		t.Fatalf("the first of an exhausted key: %d %s", status, reason)
	}
	until(t, "the key's end", func() bool { return h.key(expired.ID).State == "expired" })
	client := h.httpClient()
	for _, way := range waysIn() {
		t.Run(way.name, func(t *testing.T) {
			for _, c := range []struct {
				name, key, device, reason string
				status, connack           int
			}{
				{"wrong key", "enr_" + strings.Repeat("A", 43), "node-x", "bad_credentials", 401, 4},
				{"wrong key, of a device that exists", "enr_wrong", "by-hand", "bad_credentials", 401, 4},
				{"expired", expired.Secret, "node-x", "key_expired", 403, 5},
				{"disabled", disabled.Secret, "node-x", "key_disabled", 403, 5},
				{"exhausted", exhausted.Secret, "node-x", "key_exhausted", 403, 5},
				{"outside of the pattern", good.Secret, "pump-x", "id_not_allowed", 403, 5},
				{"device that exists", free.Secret, "by-hand", "device_exists", 409, 5},
				{"device of another key", free.Secret, "first", "device_exists", 409, 5},
			} {
				token, status, reason := way.enrol(h, c.device, c.key)
				switch {
				case token != "":
					t.Errorf("%s: it got a token", c.name)
				case strings.HasPrefix(way.name, "mqtt") && status != c.connack:
					t.Errorf("%s: return code %d, want %d", c.name, status, c.connack)
				case !strings.HasPrefix(way.name, "mqtt") && (status != c.status || reason != c.reason):
					t.Errorf("%s: %d %s, want %d %s", c.name, status, reason, c.status, c.reason)
				}
			}
			device := "node-" + strings.ReplaceAll(way.name, "+", ".")
			token, status, reason := way.enrol(h, device, good.Secret)
			if token == "" {
				t.Fatalf("a good key: %d %s", status, reason)
			}
			if status := h.posts(client, device, token); status != http.StatusNoContent {
				t.Errorf("its token: %d", status)
			}
			if again, status, _ := way.enrol(h, device, good.Secret); again != "" || status != map[string]int{"http": 409, "wss": 409, "mqtt": 5, "mqtt+wss": 5}[way.name] {
				t.Errorf("once confirmed, the key gives %q, %d", again, status)
			}
			if status := h.posts(client, device, token); status != http.StatusNoContent {
				t.Errorf("its token after the key was tried again: %d", status)
			}
		})
	}
	if k := h.key(good.ID); k.Used != 4 || k.Refused["already_enrolled"] != 4 {
		t.Errorf("the key says %+v", k)
	}
	if text := h.stderr.String(); strings.Contains(text, good.Secret) || strings.Contains(text, "enr_wrong") {
		t.Errorf("a key is in the log:\n%s", text)
	}
	why, _, _ := h.ctl("why", "by-hand")
	if !strings.Contains(why, "device_exists") {
		t.Errorf("hubctl why of the device that was not taken over says\n%s", why)
	}
}

// TestEnrolIsFinishedAfterAKill kills the hub before the device has confirmed: by the key it gets another token, once.
func TestEnrolIsFinishedAfterAKill(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	key := h.newKey(map[string]any{"name": "batch", "limit": 1})
	client := h.httpClient()
	ws, lost, _, _ := h.dialWithKey("node-1", key.Secret)
	if ws == nil {
		t.Fatal("the device was not let in")
	}
	h.kill()
	ws.Close()
	h.again()
	if k := h.key(key.ID); k.Used != 1 {
		t.Errorf("after the kill the key says %+v", k)
	}
	token, status, reason := h.enrolWSS("node-1", key.Secret)
	if token == "" || token == lost {
		t.Fatalf("come again it got %q, %d %s", token, status, reason)
	}
	for secret, want := range map[string]int{lost: http.StatusUnauthorized, token: http.StatusNoContent} {
		if status := h.posts(client, "node-1", secret); status != want {
			t.Errorf("a post with the token of before (%v): %d, want %d", secret == lost, status, want)
		}
	}
	h.kill()
	h.again()
	if _, status, reason := h.enrolWSS("node-1", key.Secret); reason != "already_enrolled" {
		t.Errorf("the confirmation did not outlive a kill: %d %s", status, reason)
	}
	if k := h.key(key.ID); k.Used != 1 || k.State != "exhausted" {
		t.Errorf("in the end the key says %+v", k)
	}
}

// TestEnrolWithACertificate has a device keep its key and get a certificate for it over the same exchange.
func TestEnrolWithACertificate(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	key := h.newKey(map[string]any{"name": "batch", "limit": 5})
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "somebody-else"}}, private)
	if err != nil {
		t.Fatal(err)
	}
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}))
	client := h.httpClient()
	if e := enrol(t.Context(), client, h.url, key.Secret, map[string]any{"id": "node-1", "csr": csr[:200]}); e.Status != http.StatusUnprocessableEntity || e.Reason != "bad_csr" {
		t.Errorf("half a request: %+v", e)
	}
	if k := h.key(key.ID); k.Used != 0 {
		t.Errorf("a bad request was counted: %+v", k)
	}
	e := enrol(t.Context(), client, h.url, key.Secret, map[string]any{"id": "node-1", "csr": csr})
	block, _ := pem.Decode([]byte(e.Certificate))
	if e.Status != http.StatusCreated || block == nil {
		t.Fatalf("answered %+v", e)
	}
	shows := h.tls()
	shows.Certificates = []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: private}}
	dialer := websocket.Dialer{TLSClientConfig: shows, HandshakeTimeout: time.Minute}
	ws, resp, err := dialer.DialContext(t.Context(), strings.Replace(h.url, "https", "wss", 1)+"/connect", nil)
	if err != nil {
		t.Fatalf("connect by the certificate: %v, %v", err, resp)
	}
	defer ws.Close()
	send(t, ws, `{"id":1,"method":"hello","params":{}}`)
	if _, answer, err := ws.ReadMessage(); err != nil || !strings.Contains(string(answer), `"device":"node-1"`) {
		t.Errorf("hello is answered by %s, %v", answer, err)
	}
	if again := enrol(t.Context(), client, h.url, key.Secret, map[string]any{"id": "node-1"}); again.Reason != "already_enrolled" {
		t.Errorf("the certificate was used, and the key gives %+v", again)
	}

	// On the connection by which it enrols, once it has confirmed its token.
	second, _, status, reason := h.dialWithKey("node-2", key.Secret)
	if second == nil {
		t.Fatalf("by the key: %d %s", status, reason)
	}
	defer second.Close()
	ask, err := json.Marshal(map[string]any{"id": 2, "method": "credentials", "params": map[string]string{"csr": csr}})
	if err != nil {
		t.Fatal(err)
	}
	send(t, second, string(ask))
	if early := receive(t, second); early.Error == nil || early.Error.Data.Reason != "not_confirmed" {
		t.Errorf("before it has confirmed its token it got %+v", early)
	}
	send(t, second, `{"id":"hub:enrol","result":{}}`)
	send(t, second, string(ask))
	if _, answer, err := second.ReadMessage(); err != nil || !strings.Contains(string(answer), "BEGIN CERTIFICATE") {
		t.Errorf("its request for a certificate is answered by %s, %v", answer, err)
	}
}
