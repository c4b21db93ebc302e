package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"telemetryhub/commands"
	"telemetryhub/wire"
)

func TestDurableBeforeSent(t *testing.T) {
	kv, r := bucket(t), newRouter()
	r.connect("d1", 7)
	var seen commands.Command
	r.before = func(cmd wire.Command) {
		kve, err := kv.Get(t.Context(), cmd.ID)
		if err != nil {
			t.Errorf("the command was sent before it was in the bucket: %v", err)
			return
		}
		if err := json.Unmarshal(kve.Value(), &seen); err != nil {
			t.Error(err)
		}
	}
	s := open(t, kv, r)
	c := send(t, s, commands.Request{Params: json.RawMessage(` {"a": "<b>"} `), Actor: "ann"})
	if seen.ID != c.ID || seen.State != commands.Sent || len(seen.History) != 2 || seen.History[0].Actor != "ann" {
		t.Errorf("record before the sending = %+v, want accepted and sent in one", seen)
	}
	out := <-r.sent
	if out.session != 7 || out.cmd.ID != c.ID || out.cmd.Attempt != 1 || string(out.cmd.Params) != `{"a":"<b>"}` || out.cmd.AtLeastOnce {
		t.Errorf("sent = %+v", out)
	}
	if string(seen.Params) != `{"a":"<b>"}` {
		t.Errorf("params in the record = %s", seen.Params)
	}
	if left := time.Until(out.cmd.Expires); left < 23*time.Hour || out.cmd.TTL < 23*time.Hour {
		t.Errorf("expires in %v (ttl %v), want the default of 24h", left, out.cmd.TTL)
	}
}

func TestOutcomes(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	s := open(t, bucket(t), r)
	for name, tc := range map[string]struct {
		answer func(id string) wire.Answer
		state  commands.State
		cause  string
	}{
		"result":           {func(id string) wire.Answer { return result(id, `{"pong":1}`) }, commands.Done, ""},
		"error":            {func(id string) wire.Answer { return fault(id, -32000, "stuck\x1b") }, commands.Failed, "the device answered error -32000: stuck "},
		"unknown method":   {func(id string) wire.Answer { return fault(id, -32601, "no") }, commands.Rejected, "the device answered error -32601: no"},
		"invalid params":   {func(id string) wire.Answer { return fault(id, -32602, "") }, commands.Rejected, "the device answered error -32602"},
		"internal error":   {func(id string) wire.Answer { return fault(id, -32603, "x") }, commands.Failed, "the device answered error -32603: x"},
		"an own positive":  {func(id string) wire.Answer { return fault(id, 5, "x") }, commands.Failed, "the device answered error 5: x"},
		"too large result": {func(id string) wire.Answer { return result(id, `"`+strings.Repeat("x", commands.MaxResult)+`"`) }, commands.Done, "its answer of 262146 bytes is over the limit of 262144 and was not kept"},
	} {
		t.Run(name, func(t *testing.T) {
			c := send(t, s, commands.Request{})
			a := tc.answer(c.ID)
			s.Answered("d1", 1, a)
			c = wantEnd(t, s, c.ID, tc.state, tc.cause)
			if len(a.Result)+len(a.Fault) <= commands.MaxResult && (string(c.Result) != string(a.Result) || string(c.Error) != string(a.Fault)) {
				t.Errorf("result %s, error %s; want %s, %s", c.Result, c.Error, a.Result, a.Fault)
			}
			if c.Late {
				t.Error("marked late")
			}
		})
	}
}

// TestWhatCannotBeSentIsFailed has the connection say that the command itself is unfit for its device.
func TestWhatCannotBeSentIsFailed(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	r.refuse(fmt.Errorf("send: %w", &wire.Error{Code: wire.CodeTooLarge, Message: "the command is a frame of 90 bytes; the device takes at most 80"}))
	s := open(t, bucket(t), r)
	c := send(t, s, commands.Request{})
	if c.State != commands.Failed || c.Attempt != 0 {
		t.Errorf("Send returned %s after %d attempts, want failed after none", c.State, c.Attempt)
	}
	wantEnd(t, s, c.ID, commands.Failed, "not sent: the command is a frame of 90 bytes; the device takes at most 80")
}

// TestWhatNoMapKnowsIsRejected has the connection say for its device that there is no such method.
func TestWhatNoMapKnowsIsRejected(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	r.refuse(&wire.Error{Code: wire.CodeMethodNotFound, Message: "no map says how explode goes to this device"})
	s := open(t, bucket(t), r)
	c := send(t, s, commands.Request{})
	wantEnd(t, s, c.ID, commands.Rejected, "not sent: no map says how explode goes to this device")
}

func TestInvalidRequests(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	s := open(t, bucket(t), r)
	for field, reqs := range map[string][]commands.Request{
		"device":   {{Device: "a/b", Method: "m"}, {Method: "m"}},
		"method":   {{Device: "d1"}, {Device: "d1", Method: strings.Repeat("m", 129)}, {Device: "d1", Method: "a\nb"}, {Device: "d1", Method: "hub.cancel"}, {Device: "d1", Method: "a\xff"}},
		"params":   {{Device: "d1", Method: "m", Params: json.RawMessage(`5`)}, {Device: "d1", Method: "m", Params: json.RawMessage(`{"a":}`)}, {Device: "d1", Method: "m", Params: json.RawMessage("{\"a\":\"\xff\"}")}, {Device: "d1", Method: "m", Params: json.RawMessage(`["` + strings.Repeat("x", 64<<10) + `"]`)}},
		"delivery": {{Device: "d1", Method: "m", Delivery: "twice"}},
		"expires":  {{Device: "d1", Method: "m", Expires: -1}, {Device: "d1", Method: "m", Expires: 1000 * time.Hour}},
		"timeout":  {{Device: "d1", Method: "m", Timeout: time.Microsecond}},
	} {
		for i, req := range reqs {
			_, err := s.Send(t.Context(), req)
			var invalid *commands.InvalidError
			if !errors.As(err, &invalid) || invalid.Field != field {
				t.Errorf("%s %d: error = %v, want an InvalidError of that field", field, i, err)
			}
		}
	}
}

func TestSecondAndStrangeAnswersChangeNothing(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	s := open(t, bucket(t), r)
	c := send(t, s, commands.Request{})
	s.Answered("d2", 1, result(c.ID, `"another device"`))
	s.Answered("d1", 1, result("no such id", `1`))
	s.Answered("d1", 1, result(c.ID, `"first"`))
	s.Answered("d1", 1, fault(c.ID, -1, "second"))
	c = wantEnd(t, s, c.ID, commands.Done, "")
	if string(c.Result) != `"first"` || len(c.History) != 3 {
		t.Errorf("command = %+v", c)
	}
	if got := s.Stats().IgnoredAnswers; got != 3 {
		t.Errorf("ignored answers = %d, want 3", got)
	}
}

func TestConnectionLostIsUnknownUntilALateAnswer(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	s := open(t, bucket(t), r)
	c := send(t, s, commands.Request{})
	s.SessionEnded("d1", 99) // another one
	s.SessionEnded("d1", 1)
	wantEnd(t, s, c.ID, commands.Unknown, "connection lost before the answer")
	feed := s.Subscribe(4)
	defer feed.Close()
	s.Answered("d1", 2, result(c.ID, `7`))
	c = next(t, feed)
	if c.State != commands.Done || !c.Late || string(c.Result) != "7" {
		t.Errorf("after the late answer: %+v", c)
	}
	if cause := c.History[len(c.History)-1].Cause; cause != "the answer came late, when the command was unknown" {
		t.Errorf("cause = %q", cause)
	}
}

func TestConnectionEndsWhileSending(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	s := open(t, bucket(t), r)
	r.before = func(wire.Command) { s.SessionEnded("d1", 1) }
	c := send(t, s, commands.Request{})
	wantEnd(t, s, c.ID, commands.Unknown, "connection lost before the answer")
	<-r.sent

	r.connect("d1", 1)
	r.before = func(wire.Command) { // the Router sees the newer connection first
		r.before = nil
		r.connect("d1", 2)
		s.SessionEnded("d1", 1)
	}
	c = send(t, s, commands.Request{})
	if out := <-r.sent; out.cmd.ID != c.ID || out.session != 2 || out.cmd.Attempt != 1 {
		t.Errorf("what the old connection did not take went out as %+v", out)
	}
}

func TestAnswerBeforeTheSendingReturns(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	s := open(t, bucket(t), r)
	r.before = func(cmd wire.Command) { s.Answered("d1", 1, result(cmd.ID, `1`)) }
	c := send(t, s, commands.Request{})
	wantEnd(t, s, c.ID, commands.Done, "")
}

func TestProgressIsTold(t *testing.T) {
	r := newRouter()
	r.connect("d1", 1)
	s := open(t, bucket(t), r)
	feed := s.Subscribe(16)
	defer feed.Close()
	c := send(t, s, commands.Request{})
	if got := next(t, feed); got.State != commands.Sent {
		t.Errorf("first change = %s", got.State)
	}
	s.Progressed("d1", 2, wire.Progress{ID: c.ID, Status: wire.ProgressReceived}) // another connection
	s.Progressed("d1", 1, wire.Progress{ID: c.ID, Status: wire.ProgressReceived})
	if got := next(t, feed); got.State != commands.Received {
		t.Errorf("after received = %s", got.State)
	}
	s.Progressed("d1", 1, wire.Progress{ID: c.ID, Status: wire.ProgressRunning, Percent: 40})
	if got := next(t, feed); got.State != commands.Running || got.Progress == nil || got.Progress.Percent != 40 {
		t.Errorf("after running = %+v", got)
	}
	s.Progressed("d1", 1, wire.Progress{ID: c.ID, Status: wire.ProgressRunning, Percent: 140})
	if got := next(t, feed); got.State != commands.Running || got.Progress.Percent != 100 {
		t.Errorf("after more = %+v", got)
	}
	s.Answered("d1", 1, result(c.ID, `1`))
	c = wantEnd(t, s, c.ID, commands.Done, "")
	var story []string
	for _, step := range c.History {
		story = append(story, string(step.State))
	}
	if got := strings.Join(story, " "); got != "accepted sent received running done" {
		t.Errorf("story = %s", got)
	}
}

func TestRestart(t *testing.T) {
	kv, r := bucket(t), newRouter()
	r.connect("d1", 1)
	first := openWith(t, kv, r, commands.Config{Outstanding: 3})
	open1 := send(t, first, commands.Request{})
	again := send(t, first, commands.Request{Delivery: commands.AtLeastOnce})
	done := send(t, first, commands.Request{Method: "read", IdempotencyKey: "k"})
	first.Answered("d1", 1, result(done.ID, `[1]`))
	wantEnd(t, first, done.ID, commands.Done, "")
	shut(t, first)
	for range 3 {
		<-r.sent
	}
	// What a crash between accepting and sending leaves, when there is a queue.
	accepted := record(t, kv, commands.Accepted, time.Hour)
	expired := record(t, kv, commands.Accepted, -time.Hour)
	if _, err := kv.Put(t.Context(), "damaged", []byte("{")); err != nil {
		t.Fatal(err)
	}

	r.connect("d1", 0)
	s := open(t, kv, r)
	wantEnd(t, s, open1.ID, commands.Unknown, "the hub was restarted while the answer was open")
	wantEnd(t, s, expired, commands.Expired, "not sent: the device was not ready for it in time")
	if got, err := s.Get(done.ID); err != nil || got.State != commands.Done || string(got.Result) != `[1]` || len(got.History) != 3 {
		t.Errorf("ended command after the restart = %+v, %v", got, err)
	}
	if got := send(t, s, commands.Request{Method: "read", IdempotencyKey: "k"}); got.ID != done.ID {
		t.Errorf("the key made a second command %s, want %s", got.ID, done.ID)
	}
	if got := s.Stats(); got.Damaged != 1 {
		t.Errorf("damaged records = %d, want 1", got.Damaged)
	}
	if got, _ := s.Get(again.ID); got.State != commands.Sent {
		t.Errorf("the at-least-once command is %s, want sent", got.State)
	}
	r.connect("d1", 5)
	s.SessionReady("d1", 5)
	if out := <-r.sent; out.cmd.ID != again.ID || out.session != 5 || out.cmd.Attempt != 2 || !out.cmd.AtLeastOnce {
		t.Errorf("sent again = %+v", out)
	}
	s.Answered("d1", 5, result(again.ID, `1`))
	wantEnd(t, s, again.ID, commands.Done, "")
	if out := <-r.sent; out.cmd.ID != accepted || out.cmd.Attempt != 1 {
		t.Errorf("what had not been sent went out as %+v", out)
	}
	s.Answered("d1", 5, result(accepted, `1`))
	wantEnd(t, s, accepted, commands.Done, "")
	s.Answered("d1", 5, result(open1.ID, `2`))
	if c := awaitState(t, s, open1.ID, commands.Done); !c.Late {
		t.Errorf("the answer after the restart = %+v", c)
	}
}

// awaitState waits for a state by the feed.
func awaitState(t *testing.T, s *commands.Service, id string, state commands.State) commands.Command {
	t.Helper()
	feed := s.Subscribe(1000)
	defer feed.Close()
	for {
		c, err := s.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		if c.State == state {
			return c
		}
		next(t, feed)
	}
}

func record(t *testing.T, kv interface {
	Put(context.Context, string, []byte) (uint64, error)
}, state commands.State, left time.Duration,
) string {
	t.Helper()
	id := fmt.Sprintf("%026d", time.Now().UnixNano())
	data, err := json.Marshal(commands.Command{
		ID: id, Device: "d1", Method: "m", State: state, Delivery: commands.AtMostOnce, Expires: time.Now().Add(left), TimeoutMs: 30_000,
		History: []commands.Change{{State: state, Time: age(time.Minute)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), id, data); err != nil {
		t.Fatal(err)
	}
	return id
}
