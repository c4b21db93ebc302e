package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAFlippedBitInTheRegistryCostsNoDeviceItsPlace kills the hub and flips a bit within a device's name.
func TestAFlippedBitInTheRegistryCostsNoDeviceItsPlace(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	token := h.newDevice("pump-1")
	h.newDevice("pump-2")
	h.kill()
	path := filepath.Join(h.data, "jetstream", "jetstream", "$G", "streams", "KV_devices", "msgs", "1.blk")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte("pump-1"))
	if at < 0 {
		t.Fatalf("no device in %s", path)
	}
	data[at+2] ^= 4
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	h.again()
	h.post("pump-1", token, `{"x":1}`)
	var ready struct {
		Ready bool
		Parts []struct{ Name, Message string }
	}
	h.call(http.MethodGet, "/readyz", nil, &ready)
	said := false
	for _, p := range ready.Parts {
		said = said || p.Name == "nats" && strings.Contains(p.Message, "1 records were put right, 0 are lost")
	}
	if !ready.Ready || !said {
		t.Errorf("readyz: %+v", ready)
	}
	if metrics := h.metrics(); !strings.Contains(metrics, `hub_damaged_records_total{outcome="restored",stream="KV_devices"} 1`) {
		t.Errorf("metrics say nothing of it:\n%s", metrics)
	}
}

// metrics is what Prometheus would be given.
func (h *hubProcess) metrics() string {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.url+"/metrics", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+h.token())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: h.tls()}}
	defer client.CloseIdleConnections()
	answer, err := client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}
