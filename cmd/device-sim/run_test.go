package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func wantJudged(t *testing.T, s summary, lost, duplicated uint64) {
	t.Helper()
	if s.Stored == nil || s.Lost == nil || s.Duplicated == nil {
		t.Fatalf("nothing was judged: %+v", s)
	}
	if *s.Lost != lost || *s.Duplicated != duplicated || *s.Stored != s.Sent-lost || s.Sent == 0 || s.Acked != s.Sent {
		t.Errorf("sent %d acked %d stored %d lost %d duplicated %d; want lost %d duplicated %d",
			s.Sent, s.Acked, *s.Stored, *s.Lost, *s.Duplicated, lost, duplicated)
	}
}

func TestSyntheticRunIsGood(t *testing.T) {
	for name, more := range map[string][]string{
		"one by one": {},
		"batches":    {"--batch", "7", "--window", "2"},
		"clockless":  {"--clockless"},
		"slow":       {"--faults", "slow-reader"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHub(t)
			s, err := testRun(t, h.args(append(more, "--devices", "5", "--rate", "200", "--duration", "500ms", "--verify")...))
			if err != nil {
				t.Fatal(err)
			}
			wantJudged(t, s, 0, 0)
			if s.Devices != 5 || s.Connected != 5 || s.ConnectFailed != 0 || s.Sent < 400 || s.Sent > 600 {
				t.Errorf("%+v, want 5 devices with about 500 readings", s)
			}
			if s.AckMs.P50 <= 0 || s.AckMs.Max < s.AckMs.P50 || s.Seconds < 0.5 {
				t.Errorf("ack_ms %+v in %v s", s.AckMs, s.Seconds)
			}
		})
	}
}

func TestAHubThatLosesAReadingIsFound(t *testing.T) {
	h := newFakeHub(t)
	h.lose = func(device string, values map[string]any) bool { return device == "sim-00002" && values["n"] == 7.0 }
	s, err := testRun(t, h.args("--devices", "3", "--rate", "100", "--duration", "300ms", "--verify"))
	if !errors.Is(err, errJudged) || exitStatus(err) != exitFailed {
		t.Errorf("error %v, status %d", err, exitStatus(err))
	}
	wantJudged(t, s, 1, 0)
}

func TestAHubThatStoresTwiceIsFound(t *testing.T) {
	h := newFakeHub(t)
	h.double = func(_ string, values map[string]any) bool { return values["n"] == 7.0 }
	s, err := testRun(t, h.args("--devices", "3", "--rate", "50", "--duration", "300ms", "--verify"))
	if !errors.Is(err, errJudged) {
		t.Errorf("error %v", err)
	}
	wantJudged(t, s, 0, 3)
}

func TestAHubThatChangesAReplayedReadingIsFound(t *testing.T) {
	h := newFakeHub(t)
	h.lose = func(device string, values map[string]any) bool {
		values["RelH"] = values["RelH"].(float64) + 1e-9
		return false
	}
	h.double = func(device string, values map[string]any) bool { return true }
	files := realFiles(t)
	s, err := testRun(t, h.args("--replay", files[2], "--speed", "0", "--verify"))
	if !errors.Is(err, errJudged) || s.Lost == nil || *s.Lost != 1507 || *s.Duplicated < 1000 {
		t.Errorf("error %v, %+v", err, s)
	}
}

func realFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../testdata/room-climate/*.csv")
	if err != nil || len(files) != 3 {
		t.Fatalf("files %v, error %v", files, err)
	}
	return files
}

func TestReplayOfAllReadings(t *testing.T) {
	h := newFakeHub(t)
	s, err := testRun(t, h.args("--replay", strings.Join(realFiles(t), ","), "--speed", "0", "--verify"))
	if err != nil {
		t.Fatal(err)
	}
	wantJudged(t, s, 0, 0)
	if s.Devices != 12 || s.Sent != 15546 || s.Reconnects != 0 {
		t.Errorf("%+v, want 15546 readings of 12 devices", s)
	}
}

func TestReplayThroughAHubThatCutsConnections(t *testing.T) {
	h := newFakeHub(t)
	h.cutEvery, h.forget = 700, true // stored and not acknowledged: each cut makes resent readings
	s, err := testRun(t, h.args("--replay", strings.Join(realFiles(t), ","), "--speed", "0", "--verify", "--batch", "3"))
	if err != nil {
		t.Fatal(err)
	}
	wantJudged(t, s, 0, 0)
	if s.Sent != 15546 || s.Reconnects == 0 || h.count("duplicate") == 0 {
		t.Errorf("%+v, %d resent; want 15546 readings, reconnections and resent readings", s, h.count("duplicate"))
	}
}

func TestReplayWithHistoryThenLive(t *testing.T) {
	h := newFakeHub(t)
	s, err := testRun(t, h.args("--replay", realFiles(t)[2], "--duration", "1500ms", "--verify"))
	if err != nil {
		t.Fatal(err)
	}
	wantJudged(t, s, 0, 0)
	if s.Sent <= 1507 {
		t.Errorf("sent %d, want the history of 1507 and live readings", s.Sent)
	}
}

func TestReplayAtAMultipleOfItsPaceEnds(t *testing.T) {
	h := newFakeHub(t)
	s, err := testRun(t, h.args("--replay", realFiles(t)[2], "--speed", "20000", "--verify"))
	if err != nil {
		t.Fatal(err)
	}
	wantJudged(t, s, 0, 0)
	if s.Sent != 1507 {
		t.Errorf("sent %d, want 1507", s.Sent)
	}
}

func TestAKilledAndRestartedHub(t *testing.T) {
	h := newFakeHub(t)
	h.mute = true // so that readings are under way when it dies
	h.refuse = 2
	full := make(chan struct{})
	h.lose = func(string, map[string]any) bool {
		var stored uint64
		for _, counts := range h.counts {
			stored += counts["stored"]
		}
		if stored == 4*16 { // each device has filled its window
			close(full)
		}
		return false
	}
	type ending struct {
		s   summary
		err error
	}
	ended := make(chan ending, 1)
	go func() {
		s, err := testRun(t, h.args("--devices", "4", "--rate", "100", "--duration", "2s", "--verify"))
		ended <- ending{s, err}
	}()
	<-full
	h.kill()
	h.mu.Lock()
	h.mute = false
	h.mu.Unlock()
	h.restart()
	e := <-ended
	if e.err != nil {
		t.Fatal(e.err)
	}
	wantJudged(t, e.s, 0, 0)
	if e.s.Reconnects < 4 || e.s.Connected != 4 || e.s.Sent < 4*150 {
		t.Errorf("%+v, want all four devices to come back and go on", e.s)
	}
	if resent := h.count("duplicate") + h.count("stored") - e.s.Sent; h.count("duplicate") != 0 || resent != 0 {
		t.Errorf("%d readings were resent, though hello told that the hub has them", h.count("duplicate"))
	}
}

func TestFaultsAreRefusedAndNotCounted(t *testing.T) {
	h := newFakeHub(t)
	s, err := testRun(t, h.args("--devices", "100", "--rate", "10", "--duration", "2s", "--verify", "--connect-rate", "0",
		"--faults", "duplicate,bad-type,bad-frame,half-open,slow-reader,clock,disconnect"))
	if err != nil {
		t.Fatal(err)
	}
	wantJudged(t, s, 0, 0)
	if s.Quarantined == 0 || s.Refused == 0 || s.Reconnects == 0 || h.count("duplicate") == 0 {
		t.Errorf("%+v, %d resent; want some of each fault", s, h.count("duplicate"))
	}
}

func TestOneDeviceWithoutAdmin(t *testing.T) {
	h := newFakeHub(t)
	h.tokens["pump-7"], h.points["pump-7"], h.counts["pump-7"] = "dev_mine", map[int64]map[string]any{}, map[string]uint64{}
	token := writeFile(t, "dev_mine\n")
	args := []string{
		"--url", "https://" + h.address, "--ca", filepath.Join(h.dir, "ca.pem"), "--json",
		"--device", "pump-7", "--token-file", token, "--rate", "100", "--duration", "200ms",
	}
	s, err := testRun(t, args)
	if err != nil {
		t.Fatal(err)
	}
	if s.Devices != 1 || s.Sent == 0 || s.Acked != s.Sent || s.Stored != nil {
		t.Errorf("%+v", s)
	}
}

func TestCommands(t *testing.T) {
	h := newFakeHub(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan string)
	go func() {
		var stdout strings.Builder
		if err := run(ctx, h.args("--devices", "1", "--rate", "50"), &stdout, io.Discard); err != nil {
			t.Error(err)
		}
		ended <- stdout.String()
	}()
	device := <-h.joined
	result := func(answer map[string]any) map[string]any {
		r, _ := answer["result"].(map[string]any)
		return r
	}
	code := func(answer map[string]any) float64 {
		e, _ := answer["error"].(map[string]any)
		c, _ := e["code"].(float64)
		return c
	}
	if a := h.command(device, `{"jsonrpc":"2.0","id":"C1","method":"ping","attempt":1}`); a["id"] != "C1" || !truth(result(a)["pong"]) {
		t.Errorf("ping: %v", a)
	}
	if a := h.command(device, `{"jsonrpc":"2.0","id":"C2","method":"set","params":{"interval":10,"mode":"eco"}}`); result(a)["interval"] != 10.0 {
		t.Errorf("set: %v", a)
	}
	if a := h.command(device, `{"jsonrpc":"2.0","id":"C3","method":"set","params":{"interval":20}}`); result(a)["interval"] != 20.0 || result(a)["mode"] != "eco" {
		t.Errorf("set again: %v", a)
	}
	for _, params := range []string{``, `,"params":[1]`, `,"params":{}`, `,"params":null`} {
		if a := h.command(device, `{"jsonrpc":"2.0","id":`+jsonOf(t, "D"+params)+`,"method":"set"`+params+`}`); code(a) != -32602 {
			t.Errorf("set%s: %v", params, a)
		}
	}
	if a := h.command(device, `{"jsonrpc":"2.0","id":"C4","method":"fly"}`); code(a) != -32601 {
		t.Errorf("unknown: %v", a)
	}
	if a := h.command(device, `{"jsonrpc":"2.0","id":"C5","method":"ping","expires":1000}`); code(a) != codeExpired {
		t.Errorf("expired: %v", a)
	}
	if a := h.command(device, `{"jsonrpc":"2.0","id":"C2","method":"set","params":{"interval":99}}`); result(a)["interval"] != 10.0 {
		t.Errorf("the same command again must get the first answer: %v", a)
	}
	if a := h.command(device, `{"jsonrpc":"2.0","id":"C6","method":"reboot"}`); !truth(result(a)["rebooting"]) {
		t.Errorf("reboot: %v", a)
	}
	<-h.joined
	if a := h.command(device, `{"jsonrpc":"2.0","id":"C7","method":"ping"}`); !truth(result(a)["pong"]) {
		t.Errorf("ping after the reboot: %v", a)
	}
	cancel()
	var s summary
	if err := json.Unmarshal([]byte(<-ended), &s); err != nil {
		t.Fatal(err)
	}
	if s.Commands.Received != 12 || s.Commands.Answered != 11 || s.Acked != s.Sent || s.Reconnects != 1 {
		t.Errorf("%+v, want 12 commands, of which 1 came twice", s)
	}
	if boots := h.boots[device]; len(boots) != 2 || boots[0] == boots[1] {
		t.Errorf("boots %v, want two", boots)
	}
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func truth(value any) bool {
	is, _ := value.(bool)
	return is
}

// A device that is told when to come comes then: not before, whatever failed until then, and not much later.
func TestADeviceComesAtTheSlotThatItWasTold(t *testing.T) {
	h := newFakeHub(t)
	h.refuse, h.later = 2, 400*time.Millisecond
	s, err := testRun(t, h.args("--devices", "2", "--rate", "10", "--duration", "1s", "--connect-rate", "0", "--verify"))
	if err != nil {
		t.Fatal(err)
	}
	if p := s.Postponed; p.Refused != 2 || p.Again != 0 || p.Told != 2 || p.LateMs.Max < 0.1 || p.LateMs.Max > 5000 {
		t.Errorf("postponed %+v, want 2 refused, none again, both in time", p)
	}
}

// A hub that refuses a device again that obeys is caught.
func TestADeviceThatIsRefusedTwiceIsCounted(t *testing.T) {
	h := newFakeHub(t)
	h.refuse, h.later = 3, 20*time.Millisecond
	s, err := testRun(t, h.args("--devices", "1", "--rate", "10", "--duration", "200ms", "--verify"))
	if err != nil {
		t.Fatal(err)
	}
	if p := s.Postponed; p.Refused != 3 || p.Again != 2 || p.Told != 1 {
		t.Errorf("postponed %+v, want 3 refused, 2 of them again", p)
	}
}

// A device with a twin and one that answers pings only do not count as others: no more devices, and no readings.
func TestFaultsThatLast(t *testing.T) {
	h := newFakeHub(t)
	s, err := testRun(t, h.args("--devices", "11", "--rate", "10", "--duration", "1s", "--verify", "--connect-rate", "0", "--faults", "clone"))
	if err != nil {
		t.Fatal(err)
	}
	wantJudged(t, s, 0, 0)
	if s.Devices != 11 || s.Connected != 11 || s.Reconnects < 2 { // of the two twins, at least
		t.Errorf("%+v", s)
	}
	h = newFakeHub(t)
	if s, err = testRun(t, h.args("--devices", "1", "--rate", "10", "--duration", "500ms", "--verify", "--faults", "pong-only")); err != nil {
		t.Fatal(err)
	}
	if s.Connected != 1 || s.Sent != 0 {
		t.Errorf("%+v, want one that sends nothing", s)
	}
}
