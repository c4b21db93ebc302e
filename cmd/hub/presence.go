package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/api"
	"telemetryhub/devices/presence"
	"telemetryhub/wire"
)

// How changes of presence are gathered before they become readings. What waits for the journal is bounded as what waits
// for the webhook is.
const (
	readingsBatch = 500
	readingsWait  = 250 * time.Millisecond
	readingsQueue = 20_000
)

// validate notes every value that cannot be meant.
func (p PresenceConfig) validate(faults *faultList) {
	if p.Measurement != "" && !wire.IsMeasurement([]byte(p.Measurement)) {
		faults.add("devices.presence.measurement", "no measurement can have the name %q", p.Measurement)
	}
	if p.Measurement == wire.DefaultMeasurement {
		faults.add("devices.presence.measurement", "%q is that of the devices' own readings; name another, such as presence", p.Measurement)
	}
	p.Webhook.validate(faults)
}

func (w WebhookConfig) validate(faults *faultList) {
	const at = "devices.presence.webhook."
	within(faults, at+"batch", w.Batch, 1, 10_000)
	within(faults, at+"wait", w.Wait, 0, time.Minute)
	within(faults, at+"debounce", w.Debounce, 0, 10*time.Minute)
	within(faults, at+"timeout", w.Timeout, 100*time.Millisecond, 5*time.Minute)
	within(faults, at+"queue", w.Queue, 100, 1_000_000)
	if w.Queue < w.Batch {
		faults.add(at+"queue", "%d is less than batch, %d", w.Queue, w.Batch)
	}
	wantFile(faults, at+"ca_file", w.CAFile)
	if w.URL == "" {
		if w.Secret != "" || len(w.Headers) > 0 || w.CAFile != "" {
			faults.add(at+"url", "is needed with secret, headers and ca_file")
		}
		return
	}
	if err := presence.CheckURL(w.URL, w.PlainAnywhere); err != nil {
		faults.add(at+"url", "%v", err)
	}
	if w.Secret != "" {
		if _, err := presence.KeyOf(string(w.Secret)); err != nil {
			faults.add(at+"secret", "%v", err)
		}
	}
	for i, line := range w.Headers {
		if _, _, err := headerOf(string(line)); err != nil {
			faults.add(fmt.Sprintf("%sheaders[%d]", at, i), "%v", err)
		}
	}
}

// headerName is a token (RFC 9110 section 5.6.2).
var headerName = regexp.MustCompile("^[0-9A-Za-z!#$%&'*+.^_`|~-]+$")

// headerOf reads NAME: VALUE. The error does not show the value.
func headerOf(line string) (name, value string, err error) {
	name, value, ok := strings.Cut(line, ":")
	name, value = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
	switch {
	case !ok || !headerName.MatchString(name) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return "", "", errors.New("it is not NAME: VALUE")
	case name == "Host" || name == "Content-Length" || name == "Transfer-Encoding" || name == "Connection" || strings.HasPrefix(name, "Webhook-"):
		return "", "", fmt.Errorf("%s is set by the hub itself", name)
	}
	return name, value, nil
}

// openPresence comes after the sessions know what was, and before anything connects; it is closed after all that holds
// connections, so that their ends are told too, and before ingest.
func (h *hub) openPresence(ctx context.Context, kv jetstream.KeyValue) error {
	c := h.cfg.Devices.Presence
	if c.Measurement != "" {
		known := func(device string) bool {
			_, ok := h.registry.Get(device)
			return ok
		}
		cfg := presence.Config{Name: "readings", Receiver: c.Measurement, Batch: readingsBatch, Wait: readingsWait, Queue: readingsQueue}
		if err := h.follow(ctx, cfg, presence.NewReadings(c.Measurement, h.ingest, known), kv); err != nil {
			return err
		}
	}
	if c.Webhook.URL != "" {
		cfg, err := c.Webhook.webhook()
		if err != nil {
			return err
		}
		w := presence.NewWebhook(cfg)
		h.stop.add("presence webhook's connections", func(context.Context) error { w.Close(); return nil })
		hook := c.Webhook
		err = h.follow(ctx, presence.Config{
			Name: "webhook", Receiver: hook.URL, Batch: hook.Batch, Wait: hook.Wait, Debounce: hook.Debounce, Queue: hook.Queue,
		}, w, kv)
		if err != nil {
			return err
		}
	}
	h.reg.MustRegister(&presence.Metrics{Followers: h.followers})
	return nil
}

func (h *hub) follow(ctx context.Context, cfg presence.Config, teller presence.Teller, kv jetstream.KeyValue) error {
	f, err := presence.Follow(ctx, cfg, h.sessions, teller, kv, h.log)
	if err != nil {
		return err
	}
	h.followers = append(h.followers, f)
	h.stop.add("presence "+cfg.Name, f.Close)
	return nil
}

func (w WebhookConfig) webhook() (presence.WebhookConfig, error) {
	cfg := presence.WebhookConfig{URL: w.URL, Timeout: w.Timeout, Headers: map[string]string{}}
	for _, line := range w.Headers {
		name, value, err := headerOf(string(line))
		if err != nil {
			return cfg, err
		}
		cfg.Headers[name] = value
	}
	var err error
	if w.Secret != "" {
		if cfg.Key, err = presence.KeyOf(string(w.Secret)); err != nil {
			return cfg, err
		}
	}
	if w.CAFile == "" {
		return cfg, nil
	}
	text, err := os.ReadFile(w.CAFile)
	if err != nil {
		return cfg, err
	}
	if cfg.Roots = x509.NewCertPool(); !cfg.Roots.AppendCertsFromPEM(text) {
		return cfg, fmt.Errorf("devices.presence.webhook.ca_file: %s holds no certificate", w.CAFile)
	}
	return cfg, nil
}

// presenceParts says of each follower whether who it tells takes what it tells. It keeps the hub from nothing.
func (h *hub) presenceParts() (parts []api.Part) {
	for _, f := range h.followers {
		part := api.Part{Name: "presence " + f.Name(), OK: true}
		if n := f.Counts(); n.Fault != "" {
			part.Message = fmt.Sprintf("%d changes wait: %s", n.Waiting, n.Fault)
		}
		parts = append(parts, part)
	}
	return parts
}
