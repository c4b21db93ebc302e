package backbone

import (
	"testing"
	"time"
)

// TestDamageIsToldWhileTheServerStarts: readyz and the metrics ask for it, and must not stand still for as long as that takes.
func TestDamageIsToldWhileTheServerStarts(t *testing.T) {
	e := &embedded{damage: Damage{Lost: map[string]uint64{Journal: 1}}}
	e.mu.Lock() // as start does
	defer e.mu.Unlock()
	told := make(chan Damage, 1)
	go func() { told <- (&Backbone{server: e}).Damage() }()
	select {
	case d := <-told:
		if d.Lost[Journal] != 1 {
			t.Errorf("it is told %+v", d)
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits for the start")
	}
}
