package bridge_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"telemetryhub/bridge"
	"telemetryhub/bridge/maps"
	"telemetryhub/wire"
)

// plugs is what the messages of plugs, and of a gateway with several of them, mean.
func plugs() maps.Group {
	named := func(name, topic string, change func(*maps.Map)) maps.Map {
		m := maps.Map{Name: name, Topic: topic}
		change(&m)
		return m
	}
	return maps.Group{
		Name: "plugs",
		Maps: []maps.Map{
			named("sensor", "tele/{device}/SENSOR", func(m *maps.Map) {
				m.Time, m.Report = "$.Time", map[string]string{"Power": "$.POWER"}
				m.Units = map[string]string{"Temp": "Cel"}
			}),
			named("will", "tele/{device}/LWT", func(m *maps.Map) { m.As = "presence" }),
			named("button", "tele/{device}/BUTTON", func(m *maps.Map) { m.As, m.Event = "event", "$.action" }),
			named("room", "room/{room}/{device}/state", func(*maps.Map) {}),
			named("gateway", "gateway/all", func(m *maps.Map) { m.Device, m.Each = "{$.id}", "$" }),
			named("list", "gateway/list", func(m *maps.Map) {
				m.As, m.Each, m.Device, m.Type, m.Label, m.Model = "announce", "$", "{$.id}", "plug", "{$.name}", "{$.model}"
			}),
		},
		Commands: []maps.Command{
			{Method: "power", Topic: "cmnd/{device}/POWER", Payload: "{params.state}", Answer: &maps.Answer{Topic: "stat/{device}/RESULT", Result: "$.POWER", Error: "$.Error"}},
			{Method: "warm", Topic: "cmnd/{device}/WARM", Payload: "{params.to}", Params: map[string]any{"required": []any{"to"}}, DoneWhen: &maps.Done{When: "(values.Temp ?? 0) >= params.to", Within: time.Minute}},
			{Method: "deaf", Topic: "cmnd/{device}/DEAF"},
			{Method: "light", Types: []string{"light"}, Topic: "room/{room}/set"},
		},
	}
}

func mappedConfig(m *mosquitto) bridge.ExternalConfig {
	cfg := externalConfig(m.url())
	cfg.Maps, cfg.Foreign = []maps.Group{plugs()}, true
	return cfg
}

func TestMappedDevicesAreLikeAnyOther(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	for _, id := range []string{"plug-1", "plug-2", "plug-3"} {
		h.device(id)
	}
	device := m.client("device")
	defer device.Disconnect(100)
	publish := func(topic, payload string, retained bool) { wantToken(t, device.Publish(topic, 1, retained, payload)) }
	publish("tele/plug-1/SENSOR", `{"Temp":1}`, true)
	publish("tele/plug-2/LWT", `Online`, true)
	e := openExternal(t, h, mappedConfig(m))
	h.journal.wantRefused(t, entry{"plug-1", bridge.ReasonRetained})
	h.wantOnline("plug-2", true, "bridge:field")
	if h.sessions.Presence("plug-1").Online {
		t.Error("a retained message was taken for a sign of life")
	}

	publish("tele/plug-1/SENSOR", `{"Time":"2026-01-01T00:00:00Z","Temp":21.5,"POWER":"ON"}`, false)
	publish("tele/plug-1/SENSOR", `{"Temp":`, false)
	publish("tele/plug-1/BUTTON", `{"action":"double"}`, false)
	publish("tele/plug-9/SENSOR", `{"Temp":1}`, false)
	publish("gateway/all", `[{"id":"plug-1","V":230},{"id":"plug-9","V":1},{"id":"plug-3","V":231}]`, false)
	h.journal.wantDurable(t, entry{"plug-1", `telemetry Temp=21.5 POWER="ON"`}, entry{"plug-1", `event name="double" severity="info" data.action="double"`},
		entry{"plug-1", `telemetry id="plug-1" V=230`}, entry{"plug-3", `telemetry id="plug-3" V=231`})
	h.journal.wantRefused(t, entry{"plug-1", bridge.ReasonRetained}, entry{"plug-1", wire.ReasonBadJSON}, entry{"", bridge.ReasonUnknownDevice}, entry{"", bridge.ReasonUnknownDevice})
	if got := next(t, "report", h.states.reported); got != `plug-1 {"Power":"ON"}` {
		t.Errorf("reported %s", got)
	}
	wantStats(t, e, "acknowledgement of all", func(s bridge.ExternalStats) bool { return s.Received == 7 && s.Acked == 7 && s.InFlight == 0 })
	if methods := h.wantOnline("plug-1", true, "bridge:field").Methods; !slices.Equal(methods, []string{"deaf", "power", "warm"}) {
		t.Errorf("methods %v", methods)
	}
	publish("tele/plug-1/LWT", "Offline", false)
	if p := h.wantOnline("plug-1", false, ""); !strings.Contains(p.Cause, "last will") {
		t.Errorf("cause %q", p.Cause)
	}
}

func TestMappedMessageIsAcknowledgedWhenAllOfItIsDurable(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("plug-1")
	h.device("plug-2")
	e := openExternal(t, h, mappedConfig(m))
	device := m.client("device")
	defer device.Disconnect(100)
	h.journal.hold()
	wantToken(t, device.Publish("gateway/all", 1, false, `[{"id":"plug-1","V":1},{"id":"plug-2","V":2}]`))
	wantToken(t, device.Publish("tele/plug-1/SENSOR", 1, false, `{"Time":"2026-01-01T00:00:00Z","Temp":`)) // refused at once, and waits for its turn
	h.journal.until(t, "two readings", func() bool { return h.journal.appended == 2 && len(h.journal.refused) == 1 })
	if s := e.Stats(); s.Acked != 0 || s.InFlight != 2 {
		t.Errorf("acknowledged before it was durable: %+v", s)
	}
	h.journal.release(nil)
	wantStats(t, e, "acknowledgement", func(s bridge.ExternalStats) bool { return s.Acked == 2 && s.InFlight == 0 })
}

func TestMappedCommands(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("plug-1")
	e := openExternal(t, h, mappedConfig(m))
	device := m.client("device")
	defer device.Disconnect(100)
	got := make(chan paho.Message, 10)
	wantToken(t, device.Subscribe("cmnd/#", 1, func(_ paho.Client, m paho.Message) { got <- m }))
	publish := func(topic, payload string) { wantToken(t, device.Publish(topic, 1, false, payload)) }
	publish("tele/plug-1/SENSOR", `{"Temp":1}`)
	h.wantOnline("plug-1", true, "")
	h.wantReady("plug-1")

	send := func(id, method, params string) {
		t.Helper()
		if err := h.send("plug-1", wire.Command{ID: id, Method: method, Params: json.RawMessage(params), Attempt: 1}); err != nil {
			t.Fatal(err)
		}
		if c := next(t, "command", got); c.Retained() || c.Qos() != 0 {
			t.Errorf("%s: retained %v, QoS %d", method, c.Retained(), c.Qos())
		}
	}
	wantAnswer := func(id, want string) {
		t.Helper()
		if a := next(t, "answer", h.answers.answered); a.ID != id || string(a.Result)+string(a.Fault) != want {
			t.Errorf("answer %s %s%s, want %s %s", a.ID, a.Result, a.Fault, id, want)
		}
	}
	send("A", "power", `{"state":"ON"}`)
	send("B", "power", `{"state":"OFF"}`)
	publish("stat/plug-1/RESULT", `{"POWER":"ON"}`)
	publish("stat/plug-1/RESULT", `{"Error":"no load"}`)
	wantAnswer("A", `"ON"`)
	wantAnswer("B", `{"code":-32000,"message":"no load","data":"no load"}`)

	send("C", "warm", `{"to":22}`)
	publish("tele/plug-1/SENSOR", `{"Temp":21}`)
	publish("tele/plug-1/SENSOR", `{"Temp":22.5}`)
	wantAnswer("C", `{"seen":{"Temp":22.5}}`)

	// One whose outcome the ledger has already is not what a later answer answers.
	send("D", "power", `{"state":"ON"}`)
	h.ended("plug-1", "D")
	send("E", "power", `{"state":"ON"}`)
	publish("stat/plug-1/RESULT", `{"POWER":"ON"}`)
	wantAnswer("E", `"ON"`)

	send("F", "deaf", "")
	err := h.send("plug-1", wire.Command{ID: "G", Method: "explode", Attempt: 1})
	if refused, ok := errors.AsType[*wire.Error](err); !ok || refused.Code != wire.CodeMethodNotFound || !strings.Contains(refused.Message, "it has power, warm, deaf") {
		t.Errorf("error %v", err)
	}
	if err = h.send("plug-1", wire.Command{ID: "H", Method: "power", Attempt: 1}); err == nil || !strings.Contains(err.Error(), "{params.state} is not there") {
		t.Errorf("error %v", err)
	}
	if of, mapped := e.Commands("plug-1", "warm"); !mapped || of.Within != time.Minute || len(of.Methods) != 3 || string(of.Params) != `{"required":["to"]}` {
		t.Errorf("%+v %v", of, mapped)
	}
	if len(h.answers.answered) != 0 {
		t.Error("an answer was told that nobody gave")
	}
}

func (h *hub) ended(device, command string) {
	session, _ := h.sessions.Online(device)
	h.sessions.Ended(device, session, command)
}

func TestMappedStrangersAreSeenWithWhatIsKnownOfThem(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	list := h.discover()
	e := openExternal(t, h, mappedConfig(m))
	device := m.client("device")
	defer device.Disconnect(100)
	wantToken(t, device.Publish("gateway/list", 1, true, `[{"id":"plug-7","name":"Desk","model":"P1"}]`))
	wantStats(t, e, "acknowledgement", func(s bridge.ExternalStats) bool { return s.Acked == 1 })
	seen, ok := list.Get("plug-7")
	if !ok || seen.Type != "plug" || seen.Name != "Desk" || seen.Model != "P1" || !seen.Announced {
		t.Errorf("seen %+v", seen)
	}
}

// TestMappedDevicesBesideTheHubsOwn holds that both kinds of topics may be asked for.
func TestMappedDevicesBesideTheHubsOwn(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("plug-1")
	h.device("sensor-1")
	cfg := mappedConfig(m)
	cfg.Foreign = false
	openExternal(t, h, cfg)
	device := m.client("device")
	defer device.Disconnect(100)
	wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, false, `{"T":1}`))
	wantToken(t, device.Publish("tele/plug-1/SENSOR", 1, false, `{"Temp":1}`))
	h.journal.wantDurable(t, entry{"sensor-1", "telemetry T=1"}, entry{"plug-1", "telemetry Temp=1"})
}

func TestBridgesRefuseMapsThatCannotWork(t *testing.T) {
	one := func(topic string, change func(*maps.Map)) maps.Group {
		m := maps.Map{Name: "a", Topic: topic}
		change(&m)
		return maps.Group{Maps: []maps.Map{m}}
	}
	same := func(*maps.Map) {}
	for want, change := range map[string]func(*bridge.ExternalConfig){
		`the topics of a are also the hub's own, devices/{device}/state`: func(c *bridge.ExternalConfig) { c.Maps = []maps.Group{one("devices/{device}/state", same)} },
		`maps[0].topic: "{device}/b" and the topic "a/{device}"`: func(c *bridge.ExternalConfig) {
			c.Maps = []maps.Group{one("a/{device}", same), one("{device}/b", same)}
		},
		`nothing to subscribe to`: func(c *bridge.ExternalConfig) { c.Foreign = true },
		`values should be {"t":2}, and is {"t":1}`: func(c *bridge.ExternalConfig) {
			c.Maps = []maps.Group{one("a/{device}", func(m *maps.Map) {
				m.Examples = []maps.Example{{Topic: "a/d", Payload: `{"t":1}`, Gives: map[string]any{"values": map[string]any{"t": 2}}}}
			})}
		},
		`the readings of map a cannot be split among hubs: messages on a/+ are also for answer of m`: func(c *bridge.ExternalConfig) {
			g := one("a/{device}", same)
			g.Commands = []maps.Command{{Method: "m", Topic: "b", Answer: &maps.Answer{Topic: "a/{device}"}}}
			c.Maps, c.Share = []maps.Group{g}, "hubs"
		},
	} {
		cfg := externalConfig("mqtt://127.0.0.1:1")
		change(&cfg)
		e, err := bridge.OpenExternal(cfg, newHub(t).parts())
		if err == nil {
			closeExternal(t, e)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v has no %s", err, want)
		}
	}
}
