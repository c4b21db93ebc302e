package bridge_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/wire"
)

func TestBrokerSendsCommandsOnlyToASubscriber(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	r := connectRaw(t, b.PlainAddr(), 4, "c", "sensor-1", h.device("sensor-1"))
	h.wantOnline("sensor-1", true, "")
	if err := h.send("sensor-1", wire.Command{ID: "A", Method: "ping", Attempt: 1}); err == nil || !strings.Contains(err.Error(), "not subscribed") {
		t.Fatalf("error %v, want not subscribed", err)
	}
	if n := len(h.answers.ready); n != 0 {
		t.Error("the session took commands before it subscribed")
	}
	r.subscribe(1, "devices/sensor-1/command")
	next(t, "readiness", h.answers.ready)
	if err := h.send("sensor-1", wire.Command{ID: "B", Method: "set", Params: json.RawMessage(`{"on":true}`), Attempt: 1}); err != nil {
		t.Fatal(err)
	}
	pk := r.want(packets.Publish)
	if pk.FixedHeader.Qos != 0 || pk.FixedHeader.Retain || pk.TopicName != "devices/sensor-1/command" {
		t.Errorf("command came with %+v on %s, want QoS 0, not retained", pk.FixedHeader, pk.TopicName)
	}
	if want := `{"jsonrpc":"2.0","id":"B","method":"set","params":{"on":true},"attempt":1}`; string(pk.Payload) != want {
		t.Errorf("command %s\nwant %s", pk.Payload, want)
	}
	r.publish("devices/sensor-1/response", `{"method":"progress","params":{"id":"B","percent":40,"message":"turns"}}`, 1, false)
	r.want(packets.Puback)
	if p := next(t, "progress", h.answers.progress); p.ID != "B" || p.Status != wire.ProgressRunning || p.Percent != 40 || p.Message != "turns" {
		t.Errorf("progress %+v", p)
	}
	r.publish("devices/sensor-1/response", `{"id":"B","result":{"on":true}}`, 1, false)
	r.want(packets.Puback)
	if a := next(t, "answer", h.answers.answered); a.ID != "B" || string(a.Result) != `{"on":true}` {
		t.Errorf("answer %+v", a)
	}
	r.publish("devices/sensor-1/response", `{"id":"B","error":{"code":-32601,"message":"unknown"}}`, 0, false)
	if a := next(t, "answer", h.answers.answered); a.Code != -32601 {
		t.Errorf("answer %+v", a)
	}
	_ = r.conn.Close()
	h.wantOnline("sensor-1", false, "")
	if err := h.send("sensor-1", wire.Command{ID: "C", Method: "ping", Attempt: 1}); err == nil {
		t.Error("a command went to nobody")
	}
}

func TestBrokerSendsAtLeastOnceCommandsWithinTheDevicesWindow(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token := h.device("sensor-1")
	r := dialRaw(t, b.PlainAddr(), 5)
	hello := connectPacket(5, "c", "sensor-1", token)
	hello.Connect.Clean = false
	hello.Properties.ReceiveMaximum = 2
	hello.Properties.SessionExpiryInterval, hello.Properties.SessionExpiryIntervalFlag = 600, true
	r.send(hello)
	r.want(packets.Connack)
	r.subscribe(1, "devices/sensor-1/#")
	cmd := wire.Command{ID: "A", Method: "open", Attempt: 1, AtLeastOnce: true, Expires: time.Now().Add(90 * time.Second), TTL: 90 * time.Second}
	var ids []uint16
	for range 2 {
		if err := h.send("sensor-1", cmd); err != nil {
			t.Fatal(err)
		}
		pk := r.want(packets.Publish)
		if pk.Properties.ResponseTopic != "devices/sensor-1/response" || string(pk.Properties.CorrelationData) != "A" {
			t.Errorf("response topic %q, correlation %q", pk.Properties.ResponseTopic, pk.Properties.CorrelationData)
		}
		if pk.FixedHeader.Qos != 1 || pk.Properties.MessageExpiryInterval != 90 {
			t.Errorf("command with %+v and expiry %d s, want QoS 1 and 90 s", pk.FixedHeader, pk.Properties.MessageExpiryInterval)
		}
		ids = append(ids, pk.PacketID)
	}
	if err := h.send("sensor-1", cmd); err == nil || !strings.Contains(err.Error(), "acknowledged") {
		t.Fatalf("a third unacknowledged command: %v", err)
	}
	// The device's own messages have packet ids of their own.
	r.lastID = ids[0] - 1
	if id := r.publish("devices/sensor-1/telemetry", `{"Temp":1}`, 1, false); id != ids[0] {
		t.Fatal(id)
	}
	r.want(packets.Puback)
	r.lastID = ids[0] - 1
	if codes := r.subscribe(1, "devices/sensor-1/command"); codes[0] != 1 {
		t.Errorf("SUBACK %#x while a command of the same packet id is in flight", codes)
	}
	r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: ids[0]})
	r.sync()
	if err := h.send("sensor-1", cmd); err != nil {
		t.Fatalf("after an acknowledgement: %v", err)
	}
	r.want(packets.Publish)

	// One that has ended holds no place, though it is never acknowledged.
	if err := h.send("sensor-1", cmd); err == nil {
		t.Fatal("a third unacknowledged command")
	}
	session, _ := h.sessions.Online("sensor-1")
	h.sessions.Ended("sensor-1", session, "another")
	if err := h.send("sensor-1", cmd); err == nil {
		t.Fatal("the end of another command made room")
	}
	h.sessions.Ended("sensor-1", session, cmd.ID)
	for range 2 {
		if err := h.send("sensor-1", cmd); err != nil {
			t.Fatalf("after the command's end: %v", err)
		}
		r.want(packets.Publish)
	}

	// The session outlives the connection, with its subscriptions; commands in flight are the ledger's to send again.
	_ = r.conn.Close()
	h.wantOnline("sensor-1", false, "")
	r = dialRaw(t, b.PlainAddr(), 5)
	r.send(hello)
	if ack := r.want(packets.Connack); !ack.SessionPresent {
		t.Error("the session is gone")
	}
	r.sync()
	cmd.ID, cmd.Attempt = "D", 2
	if err := h.send("sensor-1", cmd); err != nil {
		t.Fatal(err)
	}
	if pk := r.want(packets.Publish); !strings.Contains(string(pk.Payload), `"id":"D"`) || pk.FixedHeader.Dup {
		t.Errorf("got %s, dup %v", pk.Payload, pk.FixedHeader.Dup)
	}
}

func TestBrokerRefusesCommandsToADeviceThatDoesNotRead(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	r := connectRaw(t, b.PlainAddr(), 5, "c", "sensor-1", h.device("sensor-1"))
	r.subscribe(0, "devices/sensor-1/command")
	other := connectRaw(t, b.PlainAddr(), 4, "c", "sensor-2", h.device("sensor-2"))
	other.subscribe(0, "devices/sensor-2/command")
	cmd := wire.Command{ID: "A", Method: "set", Params: json.RawMessage(`"` + strings.Repeat("x", 60<<10) + `"`), Attempt: 1}
	var err error
	for written := uint64(0); ; { // until queue and socket buffers are full
		if err = h.send("sensor-1", cmd); err == nil {
			continue
		}
		<-time.After(50 * time.Millisecond)
		now := b.Stats().Commands
		if now == written {
			break
		}
		written = now
	}
	if err == nil || !strings.Contains(err.Error(), "does not read") {
		t.Fatalf("error %v, want that the device does not read", err)
	}
	if err := h.send("sensor-2", wire.Command{ID: "B", Method: "ping", Attempt: 1}); err != nil {
		t.Fatal(err)
	}
	other.want(packets.Publish) // a slow device holds up nobody else
	// And is replaced at once, though a write to it is under way.
	token := mustToken(t, h, "sensor-1")
	began := time.Now()
	again := connectRaw(t, b.PlainAddr(), 4, "c", "sensor-1", token)
	again.sync()
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the takeover took %s while the older connection did not read", took)
	}
}

func mustToken(t *testing.T, h *hub, device string) string {
	t.Helper()
	token, err := h.registry.NewToken(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestBrokerRefusesACommandThatIsTooLargeForTheDevice(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	r := dialRaw(t, b.PlainAddr(), 5)
	hello := connectPacket(5, "c", "sensor-1", h.device("sensor-1"))
	hello.Properties.MaximumPacketSize = 2048
	r.send(hello)
	r.want(packets.Connack)
	r.subscribe(0, "devices/sensor-1/command")
	if err := h.send("sensor-1", wire.Command{ID: "A", Method: "set", Params: json.RawMessage(`"` + strings.Repeat("x", 4096) + `"`), Attempt: 1}); err == nil || !strings.Contains(err.Error(), "2048") {
		t.Errorf("error %v, want the limit", err)
	}
	r.sync()
}
