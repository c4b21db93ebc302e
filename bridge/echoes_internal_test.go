package bridge

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestEchoesAreKnownForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEchoes()
		if e.heard("a/b", []byte("1")) {
			t.Error("heard before it was sent")
		}
		e.note("a/b", []byte("1"))
		for _, other := range []struct{ topic, payload string }{{"a/b", "2"}, {"a", "/b1"}, {"a/b\x001", ""}} {
			if e.heard(other.topic, []byte(other.payload)) {
				t.Errorf("%q %q is taken for what was sent", other.topic, other.payload)
			}
		}
		time.Sleep(echoTime - time.Second)
		for range 2 { // a loop brings it again and again
			if !e.heard("a/b", []byte("1")) {
				t.Error("not known for a minute")
			}
		}
		time.Sleep(time.Second)
		if e.heard("a/b", []byte("1")) {
			t.Error("known after a minute")
		}
	})
}

func TestEchoesAreBounded(t *testing.T) {
	e := newEchoes()
	for n := range 3 * echoCount {
		e.note("a", fmt.Append(nil, n))
		e.note("a", fmt.Append(nil, n)) // known already
	}
	if len(e.sent) != echoCount {
		t.Errorf("%d are kept, want %d", len(e.sent), echoCount)
	}
	if !e.heard("a", fmt.Append(nil, 3*echoCount-1)) || e.heard("a", fmt.Append(nil, 0)) {
		t.Error("not the newest are kept")
	}
}
