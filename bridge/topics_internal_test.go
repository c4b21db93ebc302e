package bridge

import (
	"strings"
	"testing"

	"telemetryhub/wire"
)

// A topic that is taken apart is put together again; a filter that a device may have matches topics of that device alone
// (MQTT 5 section 4.7).
func FuzzTopics(f *testing.F) {
	for _, seed := range []string{
		"devices/d1/telemetry", "devices/d1/command", "devices/d1/#", "devices/d1/+", "devices/+/command", "devices/d1", "devices//telemetry", "#",
		"$share/g/devices/d1/command", "devices/d1/state/x", "devices/d1/\x00", "devices/é/telemetry", "/devices/d1/telemetry",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		device, about, ok := splitTopic(ownPrefix, text)
		if ok && (joinTopic(ownPrefix, device, about) != text || wire.CheckDeviceID(device) != nil) {
			t.Errorf("%q is %q of %q", text, about, device)
		}
		if !filterAllowed("d1", text) {
			return
		}
		for _, other := range []string{"devices/d2/command", "devices/d2/desired", "devices/d11/command", "$SYS/broker"} {
			if matches(text, other) {
				t.Errorf("filter %q of d1 matches %q", text, other)
			}
		}
	})
}

// matches is section 4.7 to the letter.
func matches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") != strings.HasPrefix(filter, "$") {
		return false
	}
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t), level != "+" && level != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}
