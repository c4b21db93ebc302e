package devices_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
)

func TestAnnouncedMethodsAreKeptUntilTheNextHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		announced := func(want ...string) {
			t.Helper()
			synctest.Wait()
			if got := h.sessions.Presence("d1").Methods; !reflect.DeepEqual(got, want) {
				t.Errorf("announced %q, want %q", got, want)
			}
		}
		h.dial("d1").hello(`{"methods":["ping","set","ping","","hub.ack","a\u0007b"]}`)
		announced("ping", "set")
		_ = h.dial("d1") // replaces that connection, and says nothing yet
		announced("ping", "set")
		d := h.dial("d1")
		d.hello(`{"methods":["reboot"]}`)
		announced("reboot")
		_ = d.ws.Close()
		announced("reboot") // also offline
		h.dial("d1").hello(`{}`)
		announced()
	})
}

func TestAnnouncedMethodsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		var names []string
		for i := range 200 {
			names = append(names, fmt.Sprintf("%q", fmt.Sprintf("m%d", i)))
		}
		h.dial("d1").hello(`{"methods":[` + strings.Join(names, ",") + `]}`)
		if got := h.sessions.Presence("d1").Methods; len(got) != 64 || got[63] != "m63" {
			t.Errorf("%d methods kept, want the first 64: %q", len(got), got)
		}
		long := strings.Repeat("x", 120)
		for i := range names[:30] {
			names[i] = fmt.Sprintf("%q", fmt.Sprintf("%s%d", long, i))
		}
		h.dial("d1").hello(`{"methods":[` + strings.Join(names[:30], ",") + `]}`)
		if got := len(strings.Join(h.sessions.Presence("d1").Methods, "")); got > 2<<10 || got < 1<<10 {
			t.Errorf("%d bytes of names kept, want at most 2 KiB", got)
		}
	})
}
