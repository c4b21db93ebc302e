package api_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/auth"
	"telemetryhub/devices"
	"telemetryhub/devices/discovery"
)

// The interface is that of the real part.
var _ api.Discovery = (*discovery.List)(nil)

// fakeDiscovery has three devices on its list and ignores one. It is not called by several at once.
type fakeDiscovery struct {
	seen    []discovery.Seen
	ignored []discovery.Ignored
	found   *fakeFeed[discovery.Seen]
	did     []string
}

func newFakeDiscovery() fakeDiscovery {
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	saw := func(device, bridge string, payload []byte) discovery.Seen {
		return discovery.Seen{
			Sighting: discovery.Sighting{Device: device, Bridge: bridge, Topic: "devices/" + device + "/telemetry", Payload: payload, Size: len(payload), Name: "Lamp " + device, At: at},
			First:    at, Count: 2,
		}
	}
	return fakeDiscovery{
		seen:    []discovery.Seen{saw("f1", "home", []byte(`{"t":1}`)), saw("f2", "home", []byte{0xff, 0}), saw("f3", "away", nil)},
		ignored: []discovery.Ignored{{Device: "i1", By: "ada", At: at}},
		found:   newFakeFeed[discovery.Seen](),
	}
}

func (f *fakeDiscovery) All() []discovery.Seen { return slices.Clone(f.seen) }

func (f *fakeDiscovery) Get(device string) (discovery.Seen, bool) {
	i := slices.IndexFunc(f.seen, func(e discovery.Seen) bool { return e.Device == device })
	if i < 0 {
		return discovery.Seen{}, false
	}
	return f.seen[i], true
}

func (f *fakeDiscovery) Admit(_ context.Context, device string, a discovery.Admission) (devices.Device, error) {
	e, ok := f.Get(device)
	switch {
	case device == "d1":
		return devices.Device{}, fmt.Errorf("device d1: %w", devices.ErrExists)
	case device == "i1":
		return devices.Device{}, discovery.ErrIgnored
	case !ok:
		return devices.Device{}, discovery.ErrNotSeen
	case a.Type == "bad":
		return devices.Device{}, &devices.InvalidError{Field: "type", Message: "not that"}
	}
	f.did = append(f.did, fmt.Sprintf("admit %s %s %v %v by %s", device, a.Type, a.Tags, a.Attributes, a.By))
	return devices.Device{ID: device, Type: a.Type, Tags: a.Tags, Enabled: true, Admitted: &devices.Admitted{Bridge: e.Bridge, By: a.By, At: e.At, Model: "M1"}}, nil
}

func (f *fakeDiscovery) Forget(device string) error {
	if _, ok := f.Get(device); !ok {
		return discovery.ErrNotSeen
	}
	f.did = append(f.did, "forget "+device)
	return nil
}

func (f *fakeDiscovery) Ignored() []discovery.Ignored { return f.ignored }

func (f *fakeDiscovery) Ignore(_ context.Context, device, by string) (discovery.Ignored, error) {
	if device == "full" {
		return discovery.Ignored{}, discovery.ErrTooManyIgnored
	}
	f.did = append(f.did, "ignore "+device+" by "+by)
	return discovery.Ignored{Device: device, By: by}, nil
}

func (f *fakeDiscovery) Notice(_ context.Context, device string) error {
	if device != "i1" {
		return discovery.ErrNotIgnored
	}
	f.did = append(f.did, "notice "+device)
	return nil
}

func TestDiscoveredDevicesAreListedInPages(t *testing.T) {
	b := newBench(t, api.Config{})
	first := b.ask("GET", "/api/v1/discovered?limit=2", "op_viewer", "").want(200)
	text := string(first.body)
	for _, want := range []string{`"id":"f1"`, `"payload":"{\"t\":1}"`, `"id":"f2"`, `"payload_base64":"/wA="`, `"count":2`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	next, _ := first.json()["next"].(string)
	if text := string(b.ask("GET", "/api/v1/discovered?limit=2&cursor="+next, "op_viewer", "").want(200).body); !strings.Contains(text, `"f3"`) || strings.Contains(text, `"f2"`) || !strings.Contains(text, `"next":""`) {
		t.Errorf("the second page: %s", text)
	}
	for query, want := range map[string]string{"bridge=away": "[f3]", "q=LAMP+F2": "[f2]", "q=nothing": "[]", "": "[f1 f2 f3]"} {
		got := []string{}
		list, _ := b.ask("GET", "/api/v1/discovered?"+query, "op_viewer", "").want(200).json()["devices"].([]any)
		for _, d := range list {
			got = append(got, fmt.Sprint(d.(map[string]any)["id"]))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
	}
	b.ask("GET", "/api/v1/discovered?cursor=x", "op_viewer", "").wantProblem(422, "bad_parameter")
	b.ask("GET", "/api/v1/discovered/f1", "op_viewer", "").want(200)
	b.ask("GET", "/api/v1/discovered/d1", "op_viewer", "").wantProblem(404, "not_seen")
}

func TestAPayloadThatIsCutWithinACharacterIsText(t *testing.T) {
	b := newBench(t, api.Config{})
	payload := bytes.Repeat([]byte("ü"), 100)
	b.discovery.seen[0].Payload, b.discovery.seen[0].Size = payload[:101], 200
	if text := string(b.ask("GET", "/api/v1/discovered/f1", "op_viewer", "").want(200).body); !strings.Contains(text, `"payload":"`+strings.Repeat("ü", 50)+`"`) {
		t.Errorf("%s", text)
	}
}

func TestAdmissionIsAuditedAndItsFaultsAreSaid(t *testing.T) {
	b := newBench(t, api.Config{})
	b.ask("POST", "/api/v1/discovered/f1/admit", "op_operator", "{}").wantProblem(403, "role")
	a := b.ask("POST", "/api/v1/discovered/f1/admit", "op_admin", `{"type":"lamp","tags":["hall"],"attributes":{"floor":"2"}}`).want(201)
	if a.header.Get("Location") != "/api/v1/devices/f1" || !strings.Contains(string(a.body), `"admitted":{"bridge":"home","by":"ada"`) || !strings.Contains(string(a.body), `"model":"M1"`) {
		t.Errorf("%s at %s", a.body, a.header.Get("Location"))
	}
	b.ask("POST", "/api/v1/discovered/nobody/admit", "op_admin", "{}").wantProblem(404, "not_seen")
	b.ask("POST", "/api/v1/discovered/d1/admit", "op_admin", "{}").wantProblem(409, "device_exists")
	b.ask("POST", "/api/v1/discovered/i1/admit", "op_admin", "{}").wantProblem(409, "device_ignored")
	b.ask("POST", "/api/v1/discovered/f1/admit", "op_admin", `{"type":"bad"}`).wantProblem(422, "invalid")
	b.ask("POST", "/api/v1/discovered/f1/admit", "op_admin", `{"typ":"x"}`).wantProblem(422, "invalid")
	b.ask("PUT", "/api/v1/ignored-devices/f2", "op_operator", "").wantProblem(403, "role")
	b.ask("PUT", "/api/v1/ignored-devices/f2", "op_admin", "").want(200)
	b.ask("PUT", "/api/v1/ignored-devices/full", "op_admin", "").wantProblem(409, "too_many_ignored")
	b.ask("DELETE", "/api/v1/ignored-devices/i1", "op_admin", "").want(200)
	b.ask("DELETE", "/api/v1/ignored-devices/f2", "op_admin", "").wantProblem(404, "not_ignored")
	b.ask("DELETE", "/api/v1/discovered/f3", "op_admin", "").want(200)
	b.ask("DELETE", "/api/v1/discovered/f9", "op_admin", "").wantProblem(404, "not_seen")
	if text := string(b.ask("GET", "/api/v1/ignored-devices", "op_viewer", "").want(200).body); !strings.Contains(text, `"id":"i1","by":"ada"`) {
		t.Errorf("ignored: %s", text)
	}
	want := []string{"admit f1 lamp [hall] map[floor:2] by ada", "ignore f2 by ada", "notice i1", "forget f3"}
	if !slices.Equal(b.discovery.did, want) {
		t.Errorf("it did %q, want %q", b.discovery.did, want)
	}
	log := fmt.Sprint(b.recorded())
	for _, want := range []string{"device.admit", "device.ignore", "device.notice", "discovered.drop"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in the audit log: %s", want, log)
		}
	}
}

func TestWhyOfADeviceThatIsOnlySeen(t *testing.T) {
	b := newBench(t, api.Config{})
	b.discovery.seen[0].Held = "the rule home/* has all of its 3 devices"
	p := b.ask("GET", "/api/v1/devices/f1/why", "op_viewer", "").wantProblem(404, "device_not_found")
	for _, want := range []string{"bridge home", "devices/f1/telemetry", "all of its 3", "hubctl bridge admit f1"} {
		if !strings.Contains(p.Detail, want) {
			t.Errorf("no %q in %q", want, p.Detail)
		}
	}
	if p := b.ask("GET", "/api/v1/devices/i1/why", "op_viewer", "").wantProblem(404, "device_not_found"); !strings.Contains(p.Detail, "ignored") {
		t.Errorf("of an ignored one: %q", p.Detail)
	}
	b.tokens["op_part"] = auth.Operator{Name: "pat", Role: auth.RoleAdmin, Scope: auth.Scope{Tags: []string{"hall"}}}
	if p := b.ask("GET", "/api/v1/devices/f1/why", "op_part", "").wantProblem(404, "device_not_found"); strings.Contains(p.Detail, "home") {
		t.Errorf("to one who does not see all: %q", p.Detail)
	}
}
