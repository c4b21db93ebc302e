package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// writes counts what was ever written to each stream of the hub's JetStream.
func (h *hub) writes(t *testing.T) map[string]uint64 {
	t.Helper()
	all := map[string]uint64{}
	streams := h.bus.JetStream().ListStreams(t.Context())
	for info := range streams.Info() {
		all[info.Config.Name] = info.State.LastSeq
	}
	if err := streams.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// importDevices registers so many devices and returns their tokens.
func (h *hubProcess) importDevices(n int) (tokens []string) {
	h.t.Helper()
	list := bytes.NewBufferString("id\n")
	for i := range n {
		fmt.Fprintf(list, "herd-%d\n", i)
	}
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.url+"/api/v1/devices/import", list)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+h.token())
	r.Header.Set("Content-Type", "text/csv")
	r.Header.Set("Accept", "text/csv")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil || len(rows) != n+1 {
		h.t.Fatalf("status %d, %d rows, %v: %.200s", answer.StatusCode, len(rows), err, text)
	}
	for _, row := range rows[1:] {
		tokens = append(tokens, row[1])
	}
	return tokens
}

// A connection is no durable write: JetStream takes some 1,750 synced ones a second, and the readings' commits would wait
// behind a herd's. Presence is written in 64 shards, every two seconds at most.
func TestAHerdIsNoDurableWriteForEachDevice(t *testing.T) {
	const herd = 2000
	cfg := defaultConfig()
	cfg.Data, cfg.Listen, cfg.HTTP.Listen, cfg.MQTT.Listen = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0", ""
	cfg.Devices.ConnectRate = 100_000
	log := slog.New(slog.DiscardHandler)
	h, err := openHub(t.Context(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	stopped := sync.OnceValue(func() error { return h.stop.run(stopBudget, log) })
	t.Cleanup(func() {
		if err := stopped(); err != nil {
			t.Error(err)
		}
	})
	p := &hubProcess{t: t, data: cfg.Data, url: "http://" + h.plain.Addr().String()}
	tokens := p.importDevices(herd)
	before, start := h.writes(t), time.Now()

	var dialling sync.WaitGroup
	conns := make(chan *websocket.Conn, herd)
	next := make(chan string, herd)
	for _, token := range tokens {
		next <- token
	}
	close(next)
	for range 32 {
		dialling.Go(func() {
			for token := range next {
				ws, _, err := websocket.DefaultDialer.Dial(strings.Replace(p.url, "http", "ws", 1)+"/connect", http.Header{"Authorization": {"Bearer " + token}})
				if err != nil {
					t.Error(err)
					return
				}
				if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"method":"hello","params":{"boot":"b","firmware":"1"}}`)); err != nil {
					t.Error(err)
				}
				conns <- ws
			}
		})
	}
	dialling.Wait()
	close(conns)
	t.Cleanup(func() {
		for ws := range conns {
			_ = ws.Close()
		}
	})
	until(t, "all are connected", func() bool { return h.sessions.Count()["wss"] == herd })
	presence := "KV_presence"
	until(t, "their presence is written", func() bool {
		return h.writes(t)[presence] >= before[presence]+64
	})
	after, shards := h.writes(t), uint64(time.Since(start)/(2*time.Second)+2)*64
	for stream, n := range after {
		most := uint64(0)
		if stream == presence {
			most = shards
		}
		if n -= before[stream]; n > most && n > 10 {
			t.Errorf("%d writes to %s for %d connections, want at most %d", n, stream, herd, most)
		}
	}
}
