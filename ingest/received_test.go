package ingest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestTheTimeOfReceiptIsStoredWhereItIsAskedFor, the first one of a reading that comes again, is retried or replayed.
func TestTheTimeOfReceiptIsStoredWhereItIsAskedFor(t *testing.T) {
	store, cfg := &memoryStore{}, testConfig()
	cfg.ReceivedField = "received_ms"
	store.answers(rejects("n=2,"))
	h := openHub(t, t.TempDir(), cfg, store)
	for _, seq := range []uint64{1, 2, 2} {
		h.send("a", numbered("b", seq))
	}
	h.send("a", `{"ts":1699999999999,"values":{"received_ms":7}}`) // the device's own, of the same name
	h.send("a", `{"boot":"b","seq":3,"ts":1699999999998,"values":{"n":"x"}}`)
	h.settled("a", 5)
	store.answers(nil)
	for reason, fate := range map[string]Fate{"store_rejected": FateStored, reasonTypeConflict: FateQuarantined} {
		if all, err := h.RetryAll(t.Context(), Filter{Reason: reason}, 0, 10); err != nil || all.Fates[fate] != 1 {
			t.Fatalf("%s retried: %+v, %v", reason, all, err)
		}
	}
	want := []string{
		fmt.Sprintf("telemetry,device=a n=1,received_ms=%di %d", received, received-100_000+1),
		"telemetry,device=a received_ms=7i 1699999999999",
		fmt.Sprintf("telemetry,device=a n=2,received_ms=%di %d", received, received-100_000+2),
	}
	if got := store.accepted(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("stored\n%s\nwant\n%s", joinLines(got), joinLines(want))
	}
	made := store.acceptedInNanos()
	if _, err := h.StartReplay(time.UnixMilli(0), time.UnixMilli(received+1), ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replay is done", func() bool { r, _ := h.Replay(); return r.State == ReplayDone })
	again := store.acceptedInNanos()[len(made):]
	if strings.Join(again, "\n") != strings.Join(made, "\n") {
		t.Fatalf("replayed\n%s\nmade\n%s", joinLines(again), joinLines(made))
	}
}
