package ingest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryhub/wire"
)

// different returns how many different points the store was given.
func (s *memoryStore) different() int {
	lines := s.acceptedInNanos()
	for i, line := range lines {
		lines[i] = line[:strings.IndexByte(line, ' ')] + line[strings.LastIndexByte(line, ' '):]
	}
	slices.Sort(lines)
	return len(slices.Compact(lines))
}

func stampOf(t *testing.T, boot string, seq uint64, payload string) int64 {
	t.Helper()
	e := entry{boot: []byte(boot)}
	r := &telemetry(t, payload).Readings[0]
	r.Time = received
	return e.stamp(seq, r)
}

// TestStampsNeverChange holds the places of readings: stores are full of them.
func TestStampsNeverChange(t *testing.T) {
	const first = `{"ts":1,"values":{"Temp":20.5,"mode":"eco","on":true}}`
	for _, c := range []struct {
		boot, payload string
		seq           uint64
		want          int64
	}{
		{"k3Jx0aQ9", first, 1, 680253},
		{"k3Jx0aQ9", first, 2, 680254},
		{"k3Jx0aQ9", `{"ts":1,"values":{"Temp":3}}`, 2, 680254}, // the number alone says which it is
		{"", first, 0, 930025},
		{"k3Jx0aQ9", first, 0, 930025}, // a boot without a number says nothing
		{"", first, 7, 930025},
		{"", `{"ts":1,"values":{"on":true,"mode":"eco","Temp":20.50}}`, 0, 930025},
	} {
		if got := stampOf(t, c.boot, c.seq, c.payload) - received*nanosPerMs; got != c.want {
			t.Errorf("%q %d %s: %d; want %d", c.boot, c.seq, c.payload, got, c.want)
		}
	}
	numbered := entry{boot: []byte("k3Jx0aQ9"), isTopped: true, isLatest: true}
	r := &wire.Reading{Time: received}
	if got := numbered.stamp(2, r); got != received*nanosPerMs {
		t.Errorf("later than all before it, and not at its whole ms: %d", got)
	}
	numbered.isLatest = false
	if got := numbered.stamp(2, r) - received*nanosPerMs; got != 680254 {
		t.Errorf("not later, and at %d", got)
	}
	if got := numbered.stamp(999_983-680_252, r) - received*nanosPerMs; got != 999_983 {
		t.Errorf("at the place of the latest: %d", got)
	}
	numbered.isTopped = false // by an earlier version of the hub
	if got := numbered.stamp(999_983-680_252, r) - received*nanosPerMs; got != 0 {
		t.Errorf("a reading of an earlier version is now at %d", got)
	}
	places := map[int64]string{}
	for _, values := range []string{`{"a":1}`, `{"a":2}`, `{"a":"1"}`, `{"a":true}`, `{"a":false}`, `{"b":1}`, `{"a":1,"b":1}`, `{"a":1,"b":2}`, `{"a":2,"b":1}`, `{"a":"b"}`, `{"a":""}`, `{"a":-1}`} {
		at := stampOf(t, "", 0, `{"ts":1,"values":`+values+`}`)
		if other, taken := places[at]; taken || at/nanosPerMs != received {
			t.Errorf("%s and %s are both at %d", values, other, at)
		}
		places[at] = values
	}
}

// TestAClockThatStandsStill sends numbered readings that all bear one time, in a hub that is opened twice.
func TestAClockThatStandsStill(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	const frames, each = 20, 100
	for round := range 2 {
		h := openHub(t, dir, testConfig(), store)
		for f := range frames {
			readings := ""
			for range each {
				readings += `,{"values":{"x":1}}`
			}
			h.send("a", fmt.Sprintf(`{"boot":"b","seq":%d,"ts":%d,"readings":[%s]}`, (round*frames+f)*each+1, received, readings[1:]))
		}
		h.settled("a", uint64((round+1)*frames*each))
		h.close()
	}
	if n := store.different(); n != 2*frames*each {
		t.Fatalf("%d points of %d readings", n, 2*frames*each)
	}
}

// TestReadingsOfOneMillisecondAreKeptAndResentOnesAreNot sends different readings of one time, and again in another order,
// in other frames, and after a restart.
func TestReadingsOfOneMillisecondAreKeptAndResentOnesAreNot(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	reading := func(values string) string { return fmt.Sprintf(`{"ts":%d,"values":%s}`, received, values) }
	a, b, c := reading(`{"x":1,"y":2}`), reading(`{"x":1,"y":3}`), reading(`{"x":1}`)
	turned := reading(`{"y":2,"x":1.0}`)
	h := openHub(t, dir, testConfig(), store)
	h.send("a", `{"readings":[`+a+`,`+b+`]}`)
	h.send("a", c)
	h.send("a", a)
	h.settled("a", 4)
	h.close()
	h = openHub(t, dir, testConfig(), store)
	h.send("a", `{"readings":[`+c+`,`+b+`,`+turned+`]}`)
	h.settled("a", 7)
	if n := store.different(); n != 3 {
		t.Fatalf("%d points of 3 readings:\n%s", n, joinLines(store.acceptedInNanos()))
	}
	for _, line := range store.accepted() {
		if line[len(line)-13:] != fmt.Sprint(received) {
			t.Errorf("%s is not at %d", line, received)
		}
	}
}

// TestOnlyReadingsThatShareAMillisecondHaveAPlaceBelowIt: it is what the store's files are small by. The hub is opened
// anew with its progress saved, and with readings that the writer has not come to.
func TestOnlyReadingsThatShareAMillisecondHaveAPlaceBelowIt(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	seq := 0
	send := func(h *hub, ms ...int64) {
		t.Helper()
		var readings []string
		for _, at := range ms {
			readings = append(readings, fmt.Sprintf(`{"ts":%d,"values":{"n":%d}}`, received+at, seq+len(readings)+1))
		}
		h.send("a", fmt.Sprintf(`{"boot":"b","seq":%d,"readings":[%s]}`, seq+1, strings.Join(readings, ",")))
		seq += len(ms)
	}
	h := openHub(t, dir, testConfig(), store)
	send(h, 1, 2, 2, 3)
	send(h, 3, 4, 1)
	h.settled("a", 7)
	h.close()
	h = openHub(t, dir, testConfig(), store)
	send(h, 4, 5)
	h.settled("a", 9)
	store.answers(away)
	send(h, 6)
	ended, end := context.WithCancel(t.Context())
	end()
	h.stopped = true
	_ = h.Stop(ended)
	h.bus.Close()
	h = openHub(t, dir, testConfig(), store)
	send(h, 6, 7)
	store.answers(nil)
	h.settled("a", 12)
	whole := ""
	points := map[string]bool{}
	for _, line := range store.acceptedInNanos() {
		points[line] = true
		if strings.HasSuffix(line, "000000") {
			whole += strings.TrimPrefix(strings.Fields(line)[1], "n=") + " "
		}
	}
	if whole != "1 2 4 6 9 10 12 " || len(points) != 12 || store.different() != 12 {
		t.Fatalf("at a whole ms: %s; %d points:\n%s", whole, store.different(), joinLines(store.acceptedInNanos()))
	}
	if _, err := h.StartReplay(time.UnixMilli(0), time.UnixMilli(received+1000), ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replay is done", func() bool { r, _ := h.Replay(); return r.State == ReplayDone && r.Written == 12 })
	if n := store.different(); n != 12 {
		t.Fatalf("%d points after a replay", n)
	}
}
