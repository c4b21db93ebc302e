package bridge_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
	"telemetryhub/devices"
)

// retryAfterMs reads a reason string as a device does.
func retryAfterMs(t *testing.T, reason string) int64 {
	t.Helper()
	var later struct {
		RetryAfterMs int64 `json:"retry_after_ms"`
	}
	if err := json.Unmarshal([]byte(reason), &later); err != nil {
		t.Errorf("reason string %q: %v", reason, err)
	}
	return later.RetryAfterMs
}

func TestBrokerTellsWhenToComeBack(t *testing.T) {
	for _, c := range []struct {
		reason    string
		admission devices.AdmissionConfig
		v5, v4    byte
		least     int64 // ms
	}{
		{"too_many_at_once", devices.AdmissionConfig{Rate: 0.01, Connections: 10}, 0x9F, 3, 50_000},
		{"too_many_connections", devices.AdmissionConfig{Rate: 1000, Connections: 1}, 0x97, 3, 30_000},
	} {
		t.Run(c.reason, func(t *testing.T) {
			h := newHub(t)
			h.admission = devices.NewAdmission(c.admission)
			b := openBroker(t, h)
			first := connectRaw(t, b.PlainAddr(), 5, "c", "first", h.device("first"))
			h.wantOnline("first", true, "") // CONNACK comes before
			token := h.device("second")
			r := dialRaw(t, b.PlainAddr(), 5)
			r.send(connectPacket(5, "c", "second", token))
			ack := r.want(packets.Connack)
			told := retryAfterMs(t, ack.Properties.ReasonString)
			if ack.ReasonCode != c.v5 || told < c.least {
				t.Errorf("CONNACK %#x %q, want %#x and a time", ack.ReasonCode, ack.Properties.ReasonString, c.v5)
			}
			r.wantClosed()
			events := h.sessions.Events("second")
			if len(events) != 1 || events[0].Reason != c.reason || events[0].RetryAfter != told || !strings.Contains(events[0].Message, " ") {
				t.Errorf("recorded %+v", events)
			}
			old := dialRaw(t, b.PlainAddr(), 4)
			old.send(connectPacket(4, "c", "second", token))
			if ack := old.want(packets.Connack); ack.ReasonCode != c.v4 {
				t.Errorf("CONNACK %#x in 3.1.1, want %#x", ack.ReasonCode, c.v4)
			}
			old.wantClosed()
			first.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
			h.wantOnline("first", false, "")
		})
	}
}

func TestBrokerGivesSlotsAtItsStop(t *testing.T) {
	h := newHub(t)
	h.admission = devices.NewAdmission(devices.AdmissionConfig{Rate: 10, Connections: 10})
	cfg := bridge.DefaultBrokerConfig()
	cfg.Listen, cfg.Plain = bridge.Off, "127.0.0.1:0"
	b, err := bridge.OpenBroker(cfg, nil, h.parts())
	if err != nil {
		t.Fatal(err)
	}
	a := connectRaw(t, b.PlainAddr(), 5, "c", "a", h.device("a"))
	z := connectRaw(t, b.PlainAddr(), 5, "c", "z", h.device("z"))
	h.wantOnline("a", true, "")
	h.wantOnline("z", true, "")
	h.admission.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	slots := map[int64]bool{}
	for _, r := range []*raw{a, z} {
		bye := r.want(packets.Disconnect)
		told := retryAfterMs(t, bye.Properties.ReasonString)
		if bye.ReasonCode != 0x8B || told < 1000 || told > 3000 {
			t.Errorf("DISCONNECT %#x %q", bye.ReasonCode, bye.Properties.ReasonString)
		}
		slots[told] = true
	}
	if len(slots) != 2 {
		t.Errorf("slots %v", slots)
	}
	if p := h.sessions.Presence("a"); p.Online || p.Cause != "the hub stopped" {
		t.Errorf("presence %+v", p)
	}
	if s := h.admission.Stats(); s.Connections != 0 {
		t.Errorf("stats %+v", s)
	}
}
