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
	cfg.Name, cfg.URL, cfg.CAFile, cfg.Prefix, cfg.QoS, cfg.MaxInFlight = "", "http://user:secret@host", "/nowhere/ca.pem", "a/#", 3, 0
	err := cfg.Validate()
	for _, key := range []string{"name:", "url:", "ca_file:", "prefix:", "qos:", "max_inflight:"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not in %v", key, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error quotes the password: %v", err)
	}
}
