package bridge_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
	"telemetryhub/bridge/maps"
	"telemetryhub/wire"
)

// openMapped starts an embedded broker whose devices may speak as plugs do.
func openMapped(t *testing.T, h *hub) *bridge.Broker {
	t.Helper()
	cfg := bridge.DefaultBrokerConfig()
	cfg.Maps = []maps.Group{plugs()}
	return openBrokerOf(t, h, cfg)
}

// TestBrokerTakesTheWordsOfDevices holds that a device that logs in at the hub and speaks its own words is like any other,
// and that it speaks for nobody else.
func TestBrokerTakesTheWordsOfDevices(t *testing.T) {
	h := newHub(t)
	token := h.device("plug-1")
	h.device("plug-2")
	b := openMapped(t, h)
	r := connectRaw(t, b.PlainAddr(), 4, "c", "plug-1", token)
	h.wantOnline("plug-1", true, "mqtt")
	r.publish("tele/plug-1/LWT", "Online", 1, true)
	r.want(packets.Puback)
	r.publish("tele/plug-1/SENSOR", `{"Temp":21.5,"POWER":"ON"}`, 1, false)
	r.want(packets.Puback)
	r.publish("tele/plug-2/SENSOR", `{"Temp":1}`, 1, false)
	r.publish("tele/plug-1/STATE", `{"Temp":1}`, 1, false)
	r.publish("tele/plug-1/SENSOR", `{"Temp":`, 1, false)
	r.publish("tele/plug-1/BUTTON", `{"action":"double"}`, 1, false)
	for range 4 {
		r.want(packets.Puback)
	}
	r.publish("devices/plug-1/telemetry", `{"own":1}`, 1, false)
	r.want(packets.Puback)
	h.journal.wantDurable(t, entry{"plug-1", `telemetry Temp=21.5 POWER="ON"`}, entry{"plug-1", `event name="double" severity="info" data.action="double"`}, entry{"plug-1", "telemetry own=1"})
	h.journal.wantRefused(t, entry{"plug-1", bridge.ReasonOtherDevice}, entry{"plug-1", bridge.ReasonTopic}, entry{"plug-1", wire.ReasonBadJSON})
	if got := next(t, "report", h.states.reported); got != `plug-1 {"Power":"ON"}` {
		t.Errorf("reported %s", got)
	}
	if got := h.wantOnline("plug-1", true, "mqtt").Methods; !slices.Equal(got, []string{"deaf", "power", "warm"}) {
		t.Errorf("methods %v", got)
	}
}

// TestBrokerAcknowledgesMappedReadingsWhenTheyAreDurable holds the acknowledgement back with the commit.
func TestBrokerAcknowledgesMappedReadingsWhenTheyAreDurable(t *testing.T) {
	h := newHub(t)
	token := h.device("plug-1")
	b := openMapped(t, h)
	r := connectRaw(t, b.PlainAddr(), 4, "c", "plug-1", token)
	h.journal.hold()
	r.publish("tele/plug-1/SENSOR", `{"Temp":21.5}`, 1, false)
	h.journal.until(t, "a reading", func() bool { return h.journal.appended == 1 })
	r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	r.want(packets.Pingresp) // and no PUBACK before it
	h.journal.release(nil)
	r.want(packets.Puback)
}

func TestBrokerSendsMappedCommands(t *testing.T) {
	h := newHub(t)
	token := h.device("plug-1")
	b := openMapped(t, h)
	r := connectRaw(t, b.PlainAddr(), 4, "c", "plug-1", token)
	h.wantOnline("plug-1", true, "mqtt")
	r.subscribe(1, "cmnd/plug-1/#")
	next(t, "readiness", h.answers.ready)
	send := func(id, method, params string) error {
		return h.send("plug-1", wire.Command{ID: id, Method: method, Params: json.RawMessage(params), Attempt: 1})
	}
	if err := send("A", "power", `{"state":"ON"}`); err != nil {
		t.Fatal(err)
	}
	if pk := r.want(packets.Publish); pk.TopicName != "cmnd/plug-1/POWER" || string(pk.Payload) != "ON" || pk.FixedHeader.Qos != 0 || pk.FixedHeader.Retain {
		t.Errorf("%s %s %+v", pk.TopicName, pk.Payload, pk.FixedHeader)
	}
	r.publish("stat/plug-1/RESULT", `{"POWER":"ON"}`, 0, false)
	if a := next(t, "answer", h.answers.answered); a.ID != "A" || string(a.Result) != `"ON"` {
		t.Errorf("answer %s %s", a.ID, a.Result)
	}
	if err := send("B", "warm", `{"to":20}`); err != nil {
		t.Fatal(err)
	}
	r.want(packets.Publish)
	r.publish("tele/plug-1/SENSOR", `{"Temp":21}`, 0, false)
	if a := next(t, "answer", h.answers.answered); a.ID != "B" || string(a.Result) != `{"seen":{"Temp":21}}` {
		t.Errorf("answer %s %s", a.ID, a.Result)
	}
	if refused, ok := errors.AsType[*wire.Error](send("C", "explode", "")); !ok || refused.Code != wire.CodeMethodNotFound {
		t.Error("a command that no map has was sent")
	}
	if tried := b.Try(maps.Message{Topic: "tele/plug-1/SENSOR", Payload: []byte(`{"Temp":1}`), Retained: true}); len(tried.Outcomes) != 1 || tried.Outcomes[0].Map != "plugs/sensor" || tried.Outcomes[0].Reason != "" {
		t.Errorf("tried %+v", tried)
	}
	if of, mapped := b.Commands("plug-1", "warm"); !mapped || of.Within != time.Minute {
		t.Errorf("%+v %v", of, mapped)
	}

	// Another's commands are not for it, whatever it subscribes to.
	other := connectRaw(t, b.PlainAddr(), 4, "c", "plug-2", h.device("plug-2"))
	h.wantOnline("plug-2", true, "mqtt")
	other.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 7, Filters: packets.Subscriptions{{Filter: "cmnd/plug-1/#"}, {Filter: "cmnd/#"}, {Filter: "room/+/set"}}})
	if pk := other.want(packets.Suback); !slices.Equal(pk.ReasonCodes, []byte{0x80, 0, 0x80}) {
		t.Errorf("SUBACK %v", pk.ReasonCodes)
	}
	if err := send("D", "deaf", ""); err != nil {
		t.Fatal(err)
	}
	r.want(packets.Publish)
	other.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	other.want(packets.Pingresp)
}

func TestBrokerRefusesMapsOfTheHubsOwnTopics(t *testing.T) {
	cfg := bridge.DefaultBrokerConfig()
	cfg.Listen, cfg.Plain = bridge.Off, "127.0.0.1:0"
	m := maps.Map{Name: "a", Topic: "devices/{device}/telemetry"}
	cfg.Maps = []maps.Group{{Maps: []maps.Map{m}}}
	_, err := bridge.OpenBroker(cfg, nil, newHub(t).parts())
	if err == nil || !strings.Contains(err.Error(), "all topics of a are below devices/") {
		t.Error(err)
	}
}
