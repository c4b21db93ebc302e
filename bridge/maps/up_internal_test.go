package maps

import (
	"strings"
	"testing"
)

// A message that becomes many outcomes leaves room for some only.
func TestAScratchDoesNotKeepWhatOneMessageNeeded(t *testing.T) {
	set, err := Compile([]Group{{Maps: []Map{{Name: "list", Topic: "all", Each: "$", Identity: Identity{Device: "{$.id}"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	var w Scratch
	for range 2 {
		list := "[" + strings.Repeat(`{"id":"a","v":1},`, 999) + `{"id":"a","v":1}]`
		if outcomes, err := set.Up(&w, Message{Topic: "all", Payload: []byte(list)}); err != nil || len(outcomes) != 1000 {
			t.Fatalf("%d outcomes, %v", len(outcomes), err)
		}
		if _, err := set.Up(&w, Message{Topic: "all", Payload: []byte(`[{"id":"a","v":1}]`)}); err != nil || len(w.slots) > keptSlots {
			t.Errorf("%d slots are kept, %v", len(w.slots), err)
		}
	}
}
