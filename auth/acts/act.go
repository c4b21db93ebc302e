package acts

import (
	"encoding/json"
	"strings"
	"time"
)

// What became of an act.
const (
	Accepted = "accepted"
	Refused  = "refused" // by the hub, for the reason that stands beside it; nothing was changed
	Failed   = "failed"  // the hub's fault, or a part that was away; the reason says whether something was changed
)

// CommandSend is the act of sending a command; its target is the command's id. The ledger has it too.
const CommandSend = "command.send"

// Act is one thing that somebody did, or tried.
type Act struct {
	ID         string         `json:"id"` // its place in the log
	Time       time.Time      `json:"time"`
	Actor      string         `json:"actor,omitempty"` // an operator's name; empty: nobody knows
	Role       string         `json:"role,omitempty"`
	Origin     string         `json:"origin,omitempty"` // address that it came from
	Act        string         `json:"act"`              // such as device.create
	Device     string         `json:"device,omitempty"`
	Target     string         `json:"target,omitempty"` // of others than devices: an id
	Facts      map[string]any `json:"facts,omitempty"`  // without secrets
	Outcome    string         `json:"outcome"`
	Reason     string         `json:"reason,omitempty"`     // for programs
	Detail     string         `json:"detail,omitempty"`     // for people
	Suppressed uint64         `json:"suppressed,omitempty"` // as many like it came before and were only counted
	Recovered  bool           `json:"recovered,omitempty"`  // written from the ledger after a crash
}

// The longest parts that are kept, in bytes. With them a batch stays below the 1 MiB that a NATS message holds.
const (
	maxText  = 1 << 10
	maxFacts = 8 << 10
)

// bounded cuts what is too long. Facts are left out whole, one by one, and named.
func (a Act) bounded() Act {
	for _, text := range []*string{&a.Actor, &a.Origin, &a.Act, &a.Device, &a.Target, &a.Reason, &a.Detail} {
		if len(*text) > maxText {
			*text = strings.ToValidUTF8((*text)[:maxText], "") + "…"
		}
	}
	size := 0
	var kept map[string]any
	for name, fact := range a.Facts {
		text, err := json.Marshal(fact)
		size += len(name) + len(text)
		if err != nil || size > maxFacts {
			fact = "[left out]"
			size -= len(text)
		}
		if kept == nil {
			kept = make(map[string]any, len(a.Facts))
		}
		kept[name] = fact
	}
	a.Facts = kept
	return a
}
