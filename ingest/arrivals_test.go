package ingest

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// last is the number that Durable says.
func (h *hub) last(device, boot string) uint64 {
	last, _ := h.Durable(device, boot)
	return last
}

// TestGapsAreKnownAfterTheConnectionAndARestart holds what hello repeats: where the writer has saved what it knows, and
// where it is in the journal only.
func TestGapsAreKnownAfterTheConnectionAndARestart(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	h := openHub(t, dir, testConfig(), store)
	want := func(when string, last uint64, gaps ...[2]uint64) {
		t.Helper()
		if gotLast, got := h.Durable("a", "b"); gotLast != last || !slices.Equal(got, gaps) {
			t.Fatalf("%s: durable %d without %v, want %d without %v", when, gotLast, got, last, gaps)
		}
	}
	h.send("a", numbered("b", 1))
	h.send("a", numbered("b", 5))
	want("at once", 5, [2]uint64{2, 4})
	h.settled("a", 2)
	h.close()

	h = openHub(t, dir, testConfig(), store)
	want("after a restart", 5, [2]uint64{2, 4})
	store.answers(away)
	h.send("a", `{"boot":"b","seq":8,"readings":[{"values":{"n":8}},{"values":{"n":9}}]}`)
	h.send("a", numbered("b", 3))
	want("beside what the writer knows", 9, [2]uint64{2, 2}, [2]uint64{4, 4}, [2]uint64{6, 7})
	h.close()

	h = openHub(t, dir, testConfig(), store)
	want("read ahead", 9, [2]uint64{2, 2}, [2]uint64{4, 4}, [2]uint64{6, 7})
	for _, seq := range []uint64{2, 4, 6, 7} {
		h.send("a", numbered("b", seq))
	}
	want("when all came", 9)
	store.answers(nil)
	h.settled("a", 9)
}

// TestAddKnowsWhatTakeKnows gives the same pieces to one that takes them number by number.
func TestAddKnowsWhatTakeKnows(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		var whole, single numbers
		came := map[uint64]bool{}
		for range 60 {
			first := 1 + random.Uint64N(200)
			last := first + random.Uint64N(12)
			whole.add(first, last)
			for seq := first; seq <= last; seq++ {
				single.take(seq)
				came[seq] = true
			}
			if whole.Floor != single.Floor || !slices.Equal(whole.Spans, single.Spans) {
				t.Fatalf("seed %d: %+v after %d to %d, one by one %+v", seed, whole, first, last, single)
			}
			missing := map[uint64]bool{}
			for _, gap := range whole.gaps() {
				for seq := gap[0]; seq <= gap[1]; seq++ {
					missing[seq] = true
				}
			}
			for seq := uint64(1); seq <= whole.last(); seq++ {
				if came[seq] == missing[seq] {
					t.Fatalf("seed %d: %d came: %v, missing: %v", seed, seq, came[seq], missing[seq])
				}
			}
		}
	}
}

// TestAForgottenGapIsTold: nobody knows which of its numbers came, so it is not said that all did.
func TestAForgottenGapIsTold(t *testing.T) {
	var n numbers
	for i := range uint64(maxSpans + 2) {
		n.add(10*i+5, 10*i+6)
	}
	gaps := n.gaps()
	if len(gaps) != maxSpans+1 || gaps[0] != [2]uint64{1, 16} || gaps[1] != [2]uint64{17, 24} {
		t.Fatalf("%d gaps: %v", len(gaps), gaps)
	}
	before := n.gaps()
	n.add(3, 9)
	if !reflect.DeepEqual(n.gaps(), before) || n.last() != 10*(maxSpans+1)+6 {
		t.Fatalf("what came into the forgotten gap changed it: %v", n.gaps())
	}
}

func TestAddingWhatFollowsAllocatesNothing(t *testing.T) {
	n, gapped := numbers{}, numbers{}
	gapped.add(5, 5)
	next := uint64(5)
	if got := testing.AllocsPerRun(100, func() {
		next++
		n.add(next-5, next-5)
		gapped.add(next, next)
	}); got > 0 {
		t.Errorf("%v allocations", got)
	}
}
