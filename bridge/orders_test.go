package bridge_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
	"telemetryhub/bridge/maps"
	"telemetryhub/wire"
)

// fieldBroker is a broker with the device plug-1 behind it, both played by hand: the hub's QoS 1 messages are acknowledged
// when the test says so.
type fieldBroker struct {
	*raw
	t         *testing.T
	h         *hub
	e         *bridge.External
	published chan published
	lastID    uint16
}

// published is what the hub has published.
type published struct {
	topic, payload string
	id             uint16
}

// openField connects a hub to a broker by hand, and lets plug-1 say its first word.
func openField(t *testing.T, h *hub) *fieldBroker {
	t.Helper()
	for _, id := range []string{"plug-1", "plug-2"} {
		h.device(id)
	}
	conns := make(chan *raw, 1)
	b := &fieldBroker{t: t, h: h, published: make(chan published, 100)}
	cfg := externalConfig(playBroker(t, func(r *raw) {
		if !r.welcome(false) {
			return
		}
		conns <- r
		for {
			first, body, err := r.packet()
			if err != nil {
				return
			}
			switch first >> 4 {
			case packets.Pingreq:
				_, _ = r.conn.Write([]byte{0xd0, 0})
			case packets.Publish:
				size := 2 + int(binary.BigEndian.Uint16(body))
				p := published{topic: string(body[2:size])}
				if first&6 != 0 {
					p.id = binary.BigEndian.Uint16(body[size:])
					size += 2
				}
				p.payload = string(body[size:])
				b.published <- p
			}
		}
	}))
	group := plugs()
	group.Commands = append(group.Commands, maps.Command{
		Method: "wake", Topic: "cmnd/{device}/WAKE", DoneWhen: &maps.Done{Fields: map[string]string{"online": "true"}, Within: time.Minute},
	})
	cfg.Maps, cfg.Foreign = []maps.Group{group}, true
	b.e = openExternal(t, h, cfg)
	b.raw = next(t, "connection", conns)
	b.say("tele/plug-1/BUTTON", `{"action":"single"}`)
	h.wantOnline("plug-1", true, "")
	h.wantReady("plug-1")
	return b
}

// say lets a device publish with QoS 1.
func (b *fieldBroker) say(topic, payload string) {
	b.t.Helper()
	b.lastID++
	if err := b.message(topic, payload, 1, b.lastID, false); err != nil {
		b.t.Fatal(err)
	}
}

// taken waits until the hub has dealt with all that was said, so many messages.
func (b *fieldBroker) taken(count uint64) {
	b.t.Helper()
	wantStats(b.t, b.e, fmt.Sprintf("%d messages taken", count), func(s bridge.ExternalStats) bool { return s.Acked == count && s.InFlight == 0 })
}

func (b *fieldBroker) send(cmd wire.Command, method, params string) {
	b.t.Helper()
	cmd.Method, cmd.Params = method, json.RawMessage(params)
	if err := b.h.send("plug-1", cmd); err != nil {
		b.t.Fatal(err)
	}
}

// stall has the hub wait for the acknowledgement of a command, which resume gives: what is sent meanwhile waits.
func (b *fieldBroker) stall() (resume func()) {
	b.t.Helper()
	b.send(wire.Command{ID: "first", Attempt: 1, AtLeastOnce: true}, "deaf", "")
	p := b.wantPublished("DEAF", "")
	return func() {
		if _, err := b.conn.Write([]byte{packets.Puback << 4, 2, byte(p.id >> 8), byte(p.id)}); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *fieldBroker) wantPublished(what, payload string) published {
	b.t.Helper()
	p := next(b.t, "command", b.published)
	if p.topic != "cmnd/plug-1/"+what || p.payload != payload {
		b.t.Fatalf("published %s %s, want %s %s", p.topic, p.payload, what, payload)
	}
	return p
}

func (b *fieldBroker) wantAnswer(id, want string) {
	b.t.Helper()
	if a := next(b.t, "answer", b.h.answers.answered); a.ID != id || string(a.Result) != want {
		b.t.Errorf("answer %s %s, want %s %s", a.ID, a.Result, id, want)
	}
}

// TestMappedCommandsThatAreOverAreNotPublished holds that what expires or ends while the broker keeps the hub waiting is
// not sent afterwards.
func TestMappedCommandsThatAreOverAreNotPublished(t *testing.T) {
	h := newHub(t)
	b := openField(t, h)
	resume := b.stall()
	b.send(wire.Command{ID: "expired", Expires: time.Now().Add(-time.Second)}, "power", `{"state":"1"}`)
	b.send(wire.Command{ID: "ended"}, "power", `{"state":"2"}`)
	b.send(wire.Command{ID: "open", Expires: time.Now().Add(time.Hour)}, "power", `{"state":"3"}`)
	h.ended("plug-1", "ended")
	h.ended("plug-1", "first")
	resume()
	b.wantPublished("POWER", "3")

	// So it is with what waits when the session ends.
	resume = b.stall()
	b.send(wire.Command{ID: "lost"}, "power", `{"state":"4"}`)
	b.say("tele/plug-1/LWT", "Offline")
	h.wantOnline("plug-1", false, "")
	b.say("tele/plug-1/LWT", "Online")
	h.wantOnline("plug-1", true, "")
	b.send(wire.Command{ID: "new"}, "power", `{"state":"5"}`)
	resume()
	b.wantPublished("POWER", "5")
	if late := h.metric(t, "hub_bridge_commands_late_total"); late != 3 {
		t.Errorf("%v are counted as late, want 3", late)
	}
	b.say("stat/plug-1/RESULT", `{"POWER":"5"}`)
	b.wantAnswer("new", `"5"`)
}

// TestMappedCommandsAreNotDoneByWhatWasBefore holds that a message is not taken for the outcome of a command that it is
// older than, or may be.
func TestMappedCommandsAreNotDoneByWhatWasBefore(t *testing.T) {
	h := newHub(t)
	attaches, goOn := make(chan bool), make(chan bool)
	h.beforeAttach = func() { attaches <- true; <-goOn }
	go func() { <-attaches; goOn <- true }() // of plug-1
	b := openField(t, h)
	resume := b.stall()
	b.send(wire.Command{ID: "A"}, "warm", `{"to":20}`)
	b.say("tele/plug-1/SENSOR", `{"Temp":30}`) // before it is published
	b.taken(2)
	resume()
	b.wantPublished("WARM", "20")
	b.lastID++
	if err := b.message("tele/plug-1/SENSOR", `{"Temp":31}`, 1, b.lastID, true); err != nil { // sent before
		t.Fatal(err)
	}
	b.say("tele/plug-1/SENSOR", `{"Temp":32}`)
	b.wantAnswer("A", `{"seen":{"Temp":32}}`)
	b.taken(4)

	// The hub is behind: what it has received before it publishes is looked at afterwards.
	b.say("tele/plug-2/SENSOR", `{"Temp":1}`)
	next(t, "session of plug-2", attaches)
	b.say("tele/plug-1/SENSOR", `{"Temp":33}`)
	b.say("stat/plug-1/RESULT", `{"POWER":"OFF"}`)
	wantStats(t, b.e, "3 messages in flight", func(s bridge.ExternalStats) bool { return s.InFlight == 3 })
	b.send(wire.Command{ID: "B"}, "warm", `{"to":20}`)
	b.wantPublished("WARM", "20")
	b.send(wire.Command{ID: "C"}, "power", `{"state":"ON"}`)
	b.wantPublished("POWER", "ON")
	goOn <- true
	b.say("tele/plug-1/SENSOR", `{"Temp":34}`)
	b.wantAnswer("B", `{"seen":{"Temp":34}}`)
	b.say("stat/plug-1/RESULT", `{"POWER":"ON"}`)
	b.wantAnswer("C", `"ON"`)
}

// TestMappedCommandsAreNotDoneByKeptPresence holds that what the broker had kept says nothing of a command.
func TestMappedCommandsAreNotDoneByKeptPresence(t *testing.T) {
	h := newHub(t)
	b := openField(t, h)
	b.send(wire.Command{ID: "A"}, "wake", "")
	b.wantPublished("WAKE", "")
	kept := publishPacket("tele/plug-1/LWT", "Online", 0, 0, false)
	kept[0] |= 1 // RETAIN
	if _, err := b.conn.Write(kept); err != nil {
		t.Fatal(err)
	}
	b.say("tele/plug-1/BUTTON", `{"action":"double"}`)
	b.taken(3)
	if len(h.answers.answered) != 0 {
		t.Error("a retained message made a command done")
	}
	b.say("tele/plug-1/LWT", "Online")
	b.wantAnswer("A", `{"seen":{"online":true}}`)
}

// TestMappedCommandThatWasSentTwiceIsAnsweredTwice holds that its second answer is not taken for that to the next.
func TestMappedCommandThatWasSentTwiceIsAnsweredTwice(t *testing.T) {
	h := newHub(t)
	b := openField(t, h)
	for attempt := 1; attempt <= 2; attempt++ {
		b.send(wire.Command{ID: "A", Attempt: attempt}, "power", `{"state":"ON"}`)
		b.wantPublished("POWER", "ON")
	}
	b.say("stat/plug-1/RESULT", `{"POWER":"ON"}`)
	b.wantAnswer("A", `"ON"`)
	h.ended("plug-1", "A")
	b.send(wire.Command{ID: "B", Attempt: 1}, "power", `{"state":"OFF"}`)
	b.wantPublished("POWER", "OFF")
	b.say("stat/plug-1/RESULT", `{"POWER":"ON"}`)
	b.say("stat/plug-1/RESULT", `{"POWER":"OFF"}`)
	b.wantAnswer("B", `"OFF"`)
	b.send(wire.Command{ID: "C", Attempt: 1}, "power", `{"state":"1"}`)
	b.wantPublished("POWER", "1")
	b.say("stat/plug-1/RESULT", `{"POWER":"1"}`)
	b.wantAnswer("C", `"1"`)
}

// TestMappedStateThatChangesBackIsReported holds that a report is passed over only where it is the last that was given.
func TestMappedStateThatChangesBackIsReported(t *testing.T) {
	h := newHub(t)
	b := openField(t, h)
	power := func(state string) { b.say("tele/plug-1/SENSOR", `{"POWER":"`+state+`"}`) }
	wantReport := func(state string) {
		t.Helper()
		if got := next(t, "report", h.states.reported); !strings.HasSuffix(got, `{"Power":"`+state+`"}`) {
			t.Errorf("reported %s, want %s", got, state)
		}
	}
	power("ON")
	wantReport("ON")
	b.taken(2)
	h.states.set(func(s *states) { s.hold = true })
	power("OFF")
	wantReport("OFF")
	power("ON")
	wantReport("ON")
	var first func()
	h.states.set(func(s *states) { first, s.held = s.held[0], s.held[1:] })
	first() // OFF is durable, and not what was given last
	power("OFF")
	wantReport("OFF")
	h.states.release()
	b.taken(5)
	power("OFF") // known
	b.taken(6)
	if len(h.states.reported) != 0 {
		t.Errorf("reported again: %s", <-h.states.reported)
	}
}
