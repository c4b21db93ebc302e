package main

import (
	"context"
	"encoding/json"
	"io"
	"testing"

	"telemetryhub/api/client"
)

// TestTheLedgerIsHeldAgainstTheJournals has the ledger say each word about what a device did or did not do.
func TestTheLedgerIsHeldAgainstTheJournals(t *testing.T) {
	never, ran := execution{}, execution{received: 1, runs: 1, answer: answeredResult}
	twice := execution{received: 2, runs: 2, answer: answeredResult}
	again := execution{received: 2, runs: 1, answer: answeredResult}
	refused := execution{received: 1, answer: answeredError}
	lost := execution{received: 1, runs: 1}
	for _, c := range []struct {
		state, delivery string
		attempt         int
		did             execution
		wrong           bool
	}{
		{"done", "at-most-once", 1, ran, false},
		{"done", "at-most-once", 1, never, true},
		{"done", "at-most-once", 1, refused, true},
		{"done", "at-most-once", 1, twice, true},
		{"done", "at-most-once", 1, again, true},
		{"done", "at-least-once", 2, twice, false},
		{"done", "at-least-once", 2, again, false},
		{"failed", "at-most-once", 1, refused, false},
		{"rejected", "at-most-once", 1, refused, false},
		{"failed", "at-most-once", 1, ran, true},
		{"failed", "at-most-once", 0, never, false},
		{"failed", "at-most-once", 0, ran, true},
		{"unknown", "at-most-once", 1, never, false},
		{"unknown", "at-most-once", 1, lost, false},
		{"unknown", "at-most-once", 1, twice, true},
		{"expired", "at-most-once", 0, never, false},
		{"expired", "at-most-once", 0, ran, true},
		{"expired", "at-most-once", 1, ran, true},
		{"expired", "at-most-once", 1, refused, false},
		{"expired", "at-least-once", 3, lost, false},
		{"cancelled", "at-most-once", 0, never, false},
		{"cancelled", "at-most-once", 0, lost, true},
		{"cancelled", "at-most-once", 1, refused, false},
		{"cancelled", "at-most-once", 1, ran, true},
		{"queued", "at-most-once", 0, never, false},
		{"queued", "at-most-once", 0, lost, true},
		{"sent", "at-least-once", 1, lost, false},
	} {
		d := &device{id: "d", commands: commandState{executions: executions{"A": &c.did}}}
		var r reconciled
		d.compare(&r, client.Command{ID: "A", State: c.state, Delivery: c.delivery, Attempt: c.attempt})
		if (r.Wrong > 0) != c.wrong || r.Ledger != 1 {
			t.Errorf("%s, %s, %d attempts, and the device %+v: wrong %d, want it %v", c.state, c.delivery, c.attempt, c.did, r.Wrong, c.wrong)
		}
	}
}

func TestWorkIsGivenUpWhenTheHubAsks(t *testing.T) {
	h := newFakeHub(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- run(ctx, h.args("--devices", "1", "--rate", "0"), io.Discard, io.Discard) }()
	defer func() {
		cancel()
		<-ended
	}()
	d := <-h.joined
	say := func(frame string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.say(h.conns[d], frame)
	}
	say(`{"jsonrpc":"2.0","id":"W1","method":"work","params":{"seconds":600}}`)
	say(`{"jsonrpc":"2.0","method":"hub.cancel","params":{"id":"W1"}}`)
	if a := <-h.answers; a["id"] != "W1" || a["error"].(map[string]any)["code"] != float64(codeCancelled) {
		t.Errorf("work that was given up is answered %v", a)
	}
	say(`{"jsonrpc":"2.0","method":"hub.cancel","params":{"id":"nothing"}}`)
	if a := h.command(d, `{"jsonrpc":"2.0","id":"W2","method":"work","params":{"seconds":0.001}}`); a["id"] != "W2" || a["result"] == nil {
		t.Errorf("work is answered %v", a)
	}
	if a := h.command(d, `{"jsonrpc":"2.0","id":"W3","method":"work","params":{"seconds":-1}}`); a["error"] == nil {
		t.Errorf("work of no time is answered %v", a)
	}
	if idOf(json.RawMessage(`"x"`)) != "x" {
		t.Error("the quotes of an id stay")
	}
}
