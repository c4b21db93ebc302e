package commands_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"telemetryhub/commands"
	"telemetryhub/wire"
)

// terms is a Catalogue that answers what a test says.
type terms func(r commands.Request) (commands.Terms, error)

func (t terms) Check(r commands.Request) (commands.Terms, error) { return t(r) }

func TestWhatTheCatalogueRefusesIsNeitherRecordedNorSent(t *testing.T) {
	kv, r := newMemory(), newRouter()
	r.connect("d1", 1)
	var asked []commands.Request
	s := openWith(t, kv, r, commands.Config{Catalogue: terms(func(q commands.Request) (commands.Terms, error) {
		asked = append(asked, q)
		if q.Role != "admin" {
			return commands.Terms{}, &commands.ForbiddenError{Method: q.Method, Needs: "admin"}
		}
		return commands.Terms{}, &commands.InvalidError{Field: "params", Reason: "bad_params", Faults: []commands.Fault{{Pointer: "/a", Message: "is missing"}}}
	})})
	feed := s.Subscribe(8)
	defer feed.Close()
	_, err := s.Send(t.Context(), commands.Request{Device: "d1", Method: "set", Params: json.RawMessage(` { "b" : 1 } `), Role: "operator"})
	if forbidden, ok := errors.AsType[*commands.ForbiddenError](err); !ok || forbidden.Needs != "admin" {
		t.Errorf("error %v, want one that names the role", err)
	}
	_, err = s.Send(t.Context(), commands.Request{Device: "d1", Method: "set", Role: "admin", IdempotencyKey: "k"})
	if invalid, ok := errors.AsType[*commands.InvalidError](err); !ok || len(invalid.Faults) != 1 {
		t.Errorf("error %v, want the catalogue's", err)
	}
	if len(asked) != 2 || string(asked[0].Params) != `{"b":1}` {
		t.Errorf("asked %+v", asked)
	}
	if page, _ := list(t, s, commands.Filter{}); kv.writes != 0 || len(r.sent) != 0 || len(page) != 0 || len(feed.C()) != 0 {
		t.Errorf("%d writes, %d sent, %d listed, %d changes told, want none", kv.writes, len(r.sent), len(page), len(feed.C()))
	}
}

func TestACommandGoesOutOnTheCataloguesTerms(t *testing.T) {
	kv, r := newMemory(), newRouter()
	r.connect("d1", 1)
	var recorded []commands.Command
	s := openWith(t, kv, r, commands.Config{
		Catalogue: terms(func(commands.Request) (commands.Terms, error) {
			return commands.Terms{Params: json.RawMessage(`{"a":1,"psk":"hunter2hunter2"}`), Masked: json.RawMessage(`{"a":1,"psk":"[secret]"}`), Timeout: 7 * time.Second, Delivery: commands.AtLeastOnce}, nil
		}),
		Recorded: func(c commands.Command) { recorded = append(recorded, c) },
	})
	c := send(t, s, commands.Request{Params: json.RawMessage(`{"a":1}`), Actor: "ada", Role: "admin", Origin: "10.0.0.9"})
	if c.TimeoutMs != 7000 || c.Delivery != commands.AtLeastOnce || c.Origin != "10.0.0.9" || c.Role != "admin" {
		t.Errorf("command %+v", c)
	}
	if sent := <-r.sent; string(sent.cmd.Params) != `{"a":1,"psk":"hunter2hunter2"}` {
		t.Errorf("the device got %s", sent.cmd.Params)
	}
	if len(recorded) != 1 || recorded[0].ID != c.ID {
		t.Errorf("recorded %+v", recorded)
	}
	asked := send(t, s, commands.Request{Timeout: time.Second, Delivery: commands.AtMostOnce})
	if asked.TimeoutMs != 1000 || asked.Delivery != commands.AtMostOnce {
		t.Errorf("what the request says does not count: %+v", asked)
	}

	// Also what the device answers tells nobody the secret, and also after a restart without the catalogue.
	s.Progressed("d1", 1, wire.Progress{ID: c.ID, Message: "joining with hunter2hunter2"})
	s.Answered("d1", 1, wire.Answer{ID: c.ID, Result: json.RawMessage(`{"echo":{"psk":"hunter2hunter2"},"note":"hunter2hunter2 is set","hunter2hunter2":1}`)})
	wantEnd(t, s, c.ID, commands.Done, "")
	shut(t, s)
	s = openWith(t, kv, r, commands.Config{})
	again, err := s.Get(c.ID)
	if err != nil || string(again.Params) != `{"a":1,"psk":"hunter2hunter2"}` {
		t.Fatalf("the ledger has %s, %v: it must keep what it may have to send", again.Params, err)
	}
	shown, err := json.Marshal(again.Public())
	if err != nil || strings.Contains(string(shown), "hunter2") || !strings.Contains(string(shown), `"params":{"a":1,"psk":"[secret]"}`) {
		t.Errorf("shown as %s, %v", shown, err)
	}
}

func TestSecretsAreHiddenInFaultsAndCauses(t *testing.T) {
	c := commands.Command{
		Params: json.RawMessage(`{"psk":"hunter2","pin":1234,"x":"1","on":true}`), Masked: json.RawMessage(`{"psk":"[secret]","pin":"[secret]","x":"[secret]","on":true}`),
		Error:    json.RawMessage(`{"code":-5,"message":"hunter2 is too short","data":[1234,5,"1"]}`),
		Progress: &commands.Progress{Message: "1 of 2 with hunter2"},
		History:  []commands.Change{{State: commands.Failed, Cause: "the device answered error -5: hunter2 is too short"}},
	}
	shown := c.Public()
	if got, want := string(shown.Error), `{"code":-5,"data":["[secret]",5,"[secret]"],"message":"[secret] is too short"}`; got != want {
		t.Errorf("error %s, want %s", got, want)
	}
	if shown.Progress.Message != "1 of 2 with [secret]" || shown.History[0].Cause != "the device answered error -5: [secret] is too short" {
		t.Errorf("shown as %+v, %+v", shown.Progress, shown.History)
	}
	if c.History[0].Cause == shown.History[0].Cause {
		t.Error("the ledger's own command was changed")
	}
	plain := commands.Command{Params: json.RawMessage(`{"a":1}`), Result: json.RawMessage(`{ "b": 1 }`)}
	if got := plain.Public(); string(got.Result) != `{ "b": 1 }` {
		t.Errorf("a command without secrets was changed: %s", got.Result)
	}
}
