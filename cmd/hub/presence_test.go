package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// presenceReceiver is a webhook's receiver over TLS.
type presenceReceiver struct {
	*httptest.Server
	mu     sync.Mutex
	away   bool // it answers 503
	posts  int
	forged int
	told   []presenceChange
}

type presenceChange struct {
	Device, Transport, Cause, Session string
	Online                            bool
	Version                           uint64
}

const presenceSecret = "swordfish-0123456789abcdef"

func newPresenceReceiver(t *testing.T) (r *presenceReceiver, caFile string) {
	t.Helper()
	r = &presenceReceiver{}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		text, _ := io.ReadAll(q.Body)
		mac := hmac.New(sha256.New, []byte(presenceSecret))
		mac.Write([]byte(q.Header.Get("Webhook-Id") + "." + q.Header.Get("Webhook-Timestamp") + "." + string(text)))
		var b struct{ Changes []presenceChange }
		r.mu.Lock()
		defer r.mu.Unlock()
		r.posts++
		if q.Header.Get("Webhook-Signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) || json.Unmarshal(text, &b) != nil {
			r.forged++
		}
		if r.away {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		r.told = append(r.told, b.Changes...)
	}))
	t.Cleanup(r.Close)
	caFile = filepath.Join(t.TempDir(), "receiver.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return r, caFile
}

// last returns the newest change of a device that was told.
func (r *presenceReceiver) last(device string) (last presenceChange, times int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.told {
		if c.Device == device {
			last = c
			times++
		}
	}
	return last, times
}

func TestPresenceIsToldByWebhookAndAsReadings(t *testing.T) {
	t.Parallel()
	receiver, ca := newPresenceReceiver(t)
	h, log := startLogged(t, fmt.Sprintf("devices: {presence: {measurement: presence, webhook: {url: '%s/in?key=hunter2-swordfish', secret: %s, ca_file: '%s', wait: 100ms, "+
		"headers: ['Authorization: Bearer hook-token-12345']}}}\n", receiver.URL, presenceSecret, ca))
	told := func(device string, online bool, cause string) func() bool {
		return func() bool {
			c, times := receiver.last(device)
			return times > 0 && c.Online == online && strings.Contains(c.Cause, cause)
		}
	}
	ws := h.dial("d1", h.newDevice("d1"))
	h.background("--devices", "1", "--protocol", "mqtt", "--duration", "1m")
	until(t, "d1 is told to be online", told("d1", true, ""))
	until(t, "a device that speaks MQTT is told", func() bool { return receiver.anyBy("mqtt") })
	receiver.set(true)
	_ = ws.Close()
	before := receiver.count()
	until(t, "the receiver that is away is tried", func() bool { return receiver.count() > before+1 })
	if message, status := h.part("presence webhook"); status != http.StatusOK || !strings.Contains(message, "503") {
		t.Errorf("/readyz: %d %q", status, message)
	}
	receiver.set(false)
	until(t, "d1 is told to be offline", told("d1", false, ""))

	// Killed while a device is connected, the hub tells at its next start that it is not.
	d2 := h.newDevice("d2")
	h.dial("d2", d2)
	until(t, "d2 is told to be online", told("d2", true, ""))
	online, _ := receiver.last("d2")
	var history struct {
		Readings []struct{ Values map[string]any }
	}
	readings := func(n int) func() bool {
		return func() bool {
			h.call(http.MethodGet, "/api/v1/devices/d2/telemetry?measurement=presence", nil, &history)
			return len(history.Readings) >= n
		}
	}
	until(t, "the reading of it is stored", readings(1))
	h.kill()
	h.again()
	until(t, "d2 is told to be offline after the kill", told("d2", false, "without a goodbye"))
	if offline, _ := receiver.last("d2"); offline.Version <= online.Version || offline.Session != online.Session {
		t.Errorf("online %+v, then %+v", online, offline)
	}

	until(t, "the readings are stored", readings(2))
	first, last := history.Readings[0].Values, history.Readings[len(history.Readings)-1].Values
	if fmt.Sprint(first["online"], last["online"]) != "true false" || first["transport"] != "wss" || !strings.Contains(fmt.Sprint(last["cause"]), "goodbye") || last["session"] != first["session"] {
		t.Errorf("readings %v", history.Readings)
	}
	if out, stderr, status := h.ctl("audit", "d2"); status != 0 {
		t.Errorf("the account does not add up: %s %s", out, stderr)
	}
	for _, device := range []string{"d1", "d2"} {
		if out, stderr, status := h.ctl("audit", "--deep", device); status != 0 {
			t.Errorf("the store does not hold what the account of %s says: %s%s", device, out, stderr)
		}
	}
	if err := h.terminate(); err != nil {
		t.Errorf("the end: %v", err)
	}
	h.again()
	until(t, "the metrics tell", func() bool { return strings.Contains(h.metrics(), `hub_presence_waiting{to="webhook"} 0`) })
	h.keepsSecrets(log()+h.stderr.String(), map[string]string{"the webhook's secret": presenceSecret, "its header": "hook-token-12345", "its URL's": "hunter2-swordfish"})
	if receiver.forged > 0 {
		t.Errorf("%d of %d posts are not signed rightly", receiver.forged, receiver.posts)
	}
}

// anyBy reports whether a device was told to be online by a transport.
func (r *presenceReceiver) anyBy(transport string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.told, func(c presenceChange) bool { return c.Online && c.Transport == transport })
}

func (r *presenceReceiver) set(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
}

func (r *presenceReceiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.posts
}
