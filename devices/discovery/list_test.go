package discovery_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"telemetryhub/devices"
	"telemetryhub/devices/discovery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// field is a registry and the list of who is not in it.
type field struct {
	t        *testing.T
	buckets  *buckets
	registry *devices.Registry
	list     *discovery.List
	metrics  *prometheus.Registry
	closed   bool

	mu       sync.Mutex
	recorded []string // of rules
	cleared  []string
	notReady error
}

type buckets struct{ devices, ignored *memoryKV }

func newBuckets() *buckets { return &buckets{newMemoryKV(), newMemoryKV()} }

func open(t *testing.T, b *buckets, most int, rules ...discovery.Rule) *field {
	t.Helper()
	f := &field{t: t, buckets: b, metrics: prometheus.NewRegistry()}
	var err error
	if f.registry, err = devices.OpenRegistry(t.Context(), b.devices, devices.TokenConfig{}); err != nil {
		t.Fatal(err)
	}
	f.list, err = discovery.Open(t.Context(), b.ignored, f.registry, discovery.Config{
		Devices: most, Rules: rules, Metrics: f.metrics, Log: slog.New(slog.DiscardHandler),
		Clear: func(_ context.Context, device string) { f.note(func() { f.cleared = append(f.cleared, device) }) },
		Record: func(d devices.Device) {
			f.note(func() { f.recorded = append(f.recorded, d.ID+" by "+d.Admitted.Rule) })
		},
		Ready: func() (err error) {
			f.note(func() { err = f.notReady })
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	return f
}

// close is for a test that opens another; otherwise the end of the test closes it.
func (f *field) close() {
	if f.closed {
		return
	}
	f.closed = true
	if err := errors.Join(f.list.Close(context.Background()), f.registry.Close()); err != nil {
		f.t.Error(err)
	}
}

func (f *field) note(what func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what()
}

func (f *field) see(device string) bool {
	return f.list.Seen(discovery.Sighting{Device: device, Bridge: "home", Topic: "devices/" + device + "/telemetry", Payload: []byte(`{"t":1}`)})
}

func (f *field) wantListed(ids ...string) {
	f.t.Helper()
	got := []string{}
	for _, e := range f.list.All() {
		got = append(got, e.Device)
	}
	if !slices.Equal(got, ids) {
		f.t.Errorf("on the list: %v, want %v", got, ids)
	}
}

// wantMetric wants a figure, outcome "" one without that label.
func (f *field) wantMetric(name, outcome string, want float64) {
	f.t.Helper()
	found, err := f.metrics.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, m := range found {
		if m.GetName() != name {
			continue
		}
		for _, v := range m.GetMetric() {
			of := ""
			for _, l := range v.GetLabel() {
				of = l.GetValue()
			}
			if of == outcome && v.GetCounter().GetValue()+v.GetGauge().GetValue() == want {
				return
			}
		}
	}
	f.t.Errorf("metric %s %s is not %v", name, outcome, want)
}

func TestAListedDeviceIsWhatWasLastSaidOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(t, newBuckets(), 0)
		began := time.Now().UTC()
		payload := bytes.Repeat([]byte("x"), 5000)
		f.list.Seen(discovery.Sighting{
			Device: "lamp", Bridge: "home", Topic: "zigbee2mqtt/bridge/devices", Payload: []byte("[]"), Announced: true,
			Type: "light", Name: "Lamp", Model: "LED1", Firmware: strings.Repeat("9", 1000),
		})
		time.Sleep(time.Minute)
		f.list.Seen(discovery.Sighting{Device: "lamp", Bridge: "away", Topic: "zigbee2mqtt/" + strings.Repeat("Lampe ü", 200), Payload: payload, Retained: true, Model: "LED2"})
		payload[0] = 'y' // the list has its own
		e, ok := f.list.Get("lamp")
		if !ok {
			t.Fatal("it is not on the list")
		}
		if len(e.Payload) != discovery.MaxPayload || e.Payload[0] != 'x' || e.Size != 5000 || len(e.Topic) > 512 || len(e.Firmware) != 256 {
			t.Errorf("payload of %d bytes %q…, size %d, topic of %d, firmware of %d", len(e.Payload), e.Payload[0], e.Size, len(e.Topic), len(e.Firmware))
		}
		if !e.First.Equal(began) || !e.At.Equal(began.Add(time.Minute)) || e.Count != 2 || e.Bridge != "away" || e.Announced || !e.Retained {
			t.Errorf("first %s, at %s, count %d, bridge %s, announced %v, retained %v", e.First, e.At, e.Count, e.Bridge, e.Announced, e.Retained)
		}
		if e.Type != "light" || e.Name != "Lamp" || e.Model != "LED2" {
			t.Errorf("type %s, name %s, model %s: what a message does not say stays", e.Type, e.Name, e.Model)
		}
	})
}

func TestTheListIsBoundedAndTheLongestSilentGoesFirst(t *testing.T) {
	f := open(t, newBuckets(), 3)
	feed := f.list.Subscribe(10)
	defer feed.Close()
	for _, device := range []string{"a", "b", "c", "a", "d"} {
		if f.see(device) {
			t.Errorf("%s is taken for a registered device", device)
		}
	}
	if f.list.Seen(discovery.Sighting{Device: "not an id"}) {
		t.Error("what is no id is taken for a device")
	}
	f.wantListed("a", "c", "d")
	f.wantMetric("hub_discovered", "", 3)
	f.wantMetric("hub_discovered_evicted_total", "", 1)
	f.wantMetric("hub_discovered_sightings_total", "listed", 5)
	f.wantMetric("hub_discovered_sightings_total", "invalid", 1)
	for _, want := range []string{"a", "b", "c", "d"} {
		if got := (<-feed.C()).Device; got != want {
			t.Errorf("told of %s, want %s, each once", got, want)
		}
	}
	if err := errors.Join(f.list.Forget("c"), f.list.Forget("c")); !errors.Is(err, discovery.ErrNotSeen) || strings.Count(err.Error(), "list") != 1 {
		t.Errorf("forgotten twice: %v", err)
	}
	if _, _, err := f.registry.Create(t.Context(), devices.Device{ID: "d"}); err != nil {
		t.Fatal(err)
	}
	f.wantListed("a") // d came in another way
	if !f.see("d") {
		t.Error("a registered device is not known")
	}
}

func TestAnOperatorAdmits(t *testing.T) {
	f := open(t, newBuckets(), 0)
	f.list.Seen(discovery.Sighting{Device: "plug-1", Bridge: "home", Type: "plug", Name: "Desk", Model: "Sonoff", Firmware: "14.2"})
	f.see("plug-2")
	if _, err := f.list.Admit(t.Context(), "plug-3", discovery.Admission{}); !errors.Is(err, discovery.ErrNotSeen) {
		t.Errorf("one that was not seen: %v", err)
	}
	var invalid *devices.InvalidError
	if _, err := f.list.Admit(t.Context(), "plug-1", discovery.Admission{Tags: []string{""}}); !errors.As(err, &invalid) || invalid.Field != "tags[0]" {
		t.Errorf("a bad tag: %v", err)
	}
	f.wantListed("plug-1", "plug-2") // and it is still there to be admitted
	made, err := f.list.Admit(t.Context(), "plug-1", discovery.Admission{Tags: []string{"office"}, Attributes: map[string]string{"room": "12"}, By: "anna"})
	if err != nil {
		t.Fatal(err)
	}
	d, ok := f.registry.Get("plug-1")
	if !ok || !d.Enabled || d.Type != "plug" || len(d.Tokens) != 0 || !slices.Equal(d.Tags, []string{"office"}) || d.Attributes["name"] != "Desk" || d.Attributes["room"] != "12" {
		t.Errorf("in the registry: %+v", d)
	}
	if a := d.Admitted; a == nil || a.By != "anna" || a.Bridge != "home" || a.Rule != "" || a.Model != "Sonoff" || a.Firmware != "14.2" || a.At.IsZero() {
		t.Errorf("admitted: %+v", a)
	}
	if !reflect.DeepEqual(made, d) || !slices.Equal(f.cleared, []string{"plug-1"}) || len(f.recorded) != 0 {
		t.Errorf("made %+v, cleared %v, recorded %v", made, f.cleared, f.recorded)
	}
	f.wantListed("plug-2")
	if _, err := f.list.Admit(t.Context(), "plug-1", discovery.Admission{}); !errors.Is(err, devices.ErrExists) {
		t.Errorf("again: %v", err)
	}
	if made, err := f.list.Admit(t.Context(), "plug-2", discovery.Admission{Type: "other"}); err != nil || made.Type != "other" {
		t.Errorf("with a type: %+v, %v", made, err)
	}
	if err := f.registry.Current("plug-1", devices.Proof{Kind: devices.ProofBroker, ID: "home"}); err != nil {
		t.Errorf("it may not be connected by its broker: %v", err)
	}
	if _, _, err := f.registry.Authenticate("plug-1", "guess"); !errors.Is(err, devices.ErrCredentials) {
		t.Errorf("a device without a token logs in: %v", err)
	}
}

func TestIgnoredDevicesStayAwayAlsoAfterARestart(t *testing.T) {
	b := newBuckets()
	f := open(t, b, 0, discovery.Rule{})
	const device = "a:b." // a key of NATS takes neither
	first, err := f.list.Ignore(t.Context(), device, "anna")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := f.list.Ignore(t.Context(), device, "ben"); err != nil || again != first {
		t.Errorf("again: %+v, %v", again, err)
	}
	if _, err := f.list.Ignore(t.Context(), "no id", ""); err == nil {
		t.Error("what is no id is ignored")
	}
	after := open(t, b, 0, discovery.Rule{})
	for _, f := range []*field{f, after} {
		if f.see(device) {
			t.Error("a rule admits an ignored device")
		}
		f.wantListed()
		f.wantMetric("hub_discovered_sightings_total", "ignored", 1)
		f.wantMetric("hub_discovered_ignored", "", 1)
	}
	if got := after.list.Ignored(); len(got) != 1 || got[0].Device != device || got[0].By != "anna" {
		t.Errorf("ignored: %+v", got)
	}
	if _, err := after.list.Admit(t.Context(), device, discovery.Admission{}); !errors.Is(err, discovery.ErrIgnored) {
		t.Errorf("admitted: %v", err)
	}
	if err := after.list.Notice(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	if err := after.list.Notice(t.Context(), device); !errors.Is(err, discovery.ErrNotIgnored) {
		t.Errorf("noticed twice: %v", err)
	}
	if !after.see(device) {
		t.Error("the rule does not admit it afterwards")
	}
}

func TestRulesAdmitTheFirstThatFits(t *testing.T) {
	f := open(t, newBuckets(), 0,
		discovery.Rule{Bridge: "away", Type: "wrong"},
		discovery.Rule{Bridge: "home", Device: "tasmota-*", Type: "tasmota", Tags: []string{"plug"}},
		discovery.Rule{Device: "t?smota-9", Type: "wrong"},
	)
	feed := f.list.Subscribe(10)
	defer feed.Close()
	f.see("other")
	if !f.list.Seen(discovery.Sighting{Device: "tasmota-9", Bridge: "home", Type: "said", Name: "Plug"}) {
		t.Fatal("it is not admitted")
	}
	if d, ok := f.registry.Get("tasmota-9"); !ok || d.Type != "tasmota" || !slices.Equal(d.Tags, []string{"plug"}) || d.Admitted.Rule != "home/tasmota-*" || d.Attributes["name"] != "Plug" {
		t.Errorf("in the registry: %+v", d)
	}
	f.wantListed("other")
	if !slices.Equal(f.recorded, []string{"tasmota-9 by home/tasmota-*"}) || !slices.Equal(f.cleared, []string{"tasmota-9"}) {
		t.Errorf("recorded %v, cleared %v", f.recorded, f.cleared)
	}
	if got := <-feed.C(); got.Device != "other" || len(feed.C()) != 0 {
		t.Errorf("told of %s, and %d more: one that is admitted at once is none", got.Device, len(feed.C()))
	}
	for _, wrong := range []struct {
		rule discovery.Rule
		says string
	}{{discovery.Rule{Device: "[a]"}, "device"}, {discovery.Rule{Max: -1}, "max"}, {discovery.Rule{Tags: []string{"a", ""}}, "tags[1]"}} {
		if err := wrong.rule.Check(); err == nil || !strings.HasPrefix(err.Error(), wrong.says+":") {
			t.Errorf("%+v: %v, want %s", wrong.rule, err, wrong.says)
		}
	}
}

func TestARuleHasNoMoreDevicesThanItsMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBuckets()
		f := open(t, b, 50, discovery.Rule{Device: "x*", Max: 10})
		admitted := 0
		for n := range 50_000 {
			if f.see(fmt.Sprintf("x%d", n)) {
				admitted++
			}
		}
		if admitted != 10 || f.registry.Len() != 10 || len(f.list.All()) != 50 {
			t.Errorf("a flood: %d admitted, %d in the registry, %d on the list", admitted, f.registry.Len(), len(f.list.All()))
		}
		if e, _ := f.list.Get("x49999"); !strings.Contains(e.Held, "x*") || !strings.Contains(e.Held, "10 devices") {
			t.Errorf("held: %q", e.Held)
		}
		f.wantMetric("hub_discovered_admissions_total", "admitted", 10)
		f.wantMetric("hub_discovered_admissions_total", "full", 49_990)
		if err := f.registry.Delete(t.Context(), "x3"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(10 * time.Second)
		if !f.see("x3") || f.see("x11") {
			t.Error("the place of a deleted device is not free, or is not one")
		}
		f.close()
		after := open(t, b, 50, discovery.Rule{Device: "x*", Max: 10})
		if after.see("x12") {
			t.Error("the rule begins anew after a restart")
		}
	})
}

func TestAdmissionsTakeAFifthOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(t, newBuckets(), 0, discovery.Rule{})
		f.buckets.devices.before = func() { time.Sleep(20 * time.Millisecond) } // a slow disk
		began, n := time.Now(), 0
		admitted := func(most int) (is int) {
			for range most {
				if n++; f.see(fmt.Sprintf("x%d", n)) {
					is++
				}
			}
			return is
		}
		// 20 ms each, of which 4 are paid back meanwhile: 1 s is used up by 62 or 63.
		if is := admitted(1000); is < 61 || is > 64 {
			t.Errorf("%d of 1,000 were admitted at once", is)
		}
		if took := time.Since(began); took > 1300*time.Millisecond {
			t.Errorf("messages waited for %s", took)
		}
		time.Sleep(10 * time.Second)
		if is := admitted(1000); is < 61 || is > 64 {
			t.Errorf("%d of 1,000 were admitted after a pause", is)
		}
		if e, _ := f.list.Get("x2000"); !strings.Contains(e.Held, "later message") {
			t.Errorf("held: %q", e.Held)
		}
		// Another bridge has time of its own.
		if !f.list.Seen(discovery.Sighting{Device: "y", Bridge: "away"}) {
			t.Error("one bridge's strangers hold up those of another")
		}
	})
}

func TestWhatCannotBeWrittenIsAdmittedLater(t *testing.T) {
	f := open(t, newBuckets(), 0, discovery.Rule{Max: 1})
	f.buckets.devices.breakWith(errors.New("disk full"))
	if f.see("a") {
		t.Error("it is admitted all the same")
	}
	if e, _ := f.list.Get("a"); !strings.Contains(e.Held, "disk full") {
		t.Errorf("held: %q", e.Held)
	}
	f.buckets.devices.breakWith(nil)
	f.note(func() { f.notReady = errors.New("the audit log is full") })
	if f.see("a") {
		t.Error("it is admitted, and nobody will know")
	}
	if e, _ := f.list.Get("a"); !strings.Contains(e.Held, "audit log is full") {
		t.Errorf("held: %q", e.Held)
	}
	f.note(func() { f.notReady = nil })
	if !f.see("a") || f.see("b") { // the failures have taken no place
		t.Error("it is not admitted afterwards, or two are")
	}
	f.wantMetric("hub_discovered_admissions_total", "failed", 2)
}

func TestManyBridgesSeeAtOnce(t *testing.T) {
	f := open(t, newBuckets(), 20, discovery.Rule{Max: 25})
	var all sync.WaitGroup
	for bridge := range 4 {
		all.Go(func() {
			for n := range 200 {
				s := discovery.Sighting{Device: fmt.Sprintf("x%d", n), Bridge: fmt.Sprint(bridge)}
				if f.list.Seen(s) {
					if _, ok := f.registry.Get(s.Device); !ok {
						t.Errorf("%s is admitted and not in the registry", s.Device)
					}
				}
			}
		})
	}
	all.Wait()
	for n := range 50 { // two that were after one device may have left a place
		f.see(fmt.Sprintf("y%d", n))
	}
	if n := f.registry.Len(); n != 25 {
		t.Errorf("%d in the registry, want the rule's 25", n)
	}
	if n := len(f.list.All()); n != 20 {
		t.Errorf("%d on the list, want 20", n)
	}
}
