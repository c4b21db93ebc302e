package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A token is kept beside the one before until it has let the device in, and in the file over runs.
func TestATokenIsKeptUntilTheNextIsUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	c := credentials{file: file}
	c.set("first")
	want := func(token string) {
		t.Helper()
		text, err := os.ReadFile(file)
		if info, _ := os.Stat(file); err != nil || c.current() != token || string(text) != token+"\n" || info.Mode().Perm() != 0o600 {
			t.Errorf("token %q, in the file %q, %v; want %s", c.current(), text, err, token)
		}
	}
	refused := &refusedError{status: 401}
	for _, token := range []string{"second", "third"} { // offered twice before it connected again
		if err := c.store(token); err != nil {
			t.Fatal(err)
		}
	}
	want("third")
	c.used(&refusedError{status: 503}) // says nothing of the token
	want("third")
	c.used(refused)
	want("first")
	c.used(refused)
	want("third")
	c.used(nil)
	c.used(refused)
	want("third")
	if err := (&credentials{file: filepath.Join(file, "none")}).store("x"); err == nil {
		t.Error("stored in a folder that is none")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".token-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTheSimulatorTakesNewTokens(t *testing.T) {
	h := newFakeHub(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- run(ctx, h.args("--devices", "1", "--rate", "0"), io.Discard, io.Discard) }()
	defer func() {
		cancel()
		<-ended
	}()
	d := <-h.joined
	if a := h.command(d, `{"jsonrpc":"2.0","id":"hub:1","method":"hub.credentials","params":{}}`); a["id"] != "hub:1" || a["error"] == nil {
		t.Errorf("an offer of nothing is answered %v", a)
	}
	if a := h.command(d, `{"jsonrpc":"2.0","id":"hub:2","method":"hub.credentials","params":{"token":"dev_fresh","expires":4102444800000}}`); a["id"] != "hub:2" || a["result"] == nil {
		t.Errorf("a new token is answered %v", a)
	}
	h.mu.Lock()
	h.tokens[d] = "dev_fresh" // the one before lets nobody in any more
	_ = h.conns[d].UnderlyingConn().Close()
	h.mu.Unlock()
	<-h.joined
	// The one of this connection has expired: it asks for another, and comes with that.
	h.mu.Lock()
	h.say(h.conns[d], `{"jsonrpc":"2.0","method":"hub.notice","params":{"code":"credentials_expired","message":"renew"}}`)
	h.mu.Unlock()
	<-h.joined
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tokens[d] != "dev_renewed" {
		t.Errorf("it came back with %s", h.tokens[d])
	}
}
