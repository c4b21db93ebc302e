package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"telemetryhub/api/client"
)

// TestTheLedgerReconcilesWithTheDevicesOverKills sends commands to devices that lose their connections at random, and
// kills the hub meanwhile; the simulator then holds the ledger against what its devices did.
func TestTheLedgerReconcilesWithTheDevicesOverKills(t *testing.T) {
	t.Parallel()
	const devices, each, kills = 20, 15, 3
	h := startHub(t, t.TempDir())
	sent := 0
	result := h.simulate(func(ended <-chan struct{}) {
		ids := h.online(devices)
		hub, err := client.New(client.Config{URL: h.url, Token: h.token(), CAFile: h.ca(), Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer hub.Close()
		var operators sync.WaitGroup
		for _, id := range ids {
			operators.Go(func() {
				for n := range each {
					sendUntilTaken(t.Context(), t, hub, id, n)
				}
			})
		}
		for range kills {
			h.whileRunning(ended, rand.N(2*time.Second))
			h.kill()
			h.again()
		}
		operators.Wait()
		sent = devices * each
		until(t, "nothing waits", func() bool {
			for _, err := range hub.Commands(t.Context(), client.CommandFilter{States: []string{"accepted", "queued", "sent", "received", "running"}, Page: 1}) {
				return err != nil
			}
			return true
		})
	}, "--devices", fmt.Sprint(devices), "--rate", "1", "--duration", "25s", "--faults", "disconnect", "--verify")
	v := result.Commands.Verified
	if v == nil || v.Ledger != sent || v.Wrong != 0 || v.Open != 0 || v.Executed < sent/2 {
		t.Fatalf("of %d commands sent the simulator verified %+v", sent, v)
	}
	t.Logf("%d reconnects, %+v", result.Reconnects, *v)
}

// sendUntilTaken sends a command, and again with the same key where the hub was away.
func sendUntilTaken(ctx context.Context, t *testing.T, hub *client.Client, device string, n int) {
	r := client.CommandRequest{
		Method: "set", Params: fmt.Appendf(nil, `{"n":%d}`, n), Key: fmt.Sprint("k", n), Timeout: 2 * time.Second,
		Delivery: []string{"at-most-once", "at-least-once"}[n%2],
	}
	until(t, "command taken", func() bool {
		_, err := hub.SendCommand(ctx, device, r)
		return err == nil
	})
}

// whileRunning waits while the simulator runs.
func (h *hubProcess) whileRunning(ended <-chan struct{}, wait time.Duration) {
	h.t.Helper()
	select {
	case <-ended:
		h.t.Fatal("the simulator ended too soon")
	case <-time.After(wait):
	}
}
