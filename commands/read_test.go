package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"telemetryhub/commands"
)

func TestIdempotencyKey(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	r.connect("d2", 1)
	s := open(t, bucket(t), r)
	req := commands.Request{Device: "d1", Method: "open", Params: json.RawMessage(`{"door":1}`), IdempotencyKey: "k"}
	ids := make([]string, 8)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			c, err := s.Send(t.Context(), req)
			if err != nil {
				t.Error(err)
			}
			ids[i] = c.ID
		})
	}
	group.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("one key made commands %v", ids)
			break
		}
	}
	if len(r.sent) != 1 {
		t.Errorf("sent %d times, want 1", len(r.sent))
	}
	r.connect("d1", 0) // the first command is returned even when the device is gone
	if c := send(t, s, req); c.ID != ids[0] {
		t.Errorf("offline: command %s, want %s", c.ID, ids[0])
	}
	if c := send(t, s, commands.Request{Device: "d2", Method: "open", IdempotencyKey: "k"}); c.ID == ids[0] {
		t.Error("the key of one device counted for another")
	}
	req.Params = json.RawMessage(`{"door":2}`)
	_, err := s.Send(t.Context(), req)
	var invalid *commands.InvalidError
	if !errors.As(err, &invalid) || invalid.Field != "idempotency_key" {
		t.Errorf("other params with the same key: %v, want an InvalidError", err)
	}
}

func TestListPages(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	r.connect("d2", 1)
	s := openWith(t, bucket(t), r, commands.Config{Outstanding: 5})
	var want []string
	for i := range 6 {
		c := send(t, s, commands.Request{Device: fmt.Sprintf("d%d", 1+i%2)})
		if i%2 == 0 {
			want = append([]string{c.ID}, want...)
		}
	}
	var got []string
	cursor := ""
	for range 2 {
		page, next := list(t, s, commands.Filter{Device: "d1", Limit: 2, Cursor: cursor})
		for _, c := range page {
			got = append(got, c.ID)
		}
		cursor = next
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || cursor != "" {
		t.Errorf("listed %v, want %v; next %q", got, want, cursor)
	}
	s.Answered("d1", 1, result(want[0], `1`))
	wantEnd(t, s, want[0], commands.Done, "")
	if page, _ := list(t, s, commands.Filter{States: []commands.State{commands.Done, commands.Failed}}); len(page) != 1 || page[0].ID != want[0] {
		t.Errorf("done = %+v", page)
	}
}

func TestGetCancelWaitOfUnknownAndEnded(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	s := open(t, bucket(t), r)
	for _, id := range []string{"", "x", "*", strings.Repeat("0", 26)} {
		if _, err := s.Get(id); !errors.Is(err, commands.ErrNotFound) {
			t.Errorf("Get(%q) = %v", id, err)
		}
		if _, err := s.Wait(t.Context(), id); !errors.Is(err, commands.ErrNotFound) {
			t.Errorf("Wait(%q) = %v", id, err)
		}
		if _, err := s.Cancel(t.Context(), id, "ann"); !errors.Is(err, commands.ErrNotFound) {
			t.Errorf("Cancel(%q) = %v", id, err)
		}
	}
	c := send(t, s, commands.Request{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := s.Wait(ctx, c.ID); err != nil || c.State != commands.Sent {
		t.Errorf("Wait without time = %s, %v", c.State, err)
	}
}

func TestSlowFeedLosesAndIsTold(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	s := open(t, bucket(t), r)
	feed := s.Subscribe(2)
	defer feed.Close()
	for range 5 {
		send(t, s, commands.Request{})
	}
	if got := feed.Missed(); got != 3 {
		t.Errorf("missed = %d, want 3", got)
	}
	if got := s.Stats(); got.MissedChanges != 3 || got.Open != 5 {
		t.Errorf("stats = %+v", got)
	}
}

func TestClosedRefuses(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	s := open(t, bucket(t), r)
	c := send(t, s, commands.Request{})
	waited := make(chan commands.State)
	go func() { c, _ := s.Wait(context.WithoutCancel(t.Context()), c.ID); waited <- c.State }()
	shut(t, s)
	if state := <-waited; state != commands.Sent {
		t.Errorf("Wait over the close = %s", state)
	}
	if _, err := s.Send(t.Context(), commands.Request{Device: "d1", Method: "m"}); !errors.Is(err, commands.ErrClosed) {
		t.Errorf("Send after Close = %v", err)
	}
	s.SessionEnded("d1", 1)
	shut(t, s)
}

func TestConfigNamesEveryFault(t *testing.T) {
	cfg := commands.Config{Timeout: -1, Expires: 1000 * time.Hour, Keep: time.Minute, MaxParams: 1 << 20}
	_, err := commands.Open(t.Context(), newMemory(), newRouter(), cfg, slog.New(slog.DiscardHandler))
	for _, key := range []string{"timeout:", "expires:", "keep:", "max_params:"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("error %v does not name %s", err, key)
		}
	}
}
