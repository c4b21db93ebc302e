package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// fakeBroker is as much of the hub's broker as a device needs: it puts telemetry into the fake hub before it sends
// PUBACK, and drops the connection after so many publications: lost, then stored and not acknowledged, in turn.
type fakeBroker struct {
	hub      *fakeHub
	listener net.Listener
	cutEvery int
	running  sync.WaitGroup

	mu    sync.Mutex
	seen  int
	conns map[string]net.Conn
}

func newFakeBroker(t *testing.T, hub *fakeHub) *fakeBroker {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBroker{hub: hub, listener: listener, conns: map[string]net.Conn{}}
	b.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			b.running.Go(func() { b.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		b.running.Wait()
	})
	return b
}

func (b *fakeBroker) args(more ...string) []string {
	return b.hub.args(append(more, "--protocol", "mqtt", "--mqtt-url", "tcp://"+b.listener.Addr().String())...)
}

func (b *fakeBroker) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	id := ""
	for {
		packet, err := packets.ReadPacket(conn)
		if err != nil {
			return
		}
		switch p := packet.(type) {
		case *packets.ConnectPacket:
			id = p.Username
			ack := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
			b.hub.mu.Lock()
			if b.hub.tokens[id] == "" || b.hub.tokens[id] != string(p.Password) || p.ClientIdentifier != id {
				ack.ReturnCode = packets.ErrRefusedNotAuthorised
			}
			b.hub.mu.Unlock()
			_ = ack.Write(conn)
		case *packets.SubscribePacket:
			ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			ack.MessageID, ack.ReturnCodes = p.MessageID, []byte{1}
			_ = ack.Write(conn)
			b.mu.Lock()
			b.conns[id] = conn
			b.mu.Unlock()
			b.hub.joined <- id
		case *packets.PublishPacket:
			if !b.publish(conn, id, p) {
				return
			}
		case *packets.DisconnectPacket:
			return
		}
	}
}

func (b *fakeBroker) publish(conn net.Conn, id string, p *packets.PublishPacket) bool {
	b.mu.Lock()
	b.seen++
	cut := b.cutEvery > 0 && b.seen%b.cutEvery == 0
	lost := cut && b.seen/b.cutEvery%2 == 1
	b.mu.Unlock()
	if lost {
		return false
	}
	switch p.TopicName {
	case "devices/" + id + "/telemetry":
		var t fakeTelemetry
		b.hub.mu.Lock()
		if json.Unmarshal(p.Payload, &t) != nil {
			b.hub.counts[id]["refused"]++
		} else {
			if t.Seq > 0 && t.Boot == "" {
				b.hub.t.Errorf("%s: seq without boot: %s", id, p.Payload)
			}
			b.hub.take(id, t)
		}
		b.hub.mu.Unlock()
	case "devices/" + id + "/response":
		var answer map[string]any
		_ = json.Unmarshal(p.Payload, &answer)
		b.hub.answers <- answer
	case "devices/" + id + "/state":
		var reported map[string]any
		if json.Unmarshal(p.Payload, &reported) != nil || reported["model"] != "device-sim" {
			b.hub.t.Errorf("%s reports %s", id, p.Payload)
		}
	default:
		b.hub.t.Errorf("%s publishes on %s", id, p.TopicName)
	}
	if cut {
		return false
	}
	if p.Qos > 0 {
		ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
		ack.MessageID = p.MessageID
		_ = ack.Write(conn)
	}
	return true
}

func (b *fakeBroker) command(device, payload string) map[string]any {
	publish := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	publish.TopicName, publish.Payload = "devices/"+device+"/command", []byte(payload)
	b.mu.Lock()
	conn := b.conns[device]
	b.mu.Unlock()
	_ = publish.Write(conn)
	return <-b.hub.answers
}

func TestReplayOverMQTT(t *testing.T) {
	b := newFakeBroker(t, newFakeHub(t))
	s, err := testRun(t, b.args("--replay", realFiles(t)[2], "--speed", "0", "--verify"))
	if err != nil {
		t.Fatal(err)
	}
	wantJudged(t, s, 0, 0)
	if s.Sent != 1507 || s.Devices != 5 || s.Reconnects != 0 {
		t.Errorf("%+v", s)
	}
}

func TestMQTTThroughCutConnections(t *testing.T) {
	b := newFakeBroker(t, newFakeHub(t))
	b.cutEvery = 40
	s, err := testRun(t, b.args("--devices", "5", "--rate", "100", "--duration", "1s", "--batch", "2", "--verify",
		"--faults", "duplicate,bad-type,bad-frame,half-open,clock"))
	if err != nil {
		t.Fatal(err)
	}
	wantJudged(t, s, 0, 0)
	if s.Reconnects == 0 || b.hub.count("duplicate") == 0 {
		t.Errorf("%+v, %d resent; want reconnections and resent readings", s, b.hub.count("duplicate"))
	}
}

func TestCommandsOverMQTT(t *testing.T) {
	b := newFakeBroker(t, newFakeHub(t))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- run(ctx, b.args("--devices", "1", "--rate", "20"), io.Discard, io.Discard) }()
	device := <-b.hub.joined
	if a := b.command(device, `{"jsonrpc":"2.0","id":"C1","method":"ping"}`); a["id"] != "C1" || !strings.Contains(jsonOf(t, a["result"]), `"pong":true`) {
		t.Errorf("ping: %v", a)
	}
	if a := b.command(device, `{"jsonrpc":"2.0","id":"C2","method":"fly"}`); !strings.Contains(jsonOf(t, a["error"]), "-32601") {
		t.Errorf("unknown: %v", a)
	}
	if a := b.command(device, `{"jsonrpc":"2.0","id":"C3","method":"reboot"}`); a["id"] != "C3" {
		t.Errorf("reboot: %v", a)
	}
	<-b.hub.joined
	if a := b.command(device, `{"jsonrpc":"2.0","id":"C4","method":"ping"}`); a["id"] != "C4" {
		t.Errorf("ping after the reboot: %v", a)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func jsonOf(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
