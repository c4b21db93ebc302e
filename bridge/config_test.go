package bridge_test

import (
	"strings"
	"testing"
	"time"

	"telemetryhub/bridge"
)

func TestBrokerConfigReportsAllFaults(t *testing.T) {
	cfg := bridge.DefaultBrokerConfig()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg.Listen, cfg.Plain, cfg.MaxFrame, cfg.Handshake, cfg.MaxKeepalive = "8883", "0.0.0.0:1883", 1, time.Millisecond, 100*time.Hour
	err := cfg.Validate()
	for _, key := range []string{"listen:", "plain_listen:", "max_frame:", "handshake_timeout:", "max_keepalive:"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not in %v", key, err)
		}
	}
	cfg = bridge.DefaultBrokerConfig()
	cfg.Plain = "0.0.0.0:1883"
	if _, err := bridge.OpenBroker(cfg, nil, bridge.Hub{}); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("a plain listener on all addresses: %v", err)
	}
}

func TestExternalConfigReportsAllFaults(t *testing.T) {
	cfg := externalConfig("mqtt://127.0.0.1:1883")
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg.Name, cfg.URL, cfg.TLS.CAFile, cfg.Prefix, cfg.QoS, cfg.Window.Messages = "", "http://user:secret@host", "/nowhere/ca.pem", "a/#", 3, 0
	cfg.Headers, cfg.TLS.CertFile, cfg.Share, cfg.StatusTopic = map[string]string{"a": "b"}, "/nowhere/hub.pem", "a/b", "hubs/#"
	cfg.Window.Bytes, cfg.Window.MaxPayload = 1, 1
	cfg.Timing = bridge.ExternalTiming{}
	err := cfg.Validate()
	for _, key := range []string{
		"name:", "url:", "ca_file:", "prefix:", "qos:", "max_inflight:", "headers:", "cert_file, key_file:", "cert_file:", "share:", "status_topic:",
		"max_inflight_bytes:", "max_payload:", "idle:", "connect_timeout:", "keepalive:", "retry_min, retry_max:", "user belongs into username",
	} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not in %v", key, err)
		}
	}
	cfg = externalConfig("mqtt://127.0.0.1:1883")
	cfg.TLS.ServerName, cfg.StatusTopic, cfg.Username = "a", "devices/sensor-1/state", ""
	for _, want := range []string{"mqtt:// has no TLS", "its own word for theirs", "no password without a username"} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error quotes the password: %v", err)
	}
}
