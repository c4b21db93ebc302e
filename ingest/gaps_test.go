package ingest

import (
	"fmt"
	"testing"
)

func TestGapsInNumbersAreNamed(t *testing.T) {
	h := openHub(t, t.TempDir(), testConfig(), &memoryStore{})
	for _, seq := range []uint64{1, 2, 5, 9, 10, 12} {
		h.send("a", numbered("old", seq))
	}
	for seq := uint64(2); seq <= 2*(maxSpans+2); seq += 2 {
		h.send("a", numbered("new", seq))
	}
	h.settled("a", 6+maxSpans+2)
	gaps := h.Gaps("a")
	if len(gaps) != 1+maxSpans+3 {
		t.Fatalf("%d gaps: %v", len(gaps), gaps)
	}
	got := fmt.Sprint(gaps[:2], gaps[len(gaps)-2:])
	if want := "[{new 1 4 true} {new 5 5 false}] [{old 6 8 false} {old 11 11 false}]"; got != want {
		t.Errorf("gaps %s, want %s", got, want)
	}
	h.send("a", numbered("old", 3))
	h.send("a", numbered("old", 4))
	h.settled("a", 8+maxSpans+2)
	if gaps = h.Gaps("a"); gaps[0] != (Gap{Boot: "old", From: 6, To: 8}) {
		t.Errorf("after the gap was filled: %v", gaps[0])
	}
	if h.Gaps("unknown") != nil {
		t.Error("an unknown device has gaps")
	}
}
