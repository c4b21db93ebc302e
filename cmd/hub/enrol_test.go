package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// enrolmentKey is one as the API shows it.
type enrolmentKey struct {
	ID, Secret, State string
	Limit, Used, Left int
	Refused           map[string]int
}

func (h *hubProcess) newKey(terms map[string]any) enrolmentKey {
	h.t.Helper()
	var made enrolmentKey
	if status := h.call(http.MethodPost, "/api/v1/enrolment-keys", terms, &made); status != http.StatusCreated {
		h.t.Fatalf("make an enrolment key: %d", status)
	}
	return made
}

func (h *hubProcess) key(id string) (k enrolmentKey) {
	h.t.Helper()
	h.call(http.MethodGet, "/api/v1/enrolment-keys/"+id, nil, &k)
	return k
}

// enrolled is the answer to an enrolment, or the problem.
type enrolled struct {
	Status                                     int
	ID, Token, CA, Certificate, Reason, Detail string
}

// enrol asks by HTTP; the status is 0 where the hub did not answer.
func enrol(ctx context.Context, client *http.Client, url, secret string, body map[string]any) (e enrolled) {
	text, err := json.Marshal(body)
	if err != nil {
		return e
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/enrol", bytes.NewReader(text))
	if err != nil {
		return e
	}
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		return e
	}
	defer answer.Body.Close()
	if text, err = io.ReadAll(answer.Body); err == nil && json.Unmarshal(text, &e) == nil {
		e.Status = answer.StatusCode
	}
	return e
}

func (h *hubProcess) httpClient() *http.Client {
	h.t.Helper()
	transport := &http.Transport{TLSClientConfig: h.tls(), MaxIdleConnsPerHost: 100}
	h.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// posts reports whether the hub takes telemetry from the device with that token.
func (h *hubProcess) posts(client *http.Client, device, token string) int {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.url+"/api/v1/devices/"+device+"/telemetry", strings.NewReader(`{"temp":20.5}`))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}

// TestEnrolOverHTTP goes the whole way with hubctl's key, and then through the life of a key.
func TestEnrolOverHTTP(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	client := h.httpClient()
	secret, said, status := h.ctl("enrol", "add", "batch 7", "--count", "2", "--expires", "30d", "--type", "climate", "--tag", "hall", "--ids", "node-*")
	if secret = strings.TrimSpace(secret); status != 0 || !strings.HasPrefix(secret, "enr_") {
		t.Fatalf("hubctl enrol add: %d %q %s", status, secret, said)
	}
	made := enrol(t.Context(), client, h.url, secret, map[string]any{"id": "node-1", "model": "c2", "firmware": "1.4.2", "attributes": map[string]string{"room": "A"}})
	if made.Status != http.StatusCreated || !strings.HasPrefix(made.Token, "dev_") || !strings.Contains(made.CA, "BEGIN CERTIFICATE") {
		t.Fatalf("the device was answered %+v", made)
	}
	if status := h.posts(client, "node-1", secret); status != http.StatusUnauthorized {
		t.Errorf("the enrolment key is taken for telemetry: %d", status)
	}
	lost := made
	if made = enrol(t.Context(), client, h.url, secret, map[string]any{"id": "node-1"}); made.Status != http.StatusCreated || made.Token == lost.Token {
		t.Errorf("asked again it was answered %+v", made)
	}
	if status := h.posts(client, "node-1", lost.Token); status != http.StatusUnauthorized {
		t.Errorf("the token that was replaced is taken: %d", status)
	}
	if status := h.posts(client, "node-1", made.Token); status != http.StatusNoContent {
		t.Errorf("its token is not taken: %d", status)
	}
	if again := enrol(t.Context(), client, h.url, secret, map[string]any{"id": "node-1"}); again.Status != http.StatusConflict || again.Reason != "already_enrolled" {
		t.Errorf("once its token was used, the key gives: %+v", again)
	}
	var device struct {
		Type     string
		Tags     []string
		Model    string
		Enrolled struct {
			Key       string
			Confirmed bool
		}
	}
	h.call(http.MethodGet, "/api/v1/devices/node-1", nil, &device)
	if device.Type != "climate" || len(device.Tags) != 1 || !device.Enrolled.Confirmed {
		t.Errorf("the device is %+v", device)
	}
	shown, _, _ := h.ctl("devices", "show", "node-1")
	if !strings.Contains(shown, "by key "+device.Enrolled.Key) {
		t.Errorf("hubctl devices show says\n%s", shown)
	}
	if list, _, _ := h.ctl("enrol", "ls"); !strings.Contains(list, "batch 7") || !strings.Contains(list, "active") || strings.Contains(list, secret) {
		t.Errorf("hubctl enrol ls says\n%s", list)
	}
	if _, _, status := h.ctl("enrol", "set", device.Enrolled.Key, "--disable"); status != 0 {
		t.Errorf("hubctl enrol set: %d", status)
	}
	if no := enrol(t.Context(), client, h.url, secret, map[string]any{"id": "node-2"}); no.Reason != "key_disabled" {
		t.Errorf("a disabled key gives %+v", no)
	}
	acts, _, _ := h.ctl("acts")
	for _, act := range []string{"enrolment-key.create", "enrolment-key.update", "device.enrol", "key_disabled", "already_enrolled"} {
		if !strings.Contains(acts, act) {
			t.Errorf("the audit log lacks %s:\n%s", act, acts)
		}
	}
	if metrics, _, _ := h.ctl("metrics"); !strings.Contains(metrics, `hub_enrolments_total{outcome="enrolled"} 1`) || !strings.Contains(metrics, `outcome="key_disabled"} 1`) {
		t.Error("the metrics do not count enrolments")
	}
	if gone, _, status := h.ctl("enrol", "rm", device.Enrolled.Key); status != 0 || !strings.Contains(gone, "1 devices") {
		t.Errorf("hubctl enrol rm: %d %s", status, gone)
	}
	if status := h.posts(client, "node-1", made.Token); status != http.StatusNoContent {
		t.Errorf("without its key the device is not taken: %d", status)
	}
	everything := acts + h.stderr.String()
	if strings.Contains(everything, secret) || strings.Contains(everything, made.Token) {
		t.Error("a secret is in the log or in the audit log")
	}
}

// TestEnrolSurvivesKill has 100 devices enrol with a key of 60 while the hub is killed again and again: in the end 60
// have been given a token that works, none more, and no device is there that was not counted.
func TestEnrolSurvivesKill(t *testing.T) {
	t.Parallel()
	const many, limit = 100, 60
	h := startHub(t, t.TempDir())
	key := h.newKey(map[string]any{"name": "batch", "limit": limit})
	client, url := h.httpClient(), h.url // the same after each kill
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var given atomic.Int64
	var mu sync.Mutex
	tokens := map[string]string{}
	var wait sync.WaitGroup
	for i := range many {
		wait.Go(func() {
			device := fmt.Sprintf("d%03d", i)
			for ctx.Err() == nil {
				e := enrol(ctx, client, url, key.Secret, map[string]any{"id": device})
				switch {
				case e.Status == http.StatusCreated:
					mu.Lock()
					tokens[device] = e.Token
					mu.Unlock()
					given.Add(1)
					return
				case e.Reason == "key_exhausted" || e.Status == http.StatusTooManyRequests:
					if given.Load() >= limit { // else a claim that a kill left behind holds a place
						return
					}
				}
				select { // a device's pause, while the hub is away
				case <-time.After(5 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	for kill := range 4 {
		until(t, "some devices", func() bool { return given.Load() >= int64(12*(kill+1)) })
		h.kill()
		h.again()
	}
	wait.Wait()
	if len(tokens) != limit {
		t.Errorf("%d devices were given a token, want %d", len(tokens), limit)
	}
	if k := h.key(key.ID); k.Used != limit || k.Left != 0 || k.State != "exhausted" {
		t.Errorf("the key says %+v", k)
	}
	var list struct{ Devices []struct{ ID string } }
	h.call(http.MethodGet, "/api/v1/devices?limit=1000", nil, &list)
	if len(list.Devices) != limit {
		t.Errorf("there are %d devices, want %d", len(list.Devices), limit)
	}
	for _, d := range list.Devices {
		if status := h.posts(client, d.ID, tokens[d.ID]); status != http.StatusNoContent {
			t.Errorf("%s with the token that it was given last: %d", d.ID, status)
		}
	}
}

// TestEnrolAFleet has simulated devices enrol themselves on each way while the hub is killed, and the judge read back
// what they sent since.
func TestEnrolAFleet(t *testing.T) {
	t.Parallel()
	for _, way := range [][]string{{"--protocol", "wss"}, {"--protocol", "wss", "--encoding", "cbor"}, {"--protocol", "mqtt"}, {"--protocol", "mqtt+wss"}} {
		t.Run(strings.Join(way, " "), func(t *testing.T) {
			const many = 40
			h := startHub(t, t.TempDir())
			key := h.newKey(map[string]any{"name": "fleet", "limit": many, "type": "simulated", "pattern": "sim-*"})
			file := filepath.Join(t.TempDir(), "enrolment.key")
			if err := os.WriteFile(file, []byte(key.Secret+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			args := append([]string{"--enrol-key", file, "--devices", strconv.Itoa(many), "--connect-rate", "20", "--rate", "5", "--duration", "3s", "--verify"}, way...)
			result := h.simulate(func(<-chan struct{}) {
				until(t, "half of the fleet", func() bool { return h.key(key.ID).Used > many/2 })
				h.kill()
				h.again()
			}, args...)
			if result.Connected != many || result.Acked == 0 || result.Lost != 0 || result.Duplicated != 0 {
				t.Errorf("the simulator says %+v", result)
			}
			if k := h.key(key.ID); k.Used != many || k.Left != 0 {
				t.Errorf("the key says %+v", k)
			}
			var list struct {
				Devices []struct{ Enrolled *struct{ Confirmed bool } }
			}
			h.call(http.MethodGet, "/api/v1/devices?limit=1000", nil, &list)
			for _, d := range list.Devices {
				if d.Enrolled == nil || !d.Enrolled.Confirmed {
					t.Errorf("a device is %+v", d)
				}
			}
			if text := h.stderr.String(); strings.Contains(text, key.Secret) {
				t.Error("the key is in the log")
			}
		})
	}
}
