package ingest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// check holds what numbers promises of its own shape.
func (n *numbers) check() error {
	if len(n.Spans) > maxSpans {
		return fmt.Errorf("%d spans", len(n.Spans))
	}
	low := max(n.Floor, n.Forgotten)
	for i, s := range n.Spans {
		apart := uint64(1) // a gap of at least one number
		if i == 0 && n.Forgotten > n.Floor {
			apart = 0 // the forgotten may reach up to the first span
		}
		if s[0] <= low+apart || s[1] < s[0] {
			return fmt.Errorf("span %d %v above %d", i, s, low)
		}
		low = s[1]
	}
	return nil
}

// sequences are ways in which numbers come.
var sequences = map[string]func(r *rand.Rand, i uint64) uint64{
	"in order":         func(_ *rand.Rand, i uint64) uint64 { return i + 1 },
	"resent a little":  func(r *rand.Rand, i uint64) uint64 { return 1 + i - min(i, r.Uint64N(20)) },
	"shuffled":         func(r *rand.Rand, i uint64) uint64 { return 1 + i/2 + r.Uint64N(30) },
	"gaps":             func(r *rand.Rand, i uint64) uint64 { return 1 + i + r.Uint64N(3)*i/2 },
	"every other":      func(_ *rand.Rand, i uint64) uint64 { return 2 * (i + 1) },
	"wild":             func(r *rand.Rand, _ uint64) uint64 { return 1 + r.Uint64N(400) },
	"backwards":        func(_ *rand.Rand, i uint64) uint64 { return 1000 - i%1000 },
	"far ahead":        func(r *rand.Rand, i uint64) uint64 { return 1 + i + (r.Uint64N(50)/49)<<50 },
	"ends of the hole": func(r *rand.Rand, i uint64) uint64 { return 1 + (i*7919)%997 + r.Uint64N(2) },
}

// TestNumbersAgreeWithAPlainSet compares with a set that forgets nothing: new once, duplicate only after new, unknown
// only where something was forgotten; across saving, too.
func TestNumbersAgreeWithAPlainSet(t *testing.T) {
	for name, next := range sequences {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				r := rand.New(rand.NewPCG(seed, 2))
				var n numbers
				come := map[uint64]bool{}
				highest := uint64(0)
				for i := range uint64(1000) {
					seq := next(r, i)
					forgotten := n.Forgotten
					got := n.take(seq)
					switch {
					case got == isNew && come[seq]:
						t.Fatalf("seed %d: %d is new twice", seed, seq)
					case got == isDuplicate && !come[seq]:
						t.Fatalf("seed %d: %d is a duplicate and never came", seed, seq)
					case got == isUnknown && seq > forgotten:
						t.Fatalf("seed %d: %d is unknown, forgotten was up to %d", seed, seq, forgotten)
					case got != isUnknown && forgotten == 0 && (got == isNew) == come[seq]:
						t.Fatalf("seed %d: %d is judged %d", seed, seq, got)
					}
					if got == isNew {
						come[seq] = true
						highest = max(highest, seq)
					}
					if n.last() != highest {
						t.Fatalf("seed %d: last is %d; want %d", seed, n.last(), highest)
					}
					if err := n.check(); err != nil {
						t.Fatalf("seed %d: after %d: %v", seed, seq, err)
					}
					if i%100 == 50 {
						n = saved(t, n)
					}
				}
			}
		})
	}
}

func saved(t *testing.T, n numbers) (back numbers) {
	t.Helper()
	data, err := json.Marshal(n)
	if err == nil {
		err = json.Unmarshal(data, &back)
	}
	if err != nil {
		t.Fatal(err)
	}
	return back
}

func TestNothingIsForgottenUpToTheBound(t *testing.T) {
	var n numbers
	for i := range uint64(maxSpans) {
		n.take(3 * (i + 1))
	}
	if n.Forgotten != 0 || n.take(1) != isNew || n.take(2) != isNew {
		t.Fatalf("forgotten up to %d with %d spans", n.Forgotten, len(n.Spans))
	}
	if n.Floor != 3 {
		t.Fatalf("floor %d; 1 to 3 have come", n.Floor)
	}
	n.take(1000)
	n.take(2000)
	if n.Forgotten != 6 || n.take(4) != isUnknown || n.take(3) != isDuplicate || n.take(7) != isNew {
		t.Fatalf("after too many gaps: %+v", n)
	}
}

func TestBootsAreBoundedAndTheOneUsedLastStays(t *testing.T) {
	a := &account{}
	judge := func(boot string, seq uint64, want verdict) {
		t.Helper()
		if got := a.judge([]byte(boot), seq); got != want {
			t.Fatalf("%s %d is judged %d; want %d", boot, seq, got, want)
		}
	}
	for i := range maxBoots {
		judge(fmt.Sprint("boot", i), 1, isNew)
	}
	judge("boot0", 1, isDuplicate) // and is now the one used last
	judge("another", 1, isNew)     // so boot1 goes
	if len(a.Boots) != maxBoots || a.Boots[maxBoots-1].Boot != "another" {
		t.Fatalf("boots %+v", a.Boots)
	}
	judge("boot0", 1, isDuplicate)
	judge("boot2", 1, isDuplicate)
	judge("boot1", 1, isNew)
	judge("", 1, isNew)
	judge("", 1, isNew)
	judge("boot2", 0, isNew)
	judge("boot2", 0, isNew)
	if len(a.Boots) != maxBoots {
		t.Fatalf("%d boots", len(a.Boots))
	}
}

// TestArrivalsRememberAsManyBootsAsTheAccount holds what hello is answered from to the same bound.
func TestArrivalsRememberAsManyBootsAsTheAccount(t *testing.T) {
	arrivals := &arrivals{byDevice: map[string]*arrival{}}
	for i := range 3 * maxBoots {
		arrivals.commit([]mark{{of: arrivals.of("a"), boot: fmt.Sprint(i), last: uint64(i + 1), count: 1}})
		arrivals.commit([]mark{{of: arrivals.of("a"), boot: "0", last: 1, count: 1}})
	}
	if n := len(arrivals.of("a").boots); n != maxBoots {
		t.Fatalf("%d boots", n)
	}
	for _, c := range []struct {
		device, boot string
		want         uint64
	}{{"a", "0", 1}, {"a", fmt.Sprint(3*maxBoots - 1), 3 * maxBoots}, {"a", "1", 0}, {"b", "0", 0}} {
		if got, _ := arrivals.durable(c.device, c.boot); got != c.want {
			t.Fatalf("durable of %s, %s: %d, want %d", c.device, c.boot, got, c.want)
		}
	}
	arrivals.commit([]mark{{of: arrivals.of("a"), boot: "0", last: 5, count: 1}, {of: arrivals.of("a"), boot: "0", last: 3, count: 1}})
	if got, gaps := arrivals.durable("a", "0"); got != 5 || !slices.Equal(gaps, [][2]uint64{{2, 2}, {4, 4}}) {
		t.Fatalf("durable %d without %v after an older one was resent", got, gaps)
	}
}
