package devices_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"telemetryhub/wire"
)

// visit is one connection of a device that behaves in a way of its own until it ends, and reports how it ended. It
// fails the test only for what the hub may never do.
func (h *hub) visit(address, id string, seed uint64) (ended string) {
	random := rand.New(rand.NewPCG(seed, 0))
	conn, err := net.Dial("tcp", address)
	if err != nil {
		h.t.Error(err)
		return ""
	}
	defer conn.Close()
	ws, resp, err := upgrade(conn, "/connect", bearer(h.tokens[id]))
	if err != nil { // the hub stops
		if resp == nil || resp.StatusCode != 503 {
			h.t.Errorf("connect %s: %v", id, err)
		}
		return "refused"
	}
	_ = ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	frames := []string{`{"T":1}`, `{"id":1,"method":"telemetry","params":{"values":{"T":1}}}`, `{"method":"hello","params":{"boot":"b"}}`, `{"seq":1,"values":{"T":1}}`, `nonsense`, `{"id":"A","result":1}`}
	for range random.IntN(30) {
		if err := ws.WriteMessage(websocket.TextMessage, []byte(frames[random.IntN(len(frames))])); err != nil {
			break // closed by the hub: what it says is read below
		}
	}
	switch random.IntN(3) {
	case 0:
		return "left without a word"
	case 1:
		_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Second))
	}
	for {
		if _, _, err = ws.ReadMessage(); err != nil {
			break
		}
	}
	var closed *websocket.CloseError
	var timeout net.Error
	switch {
	case errors.As(err, &closed):
		return fmt.Sprint(closed.Code)
	case errors.As(err, &timeout) && timeout.Timeout():
		h.t.Errorf("%s was left hanging", id)
	}
	return "lost"
}

// Connections come, take over, misbehave, leave and are kicked at random until the hub stops in the middle of it: all
// that counts them agrees in the end, nobody is left hanging, no goroutine is left.
func TestRandomLives(t *testing.T) {
	h := newHub(t)
	address := h.serveTCP()
	ids := []string{"d1", "d2", "d3"}
	for i := range 37 {
		ids = append(ids, fmt.Sprint("r", i))
		h.create(ids[len(ids)-1])
	}
	feed, before := h.sessions.Subscribe(100_000), h.sessions.Version()
	defer feed.Close()

	var mu sync.Mutex
	ends := map[string]int{}
	var lives sync.WaitGroup
	var kicker sync.WaitGroup
	enough := make(chan struct{})
	const workers, visits = 30, 10
	for w := range uint64(workers) {
		lives.Go(func() {
			random := rand.New(rand.NewPCG(w, 1))
			for v := range uint64(visits) {
				id := ids[random.IntN(len(ids))]
				end := h.visit(address, id, w<<32|v)
				mu.Lock()
				ends[end]++
				if total := sum(ends); total == workers*visits*3/4 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	kicker.Go(func() {
		random := rand.New(rand.NewPCG(3, 3))
		tick := time.NewTicker(100 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-enough:
				return
			case <-tick.C:
			}
			id := ids[random.IntN(len(ids))]
			if s, ok := h.sessions.Online(id); ok {
				_ = h.sessions.Send(id, s, ping("A"))
				_ = h.sessions.Presence(id)
				if random.IntN(2) == 0 {
					h.sessions.Kick(id, wire.CloseRevoked, "kicked")
				}
			}
		}
	})
	kicker.Wait()
	if err := h.stopOnce(); err != nil {
		t.Error(err)
	}
	lives.Wait()
	if err := h.connector.Check(); err != nil {
		t.Error(err)
	}
	if n := h.sessions.Count(); len(n) != 0 {
		t.Errorf("sessions %v are left", n)
	}
	if sum(ends) != workers*visits || ends["4001"] == 0 || ends["4003"] == 0 || ends["1000"] == 0 {
		t.Errorf("ends %v: want %d, replaced, kicked and closed ones among them", ends, workers*visits)
	}
	wantSoundSessions(t, h.answers.lines())
	wantSoundFeed(t, drain(feed, before))
}

func sum(counts map[string]int) (total int) {
	for _, n := range counts {
		total += n
	}
	return total
}

// wantSoundSessions: each session that was ever spoken of ended exactly once.
func wantSoundSessions(t *testing.T, lines []string) {
	t.Helper()
	ended := map[string]int{}
	for _, line := range lines {
		words := strings.Fields(line)
		session, end := words[1]+" "+words[2], 0
		if words[0] == "ended" {
			end = 1
		}
		ended[session] += end
	}
	for session, n := range ended {
		if n != 1 {
			t.Errorf("session %s ended %d times", session, n)
		}
	}
}

// wantSoundFeed: versions have no holes, and each device's last change is its end.
func wantSoundFeed(t *testing.T, lines []string) {
	t.Helper()
	last := map[string]string{}
	for i, line := range lines {
		words := strings.Fields(line)
		if words[0] != fmt.Sprint(i+1) {
			t.Fatalf("change %d has the version %s", i+1, words[0])
		}
		last[words[1]] = words[2]
	}
	for device, online := range last {
		if online != "false" {
			t.Errorf("the last change of %s says that it is online", device)
		}
	}
	if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasSuffix(line, "the hub stopped") }) {
		t.Log("no device was there when the hub stopped")
	}
}
