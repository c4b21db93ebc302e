package presence_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"telemetryhub/devices/presence"
)

// hook is a real receiver over TLS, and what it got.
type hook struct {
	*httptest.Server
	got []*http.Request
	ids []string
	all []body
}

type body struct {
	Type      string
	Timestamp time.Time
	Changes   []map[string]any
	Dropped   int
	text      string
}

func newHook(t *testing.T, answer func(w http.ResponseWriter, b body)) *hook {
	t.Helper()
	h := &hook{}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		b := body{text: string(text)}
		if err := json.Unmarshal(text, &b); err != nil {
			t.Error(err)
		}
		h.got, h.all, h.ids = append(h.got, r), append(h.all, b), append(h.ids, r.Header.Get("Webhook-Id"))
		answer(w, b)
	}))
	h.Config.ErrorLog = nil
	t.Cleanup(h.Close)
	return h
}

func (h *hook) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(h.Certificate())
	return pool
}

func (h *hook) webhook(t *testing.T, cfg presence.WebhookConfig) *presence.Webhook {
	t.Helper()
	if cfg.URL == "" {
		cfg.URL = h.URL + "/in?key=hunter2-swordfish"
	}
	cfg.Timeout = 5 * time.Second
	w := presence.NewWebhook(cfg)
	t.Cleanup(w.Close)
	return w
}

func some(n int) []presence.Change {
	all := make([]presence.Change, n)
	for i := range all {
		all[i] = presence.Change{Device: "d", Online: i%2 == 0, Version: uint64(i + 1), Time: time.UnixMilli(1_700_000_000_123).UTC(), Session: "1763900000000001"}
	}
	return all
}

func TestPostsAreSignedAsStandardWebhooks(t *testing.T) {
	h := newHook(t, func(w http.ResponseWriter, _ body) { w.WriteHeader(http.StatusNoContent) })
	secret := []byte("0123456789abcdef0123456789abcdef")
	key, err := presence.KeyOf("whsec_" + base64.StdEncoding.EncodeToString(secret))
	if err != nil || string(key) != string(secret) {
		t.Fatal(err)
	}
	w := h.webhook(t, presence.WebhookConfig{Key: key, Roots: h.roots(), Headers: map[string]string{"Authorization": "Bearer abc"}})
	if err := w.Tell(t.Context(), some(2), 7); err != nil {
		t.Fatal(err)
	}
	r, b := h.got[0], h.all[0]
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(r.Header.Get("Webhook-Id") + "." + r.Header.Get("Webhook-Timestamp") + "." + b.text))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); r.Header.Get("Webhook-Signature") != want {
		t.Errorf("signature %q, want %q", r.Header.Get("Webhook-Signature"), want)
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Authorization") != "Bearer abc" || r.URL.RawQuery != "key=hunter2-swordfish" {
		t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
	}
	if b.Type != "presence" || b.Dropped != 7 || len(b.Changes) != 2 || b.Changes[0]["device"] != "d" || fmt.Sprint(b.Changes[0]["online"], b.Changes[1]["online"]) != "true false" ||
		b.Changes[0]["time"] != "2023-11-14T22:13:20.123Z" || b.Changes[0]["session"] != "1763900000000001" {
		t.Errorf("body %s", b.text)
	}
	_ = w.Tell(t.Context(), some(2), 7)
	if h.ids[0] == "" || h.ids[0] != h.ids[1] {
		t.Errorf("the same changes have the ids %v", h.ids)
	}
}

// The example of the specification (standardwebhooks.com, "Signature scheme").
func TestTheSpecificationsOwnSignature(t *testing.T) {
	key, err := presence.KeyOf("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := presence.Sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, bad := range []string{"", "short", "whsec_", "whsec_!!", "whsec_YWJj"} {
		if _, err := presence.KeyOf(bad); err == nil {
			t.Errorf("the secret %q is taken", bad)
		}
	}
}

func TestAnswersOfReceivers(t *testing.T) {
	for _, c := range []struct {
		name    string
		status  int
		header  string
		refused bool
		after   time.Duration
	}{
		{"taken", 200, "", false, 0},
		{"accepted", 202, "", false, 0},
		{"overloaded", 503, "7", false, 7 * time.Second},
		{"too many", 429, "3600", false, time.Hour},
		{"nonsense", 503, "soon", false, 0},
		{"wrong credentials", 401, "", false, 0},
		{"not there", 404, "", false, 0},
		{"bad", 400, "", true, 0},
		{"unprocessable", 422, "", true, 0},
		{"too large, one", 413, "", true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHook(t, func(w http.ResponseWriter, _ body) {
				w.Header().Set("Retry-After", c.header)
				w.WriteHeader(c.status)
			})
			err := h.webhook(t, presence.WebhookConfig{Roots: h.roots()}).Tell(t.Context(), some(1), 0)
			refused, isRefused := errors.AsType[*presence.RefusedError](err)
			later, isLater := errors.AsType[*presence.LaterError](err)
			switch {
			case c.status < 300 && err != nil, c.refused != isRefused, c.status >= 300 && !c.refused && (!isLater || later.After != c.after):
				t.Errorf("%v, %v", err, refused)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("the error shows the URL's secret: %v", err)
			}
			if h.got[0].Header.Get("Webhook-Signature") != "" {
				t.Error("signed without a secret")
			}
		})
	}
}

func TestTooLargePostsAreHalved(t *testing.T) {
	h := newHook(t, func(w http.ResponseWriter, b body) {
		if len(b.Changes) > 3 {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	})
	if err := h.webhook(t, presence.WebhookConfig{Roots: h.roots()}).Tell(t.Context(), some(10), 5); err != nil {
		t.Fatal(err)
	}
	var taken []any
	dropped, ids := 0, map[string]bool{}
	for i, b := range h.all {
		if len(b.Changes) > 3 {
			continue
		}
		dropped += b.Dropped
		ids[h.ids[i]] = true
		for _, c := range b.Changes {
			taken = append(taken, c["version"])
		}
	}
	for i, version := range taken {
		if version != float64(i+1) {
			t.Errorf("taken %v", taken)
			break
		}
	}
	if len(taken) != 10 || dropped != 5 || len(ids) != 4 {
		t.Errorf("%d changes in %d posts, %d dropped", len(taken), len(ids), dropped)
	}
}

func TestNoRedirectIsFollowed(t *testing.T) {
	inner := newHook(t, func(http.ResponseWriter, body) {})
	for _, status := range []int{301, 302, 307, 308} {
		h := newHook(t, func(w http.ResponseWriter, _ body) {
			w.Header().Set("Location", inner.URL)
			w.WriteHeader(status)
		})
		pool := h.roots()
		pool.AddCert(inner.Certificate())
		err := h.webhook(t, presence.WebhookConfig{Roots: pool, Headers: map[string]string{"Authorization": "Bearer abc"}}).Tell(t.Context(), some(1), 0)
		if err == nil || !strings.Contains(err.Error(), "answers 30") {
			t.Errorf("%d: %v", status, err)
		}
	}
	if len(inner.got) > 0 {
		t.Errorf("a redirect was followed: %v", inner.got[0].Header)
	}
}

func TestAReceiverMustProveWhoItIs(t *testing.T) {
	h := newHook(t, func(http.ResponseWriter, body) {})
	err := h.webhook(t, presence.WebhookConfig{}).Tell(t.Context(), some(1), 0)
	if len(h.got) > 0 || err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a certificate that nobody trusts: %v, %d posts", err, len(h.got))
	}
	h.Close()
	if err := h.webhook(t, presence.WebhookConfig{Roots: h.roots()}).Tell(t.Context(), some(1), 0); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("nobody is there: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.webhook(t, presence.WebhookConfig{Roots: h.roots()}).Tell(ended, some(1), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}

func TestURLsOfWebhooks(t *testing.T) {
	for text, ok := range map[string]bool{
		"https://example.net/in?a=b": true, "http://127.0.0.1:8080/": true, "http://localhost": true, "http://[::1]:1/": true,
		"http://example.net/": false, "http://10.0.0.1/": false, "ftp://example.net/": false, "example.net": false, "": false,
		"https://user:hunter2@example.net": false, "https://example.net/#x": false, "https:///path": false, "mailto:a@b": false, "http://127.0.0.1.evil.example/": false,
	} {
		if err := presence.CheckURL(text, false); (err == nil) != ok || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := presence.CheckURL("http://receiver:8080/", true); err != nil {
		t.Error(err)
	}
}
