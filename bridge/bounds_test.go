package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/bridge"
	"telemetryhub/wire"
)

// laden is a message with empty user properties, which have 5 bytes each on the wire.
func laden(topic, payload string, properties int, retain bool) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: retain}, TopicName: topic, Payload: []byte(payload), PacketID: 1}
	pk.Properties.User = make([]packets.UserProperty, properties)
	return pk
}

func TestEmptyUserPropertiesCount(t *testing.T) {
	h := newHub(t)
	cfg := plant()
	cfg.MaxRetainedBytes, cfg.MaxQueuedBytes = 2000, 2000
	b := openBrokerOf(t, h, cfg)
	press := connectRaw(t, b.PlainAddr(), 5, "p", "press-1", h.device("press-1"))
	press.send(laden("plant/press-1/mode", "x", 100, true))
	if ack := press.want(packets.Puback); ack.ReasonCode != 0x97 {
		t.Errorf("PUBACK %#x to a retained message of 3.2 kB", ack.ReasonCode)
	}
	token := h.display("display-1")
	connect := lasting(5, "d", "display-1", token, 100)
	display, _ := dial(t, b, 5, connect)
	display.subscribe(1, "plant/#")
	_ = display.conn.Close()
	h.wantOnline("display-1", false, "")
	for i := range 5 {
		press.send(laden("plant/press-1/mode", fmt.Sprint(i), 40, false))
		if ack := press.want(packets.Puback); ack.ReasonCode != 0 {
			t.Fatalf("PUBACK %#x", ack.ReasonCode)
		}
	}
	// What counts for more in memory still fits into a packet of its size on the wire.
	connect.Properties.MaximumPacketSize = 48 + 5*40 + uint32(len("plant/press-1/mode")) + 1
	display, _ = dial(t, b, 5, connect)
	if pk := display.wantMessage("plant/press-1/mode", "4", 1, false); len(pk.Properties.User) != 40 {
		t.Errorf("%d user properties", len(pk.Properties.User))
	}
	display.sync()
}

// A device that never releases what was taken is cut off, over connections and in MQTT 3.1.1 too.
func TestBrokerBoundsWhatWaitsForRelease(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		b := openBroker(t, h)
		connect := lasting(version, "c", "sensor-1", h.device("sensor-1"), 100)
		r, _ := dial(t, b, version, connect)
		take := func(n int) {
			t.Helper()
			for range n {
				r.publish("devices/sensor-1/telemetry", `{"n":1}`, 2, false)
				r.want(packets.Pubrec)
			}
		}
		take(600)
		_ = r.conn.Close()
		h.wantOnline("sensor-1", false, "")
		next, _ := dial(t, b, version, connect)
		next.lastID = r.lastID
		r = next
		for range 600 {
			r.want(packets.Pubrec) // sent again
		}
		take(424)
		r.publish("devices/sensor-1/telemetry", `{"n":1}`, 2, false)
		if version == 5 {
			if pk := r.want(packets.Disconnect); pk.ReasonCode != 0x93 {
				t.Errorf("DISCONNECT %#x", pk.ReasonCode)
			}
		}
		r.wantClosed()
		if p := h.wantOnline("sensor-1", false, ""); p.Cause != packets.ErrReceiveMaximum.Reason {
			t.Errorf("cause %q", p.Cause)
		}
	}
}

// The bucket of retained messages keeps nothing of the topics that have none any more.
func TestRemovedRetainedMessagesLeaveNothing(t *testing.T) {
	h := newHub(t)
	cfg := plant()
	b := openBrokerOf(t, h, cfg)
	press := connectRaw(t, b.PlainAddr(), 5, "p", "press-1", h.device("press-1"))
	change := func(n int, payload string) {
		t.Helper()
		for i := range n {
			press.publish(fmt.Sprint("plant/press-1/", i), payload, 1, true)
			press.want(packets.Puback)
		}
	}
	wantKept := func(want uint64) {
		t.Helper()
		stream, err := h.js.Stream(t.Context(), "KV_retained")
		if err != nil {
			t.Fatal(err)
		}
		if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != want {
			t.Errorf("the bucket has %d messages and markers, want %d; %v", info.State.Msgs, want, err)
		}
	}
	change(1000, "x")
	change(999, "")
	wantKept(1000)
	press.publish("plant/press-1/999", "", 1, true)
	press.want(packets.Puback)
	wantKept(0)
	change(2, "x")
	change(1, "")
	wantKept(2)
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.metrics = prometheus.NewRegistry()
	openBrokerOf(t, h, cfg)
	wantKept(1)
}

// doubtfulBucket writes, and says that it did not.
type doubtfulBucket struct{ jetstream.KeyValue }

func (d doubtfulBucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	_, err := d.KeyValue.Put(ctx, key, value)
	return 0, errors.Join(err, context.DeadlineExceeded)
}

// A retained message whose write failed may be in the bucket; removing it removes it there too.
func TestRemovingWhatWasPerhapsRetained(t *testing.T) {
	h := newHub(t)
	cfg := plant()
	bucket := h.retained
	h.retained = doubtfulBucket{bucket}
	b := openBrokerOf(t, h, cfg)
	token := h.device("press-1")
	press := connectRaw(t, b.PlainAddr(), 5, "p", "press-1", token)
	press.publish("plant/press-1/mode", "run", 1, true)
	if pk := press.want(packets.Disconnect); pk.ReasonCode != 0x88 {
		t.Errorf("DISCONNECT %#x", pk.ReasonCode)
	}
	if keys, err := bucket.Keys(t.Context()); err != nil || len(keys) != 1 {
		t.Fatalf("keys %v, %v", keys, err)
	}
	press = connectRaw(t, b.PlainAddr(), 5, "p", "press-1", token)
	press.publish("plant/press-1/mode", "", 1, true)
	if ack := press.want(packets.Puback); ack.ReasonCode != 0x10 {
		t.Errorf("PUBACK %#x", ack.ReasonCode)
	}
	if keys, err := bucket.Keys(t.Context()); !errors.Is(err, jetstream.ErrNoKeysFound) {
		t.Errorf("keys %v, %v; want none", keys, err)
	}
}

// faultySink has a fault that a message reaches.
type faultySink struct{ bridge.Sink }

func (faultySink) AppendWithin(context.Context, string, *wire.Telemetry, int64, wire.Waiter) (uint64, error) {
	panic("a fault of the test")
}

// A last will that meets a fault costs what a PUBLISH would, and not the hub.
func TestAFaultInALastWillEndsNothingElse(t *testing.T) {
	h := newHub(t)
	parts := h.parts()
	parts.Sink = faultySink{h.journal}
	cfg := bridge.DefaultBrokerConfig()
	cfg.Listen, cfg.Plain = bridge.Off, "127.0.0.1:0"
	b, err := bridge.OpenBroker(cfg, nil, parts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	token := h.device("sensor-1")
	connect := connectPacket(5, "c", "sensor-1", token)
	connect.Connect.WillFlag, connect.Connect.WillTopic, connect.Connect.WillPayload = true, "devices/sensor-1/telemetry", []byte(`{"n":1}`)
	r, _ := dial(t, b, 5, connect)
	r.sync()
	_ = r.conn.Close()
	h.wantOnline("sensor-1", false, "")
	if n := faults(t, h.metrics); n != 1 {
		t.Errorf("%v faults, want that of the will", n)
	}
	connectRaw(t, b.PlainAddr(), 5, "c", "sensor-1", token).sync()
}
