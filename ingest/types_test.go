package ingest

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/backbone"
	"telemetryhub/wire"
)

const (
	maxFieldsEach = 4096
	maxFieldsAll  = 100_000
)

// typedStore is a store that others have filled.
type typedStore struct {
	*memoryStore
	types map[string]map[string]FieldType
	fault atomic.Pointer[error]

	typesMu sync.Mutex
	asked   atomic.Int64
}

func (s *typedStore) FieldTypes(_ context.Context, measurement string) (map[string]FieldType, error) {
	s.asked.Add(1)
	if fault := s.fault.Load(); fault != nil {
		return nil, *fault
	}
	s.typesMu.Lock()
	defer s.typesMu.Unlock()
	return maps.Clone(s.types[measurement]), nil
}

func TestCastsLoseNothing(t *testing.T) {
	for _, c := range []struct {
		value string
		to    FieldType
		want  string // in line protocol; "": does not fit
	}{
		{`20.5`, FloatField, `20.5`},
		{`20`, IntegerField, `20i`},
		{`-9007199254740991`, IntegerField, `-9007199254740991i`},
		{`9007199254740993`, IntegerField, ``},
		{`20.5`, IntegerField, ``},
		{`1e300`, IntegerField, ``},
		{`20.5`, StringField, `"20.5"`},
		{`1000000`, StringField, `"1000000"`},
		{`1e21`, StringField, `"1e+21"`},
		{`1`, BooleanField, ``},
		{`"20.50"`, FloatField, `20.5`},
		{`"-3e2"`, FloatField, `-300`},
		{`"20"`, IntegerField, `20i`},
		{`"20.5"`, IntegerField, ``},
		{`"9007199254740993"`, FloatField, ``},
		{`"007"`, FloatField, ``},
		{`" 7"`, FloatField, ``},
		{`"7 "`, FloatField, ``},
		{`"0x10"`, FloatField, ``},
		{`"inf"`, FloatField, ``},
		{`"1e999"`, FloatField, ``},
		{`"true"`, FloatField, ``},
		{`""`, FloatField, ``},
		{`"x"`, StringField, `"x"`},
		{`"true"`, BooleanField, `true`},
		{`"false"`, BooleanField, `false`},
		{`"True"`, BooleanField, ``},
		{`true`, BooleanField, `true`},
		{`false`, StringField, `"false"`},
		{`true`, FloatField, ``},
		{`true`, IntegerField, ``},
	} {
		r := &telemetry(t, `{"v":`+c.value+`}`).Readings[0]
		m := &measurementTypes{Fields: map[string]FieldType{"v": c.to}}
		types, reason, _ := new(fieldTypes).apply(m, r, 1, nil)
		got := ""
		if reason == "" {
			got = strings.TrimSuffix(strings.TrimPrefix(string(appendLine(nil, []byte("a"), nil, r, types, 0)), "telemetry,device=a v="), " 0\n")
		}
		if got != c.want || (reason == reasonTypeConflict) != (c.want == "") {
			t.Errorf("%s as %s: %s %s; want %s", c.value, c.to, got, reason, c.want)
		}
	}
}

func TestTheFirstReadingFixesTheTypeAndAConflictIsSetAsideWhole(t *testing.T) {
	store := &memoryStore{}
	h := openHub(t, t.TempDir(), testConfig(), store)
	h.send("a", `{"boot":"b","seq":1,"readings":[{"values":{"x":1,"s":"on"}},{"values":{"new":1,"x":"warm"}},{"values":{"x":"2.5","s":7}},{"values":{"new":"text"}}]}`)
	h.send("b", `{"measurement":"other","values":{"x":"warm"}}`) // another measurement, another type
	if c := h.settled("a", 4); c.Stored != 3 || c.Quarantined != 1 {
		t.Fatalf("counts %+v", c)
	}
	h.settled("b", 1)
	want := []string{
		`telemetry,device=a x=1,s="on"`, `telemetry,device=a x=2.5,s="7"`, `telemetry,device=a new="text"`, `other,device=b x="warm"`,
	}
	for i, line := range store.accepted() {
		if !strings.HasPrefix(line, want[i]+" ") {
			t.Errorf("line %d is %s; want %s", i, line, want[i])
		}
	}
	q := h.quarantined()
	if len(q) != 1 || q[0].Reason != "type_conflict" || q[0].Seq != 2 || q[0].Message != `the field "x" is stored as float, and came as string` ||
		!strings.Contains(q[0].Frame, `new=1,x="warm"`) {
		t.Fatalf("quarantine %+v", q)
	}
}

func TestIntegersWhereTheDevicesTypeSaysSo(t *testing.T) {
	store, cfg := &memoryStore{}, testConfig()
	cfg.FieldType = func(device, field string) FieldType {
		if device == "meter" && field == "Wh" {
			return IntegerField
		}
		return ""
	}
	h := openHub(t, t.TempDir(), cfg, store)
	h.send("meter", `{"readings":[{"values":{"Wh":1.5,"V":"x"}},{"values":{"Wh":2,"V":230}}]}`)
	if c := h.settled("meter", 2); c.Stored != 1 || c.Quarantined != 1 {
		t.Fatalf("counts %+v", c)
	}
	h.send("other", `{"values":{"Wh":"3"}}`) // the field has one type, whoever sends it
	h.settled("other", 1)
	lines := joinLines(store.accepted())
	if !strings.Contains(lines, "Wh=2i,V=230 ") || !strings.Contains(lines, "device=other Wh=3i ") {
		t.Fatal(lines)
	}
}

func TestTypesThatOthersWroteIntoTheStore(t *testing.T) {
	store := &typedStore{memoryStore: &memoryStore{}, types: map[string]map[string]FieldType{"telemetry": {"x": StringField, "n": IntegerField}}}
	var fault error = &retryLater{}
	store.fault.Store(&fault)
	h := openHubWith(t, openBus(t, backbone.Config{Dir: t.TempDir()}), testConfig(), store)
	h.send("a", `{"readings":[{"values":{"x":1,"n":2}},{"values":{"x":2,"n":2.5}},{"values":{"y":3}}]}`)
	eventually(t, "the store was asked twice", func() bool { return store.asked.Load() >= 2 })
	if s := h.Status(); s.Store == nil {
		t.Error("nothing says that the store is waited for")
	}
	h.mustAddUp() // nothing waits for the writer while it waits
	store.fault.Store(nil)
	if c := h.settled("a", 3); c.Stored != 2 || c.Quarantined != 1 {
		t.Fatalf("counts %+v", c)
	}
	if lines := joinLines(store.accepted()); !strings.Contains(lines, `x="1",n=2i `) || !strings.Contains(lines, "y=3 ") {
		t.Fatal(lines)
	}
	asked := store.asked.Load()
	h.send("a", `{"values":{"z":1}}`)
	if h.settled("a", 4); store.asked.Load() != asked {
		t.Error("the store is asked for each field")
	}
}

func TestAStoreThatCannotSayItsTypesIsNotWaitedFor(t *testing.T) {
	store := &typedStore{memoryStore: &memoryStore{}}
	var fault error = &MisconfiguredError{Message: "403"}
	store.fault.Store(&fault)
	h := openHubWith(t, openBus(t, backbone.Config{Dir: t.TempDir()}), testConfig(), store)
	h.send("a", `{"values":{"x":1}}`)
	if c := h.settled("a", 1); c.Stored != 1 {
		t.Fatalf("counts %+v", c)
	}
}

// openHubWith is openHubOn with any store.
func openHubWith(t *testing.T, bus *backbone.Backbone, cfg Config, store *typedStore) *hub {
	t.Helper()
	return openHubStoring(t, bus, bus, cfg, store, store.memoryStore)
}

// TestACrashBetweenTheTypesAndTheStoreChangesNoDecision stops hard after the registry was written and before the store
// took anything, and goes on with another configuration.
func TestACrashBetweenTheTypesAndTheStoreChangesNoDecision(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	store.answers(hang)
	h := openHub(t, dir, testConfig(), store)
	h.send("a", `{"boot":"b","seq":1,"readings":[{"values":{"x":1}},{"values":{"x":"warm"}},{"values":{"x":"2"}}]}`)
	eventually(t, "the store was tried", func() bool { return store.tries() >= 1 })
	ended, end := context.WithCancel(t.Context())
	end()
	h.stopped = true
	if err := h.Stop(ended); err == nil {
		t.Fatal("the store took the batch")
	}
	h.bus.Close()

	store.answers(nil)
	cfg := testConfig()
	cfg.FieldType = func(string, string) FieldType { return StringField }
	h = openHub(t, dir, cfg, store)
	if c := h.settled("a", 3); c.Stored != 2 || c.Quarantined != 1 {
		t.Fatalf("counts %+v", c)
	}
	if lines := store.accepted(); len(lines) != 2 || !strings.Contains(lines[0], "x=1 ") || !strings.Contains(lines[1], "x=2 ") {
		t.Fatal(joinLines(lines))
	}
}

// TestAHubThatStopsWhileTypesCannotBeSettledLeavesTheBatch stops gently while the store is away.
func TestAHubThatStopsWhileTypesCannotBeSettledLeavesTheBatch(t *testing.T) {
	dir, store := t.TempDir(), &typedStore{memoryStore: &memoryStore{}}
	var fault error = &retryLater{}
	store.fault.Store(&fault)
	h := openHubWith(t, openBus(t, backbone.Config{Dir: dir}), testConfig(), store)
	h.send("a", numbered("b", 1))
	eventually(t, "the store was asked", func() bool { return store.asked.Load() >= 1 })
	began := time.Now()
	h.close()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the stop took %v", took)
	}
	store.fault.Store(nil)
	h = openHubWith(t, openBus(t, backbone.Config{Dir: dir}), testConfig(), store)
	if c := h.settled("a", 1); c.Stored != 1 || c.Duplicate != 0 {
		t.Fatalf("counts %+v", c)
	}
}

func typesOn(t *testing.T, bus *backbone.Backbone) *fieldTypes {
	t.Helper()
	kv, err := bus.Bucket(t.Context(), backbone.Types)
	if err != nil {
		t.Fatal(err)
	}
	ts := &fieldTypes{kv: kv, store: &memoryStore{}, limits: testConfig().Fields, most: bus.MaxMessage(), log: quiet(), fault: func(err error) { t.Error(err) }, by: map[string]*measurementTypes{}}
	if err := ts.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ts
}

// overtakenKV lets another hub write between a hub's look at a record and its own write.
type overtakenKV struct {
	jetstream.KeyValue
	between func()
}

func (kv *overtakenKV) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	e, err := kv.KeyValue.Get(ctx, key)
	if between := kv.between; between != nil {
		kv.between = nil
		between()
	}
	return e, err
}

// TestAHubThatIsOvertakenTakesTheOthersType is so for the first field of a measurement, and for another one.
func TestAHubThatIsOvertakenTakesTheOthersType(t *testing.T) {
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	one, two := typesOn(t, bus), typesOn(t, bus)
	overtaken := &overtakenKV{KeyValue: one.kv}
	one.kv = overtaken
	for _, field := range []string{"first", "other"} {
		settle := func(ts *fieldTypes, value string) {
			r := &telemetry(t, `{"`+field+`":`+value+`}`).Readings[0]
			if err := ts.settle(t.Context(), t.Context(), "a", nil, r, 1); err != nil {
				t.Error(err)
			}
		}
		overtaken.between = func() { settle(two, `"warm"`) }
		settle(one, `1`)
		if got := one.of(nil).Fields; got[field] != StringField || !maps.Equal(got, two.of(nil).Fields) {
			t.Errorf("%s: %v and %v", field, got, two.of(nil).Fields)
		}
	}
}

// TestHubsShareTypes lets two hubs meet new fields at the same time, each without having seen what the other wrote.
func TestHubsShareTypes(t *testing.T) {
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	one, two := typesOn(t, bus), typesOn(t, bus)
	settle := func(ts *fieldTypes, payload string) *wire.Reading {
		r := &telemetry(t, payload).Readings[0]
		if err := ts.settle(t.Context(), t.Context(), "a", nil, r, 1); err != nil {
			t.Error(err)
		}
		return r
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 50 {
			settle(one, fmt.Sprintf(`{"f%d":1}`, i))
		}
	}()
	for i := range 50 {
		settle(two, fmt.Sprintf(`{"f%d":"x"}`, i))
	}
	<-done
	settle(one, `{"last":1}`)
	r := settle(two, `{"f0":true,"last":"warm"}`)
	if _, reason, _ := two.apply(two.of(nil), r, 1, nil); reason != reasonTypeConflict {
		t.Errorf("a conflict with the other hub's type: %q", reason)
	}
	fresh := typesOn(t, bus)
	if got := fresh.of(nil).Fields; len(got) != 51 || fresh.count != 51 || one.count != 51 || !maps.Equal(got, two.of(nil).Fields) {
		t.Fatalf("%d fields, counted %d and %d", len(got), fresh.count, one.count)
	}
	if _, err := one.kv.Get(t.Context(), base64.RawURLEncoding.EncodeToString([]byte("telemetry"))); err != nil {
		t.Fatal(err)
	}
}

func TestTheRegistryOfTypesIsBounded(t *testing.T) {
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	ts := typesOn(t, bus)
	settle := func(measurement string, names, width int) (reason string) {
		r := &wire.Reading{}
		for i := range names {
			r.Fields = append(r.Fields, wire.Field{Name: fmt.Appendf(nil, "%0*d", width, i), Kind: wire.Float})
		}
		if err := ts.settle(t.Context(), t.Context(), "a", []byte(measurement), r, 1); err != nil {
			t.Fatal(err)
		}
		_, reason, _ = ts.apply(ts.of([]byte(measurement)), r, 1, nil)
		return reason
	}
	if got := settle("m", maxFieldsEach, 8); got != "" {
		t.Errorf("as many fields as there may be: %q", got)
	}
	if got := settle("m", maxFieldsEach+1, 8); got != reasonFieldLimit {
		t.Errorf("one more: %q", got)
	}
	ts.most = 1 << 20
	if got := settle("long names", maxFieldsEach, 256); got != reasonFieldLimit {
		t.Errorf("a record over NATS's limit: %q", got)
	}
	ts.count = maxFieldsAll - 1
	if got := settle("n", 1, 1); got != "" {
		t.Errorf("the last of all: %q", got)
	}
	if got := settle("o", 1, 1); got != reasonFieldLimit || ts.of([]byte("o")) != nil {
		t.Errorf("one more than all: %q", got)
	}
}
