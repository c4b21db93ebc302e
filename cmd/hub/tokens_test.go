package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"
)

// tokenWays are the ways in which a device shows a token. Each says in a word what came of it: "in", "renewal" (let in to
// renew and for nothing else), or the reason for the refusal. path is the device in the URL, where there is one.
func (h *hubProcess) tokenWays() map[string]func(path, user, token string) string {
	bearer := func(_, token string) string { return "Bearer " + token }
	basic := func(user, token string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+token))
	}
	wss := strings.Replace(h.url, "https", "wss", 1)
	return map[string]func(path, user, token string) string{
		"wss bearer": func(path, user, token string) string {
			return h.showByWSS("/connect/"+path, http.Header{"Authorization": {bearer(user, token)}})
		},
		"wss basic": func(path, user, token string) string {
			return h.showByWSS("/connect/"+path, http.Header{"Authorization": {basic(user, token)}})
		},
		"wss query": func(path, _, token string) string { return h.showByWSS("/connect/"+path+"?token="+token, nil) },
		"mqtt": func(_, user, token string) string {
			return h.showByMQTT(strings.Replace(h.mqtt, "mqtts", "ssl", 1), user, token)
		},
		"mqtt+wss":    func(_, user, token string) string { return h.showByMQTT(wss+"/mqtt", user, token) },
		"http bearer": func(path, user, token string) string { return h.showByPost(path, bearer(user, token)) },
		"http basic":  func(path, user, token string) string { return h.showByPost(path, basic(user, token)) },
	}
}

// reasonOf is the reason in a problem.
func reasonOf(answer *http.Response) string {
	var problem struct{ Reason string }
	_ = json.NewDecoder(answer.Body).Decode(&problem)
	return fmt.Sprint(answer.StatusCode, " ", problem.Reason)
}

func (h *hubProcess) showByWSS(path string, header http.Header) string {
	h.t.Helper()
	d := websocket.Dialer{TLSClientConfig: h.tls()}
	ws, answer, err := d.DialContext(h.t.Context(), "wss"+strings.TrimPrefix(h.url, "https")+path, header)
	if err != nil {
		return reasonOf(answer)
	}
	defer ws.Close()
	send(h.t, ws, `{"id":1,"method":"telemetry","params":{"values":{"T":1}}}`)
	for {
		var f frameFromHub
		if err := ws.ReadJSON(&f); err != nil {
			return err.Error()
		}
		switch {
		case string(f.ID) != "1":
		case f.Error == nil:
			return "in"
		case f.Error.Data.Reason == "credentials_expired":
			send(h.t, ws, `{"id":2,"method":"hello"}`)
			var welcome frameFromHub
			if err := ws.ReadJSON(&welcome); err != nil || string(welcome.ID) != "2" || welcome.Error != nil {
				return fmt.Sprintf("hello: %+v, %v", welcome, err)
			}
			return "renewal"
		default:
			return f.Error.Data.Reason
		}
	}
}

func (h *hubProcess) showByMQTT(url, user, token string) string {
	h.t.Helper()
	client, cut, err := h.paho(url, user, token, nil)
	if err != nil {
		return map[bool]string{true: "refused", false: err.Error()}[strings.Contains(err.Error(), "bad user name or password") || strings.Contains(err.Error(), "not Authorized")]
	}
	defer client.Disconnect(0)
	issued := make(chan string, 1)
	client.Subscribe("devices/"+user+"/issued", 0, func(_ mqtt.Client, m mqtt.Message) { issued <- string(m.Payload()) }).Wait()
	expired := func() string { // a refusal has no words in MQTT 3.1.1: it is the acknowledgement that does not come
		_, counted, _ := strings.Cut(h.metrics(), `hub_mqtt_refused_total{reason="credentials_expired"} `)
		counted, _, _ = strings.Cut(counted, "\n")
		return counted
	}
	before, refused := expired(), false
	sent := client.Publish("devices/"+user+"/telemetry", 1, false, `{"T":1}`)
	until(h.t, "an acknowledgement or a refusal", func() bool {
		select {
		case <-sent.Done():
			return true
		default:
			refused = expired() != before
			return refused
		}
	})
	switch {
	case !refused && sent.Error() == nil:
		return "in"
	case !refused:
		return (<-cut).Error()
	}
	client.Publish("devices/"+user+"/credentials", 0, false, `{}`)
	select {
	case given := <-issued:
		return map[bool]string{true: "renewal", false: given}[strings.Contains(given, `"token"`) || strings.Contains(given, "renewed_just_now")]
	case err := <-cut:
		return err.Error()
	}
}

func (h *hubProcess) showByPost(path, authorization string) string {
	h.t.Helper()
	ask := func(what, body string) *http.Response {
		r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.url+"/api/v1/devices/"+path+what, strings.NewReader(body))
		if err != nil {
			h.t.Fatal(err)
		}
		r.Header.Set("Authorization", authorization)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: h.tls(), DisableKeepAlives: true}}
		answer, err := client.Do(r)
		if err != nil {
			h.t.Fatal(err)
		}
		h.t.Cleanup(func() { _ = answer.Body.Close() })
		return answer
	}
	answer := ask("/telemetry", `{"T":1}`)
	if answer.StatusCode == http.StatusNoContent {
		return "in"
	}
	reason := reasonOf(answer)
	if renewed := ask("/credentials", ""); renewed.StatusCode == http.StatusOK || strings.Contains(reasonOf(renewed), "renewed_just_now") {
		return "renewal"
	}
	return reason
}

// TestEachWayToShowATokenInEachState shows valid, wrong, expired, revoked and other devices' tokens in every way.
func TestEachWayToShowATokenInEachState(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	valid, other := h.newDevice("a"), h.newDevice("b")
	give := func(query string) (token, credential string) {
		var given struct{ Token, Credential string }
		if status := h.call(http.MethodPost, "/api/v1/devices/a/token"+query, nil, &given); status != http.StatusOK {
			t.Fatalf("a token with %q: %d", query, status)
		}
		return given.Token, given.Credential
	}
	over := valid
	inGrace, graceID := give("?keep=1s&expires_in=1s") // the one before it is replaced in a second: it has no grace
	revoked, revokedID := give("?keep=24h")
	if status := h.call(http.MethodDelete, "/api/v1/devices/a/credentials/"+revokedID, nil, nil); status != http.StatusOK {
		t.Fatalf("revoke: %d", status)
	}
	valid, _ = give("?keep=24h")
	until(t, "tokens have expired", func() bool {
		var all struct{ Credentials []struct{ ID, State string } }
		h.call(http.MethodGet, "/api/v1/devices/a/credentials", nil, &all)
		return len(all.Credentials) == 2 && all.Credentials[0].ID == graceID && all.Credentials[0].State == "expired"
	})
	type shown struct{ name, path, user, token, wss, mqtt, basic string }
	for _, c := range []shown{
		{"valid", "a", "a", valid, "in", "in", ""},
		{"wrong", "a", "a", "dev_wrong", "401 bad_credentials", "refused", ""},
		{"none", "a", "a", "", "401 bad_credentials", "refused", ""},
		{"an operator's", "a", "a", h.token(), "401 bad_credentials", "refused", ""},
		{"expired", "a", "a", over, "401 credentials_expired", "refused", ""},
		{"expired within its grace", "a", "a", inGrace, "renewal", "renewal", ""},
		{"revoked", "a", "a", revoked, "401 bad_credentials", "refused", ""},
		{"another device's", "a", "a", other, "403 wrong_device", "refused", "401 bad_credentials"},
		{"its own at another's path", "b", "a", valid, "403 wrong_device", "in", ""},
		{"of no device", "none", "none", valid, "403 wrong_device", "refused", "401 bad_credentials"},
	} {
		for way, show := range h.tokenWays() {
			want := c.wss
			if strings.HasPrefix(way, "mqtt") {
				want = c.mqtt
			} else if strings.HasSuffix(way, "basic") && c.basic != "" {
				want = c.basic
			}
			got := show(c.path, c.user, c.token)
			if c.token == "" && (way == "wss query" || strings.HasSuffix(way, "bearer")) && strings.HasPrefix(got, "401 ") {
				continue // nothing at all was shown
			}
			if got != want {
				t.Errorf("%s, %s: %s, want %s", c.name, way, got, want)
			}
		}
	}
}

// taken returns when the hub has taken so many more readings.
func (h *hubProcess) taken(readings int) {
	h.t.Helper()
	counted := func() float64 { return h.metric(`hub_readings_total{outcome="received"}`) }
	before := counted()
	until(h.t, "readings", func() bool { return counted() >= before+float64(readings) })
}

// TestTokensRotateUnderLoadAndKills rotates the tokens of devices while the hub is killed in the middle
// of it: no device is locked out, and no reading is lost.
func TestTokensRotateUnderLoadAndKills(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"wss", "mqtt"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			h := startHub(t, t.TempDir())
			const devices = 6
			var rotated int
			s := h.simulate(func(<-chan struct{}) {
				h.online(devices)
				var list struct{ Devices []struct{ ID string } }
				h.call(http.MethodGet, "/api/v1/devices", nil, &list)
				line := []string{"devices", "rotate", "--json"}
				for _, d := range list.Devices {
					line = append(line, d.ID)
				}
				for range 2 {
					var asking sync.WaitGroup
					asking.Go(func() { h.ctl(line...) })
					h.taken(1 + rand.N(20))
					h.kill()
					asking.Wait()
					h.again()
					h.online(devices)
				}
				until(t, "each device takes a token", func() bool {
					stdout, _, status := h.ctl(line...)
					rotated = strings.Count(stdout, `"confirmed"`)
					return status == 0
				})
				h.kill() // they come back with the tokens that they have just confirmed
				h.again()
				h.online(devices)
				until(t, "the tokens before are void", func() bool {
					for _, d := range list.Devices {
						var all struct {
							Credentials []struct {
								State string
								InUse bool `json:"in_use"`
							}
						}
						h.call(http.MethodGet, "/api/v1/devices/"+d.ID+"/credentials", nil, &all)
						if c := all.Credentials; len(c) != 1 || c[0].State != "valid" || !c[0].InUse {
							return false
						}
					}
					return true
				})
			}, "--protocol", protocol, "--devices", fmt.Sprint(devices), "--rate", "20", "--duration", "30s", "--verify")
			if rotated != devices || s.Connected != devices || s.Lost != 0 || s.Duplicated != 0 || s.Acked == 0 {
				t.Errorf("%d rotated, %+v", rotated, s)
			}
		})
	}
}

// TestNoDevicesSecretIsLogged goes the ways that a device's token can come and be given, rightly and wrongly, at level debug.
func TestNoDevicesSecretIsLogged(t *testing.T) {
	t.Parallel()
	h, log := startLogged(t, "")
	secrets := map[string]string{"a token": h.newDevice("a"), "another device's token": h.newDevice("b"), "a wrong token": "dev_wrong-0123456789"}
	var given struct{ Token string }
	h.call(http.MethodPost, "/api/v1/devices/a/token?keep=24h&expires_in=1s", nil, &given)
	secrets["a token that expires"] = given.Token
	for _, secret := range secrets {
		for _, show := range h.tokenWays() {
			show("a", "a", secret)
		}
	}
	ws := h.dial("a", secrets["a token"])
	for range 2 { // what follows the first is answered when the device can be asked
		send(t, ws, `{"id":1,"method":"hello"}`)
		receive(t, ws)
	}
	rotated := make(chan string, 1)
	go func() {
		stdout, _, _ := h.ctl("devices", "rotate", "a")
		rotated <- stdout
	}()
	for secrets["a token that was offered"] == "" {
		var f struct {
			ID     json.RawMessage
			Method string
			Params struct{ Token string }
		}
		if err := ws.ReadJSON(&f); err != nil {
			t.Fatal(err)
		}
		if f.Method == "hub.credentials" {
			secrets["a token that was offered"] = f.Params.Token
			send(t, ws, `{"id":`+string(f.ID)+`,"result":{}}`)
		}
	}
	if said := <-rotated; !strings.Contains(said, "confirmed") {
		t.Errorf("rotate says %q", said)
	}
	secrets["a token that was asked for"] = h.askFor("a", secrets["a token that was offered"])
	listed, _, _ := h.ctl("devices", "credentials", "a", "--json")
	why, _, _ := h.ctl("why", "a", "--json")
	for what, secret := range secrets {
		if strings.Contains(listed+why, secret) {
			t.Errorf("%s is shown to operators", what)
		}
	}
	h.keepsSecrets(log(), secrets)
	if text := log(); !strings.Contains(text, "token offered") || !strings.Contains(text, "connection refused") {
		t.Errorf("the log does not tell of what was done:\n%.2000s", text)
	}
}

// askFor lets a device ask for a token by HTTP.
func (h *hubProcess) askFor(device, token string) string {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.url+"/api/v1/devices/"+device+"/credentials", http.NoBody)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: h.tls(), DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	var given struct{ Token string }
	if err = errors.Join(err, json.Unmarshal(text, &given)); err != nil || given.Token == "" {
		h.t.Fatalf("asked for a token: %d %s, %v", answer.StatusCode, text, err)
	}
	return given.Token
}
