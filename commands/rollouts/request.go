package rollouts

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"telemetryhub/commands"
)

// Bounds of a plan.
const (
	maxSizes     = 100
	longestPause = 7 * 24 * time.Hour
	// waveMargin is what a wave waits beyond its commands' timeout, so that their outcomes are there.
	waveMargin = 5 * time.Second
	// leastEnded is how many devices must have an outcome before a percentage of failures counts.
	leastEnded = 10
)

// OfflineRule says what happens with devices that are not connected when their turn comes.
type OfflineRule string

// The rules.
const (
	QueueOffline OfflineRule = "queue" // the command waits for the device; the default
	SkipOffline  OfflineRule = "skip"
)

// Waves says in which pieces a rollout goes out. Without sizes it is one wave.
type Waves struct {
	Sizes []Amount      `json:"sizes,omitempty"` // of the first waves; the last size repeats
	Pause time.Duration `json:"pause,omitempty"` // between the end of a wave and the next
	// Timeout is how long, after its last sending, a wave is waited for that has not ended. What is still open then, such
	// as commands queued for offline devices, goes on beside the next wave. 0: the command's timeout and 5 s.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Limits say how many failures stop a rollout. An amount of none is no limit.
type Limits struct {
	Failures     Amount `json:"failures,omitzero"`      // in all, since the start or the last resume
	WaveFailures Amount `json:"wave_failures,omitzero"` // in the wave, likewise
	// Minimum is how many devices must have an outcome, in all or in the wave, before a percentage counts; a wave that is
	// smaller, when it has ended. 0: 10.
	Minimum int `json:"minimum,omitempty"`
}

// Request is a rollout as an operator asks for it.
type Request struct {
	To             Selector
	Method         string
	Params         json.RawMessage // a JSON object or array, or empty
	Delivery       commands.Delivery
	Expires        time.Duration // of each command, from its sending; 0 is the configured one
	Timeout        time.Duration // of each command; 0 is the configured one
	Offline        OfflineRule   // empty is QueueOffline
	Waves          Waves
	Limits         Limits
	Within         []string `json:",omitempty"` // only devices with one of these tags, the others are as if they were not; none: all
	Actor          string
	Role           string // of the actor, for the catalogue
	Origin         string // where the actor's request came from
	IdempotencyKey string // the same key returns the first rollout
}

// command is what one device is asked.
func (r *Request) command(device string) commands.Request {
	return commands.Request{
		Device: device, Method: r.Method, Params: r.Params, Delivery: r.Delivery, Expires: r.Expires, Timeout: r.Timeout,
		Actor: r.Actor, Role: r.Role, Origin: r.Origin,
	}
}

// check looks at what is the rollout's own; the ledger looks at the command.
func (r *Request) check() error {
	invalid := func(field, format string, args ...any) error {
		return &commands.InvalidError{Field: field, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case r.Offline != "" && r.Offline != QueueOffline && r.Offline != SkipOffline:
		return invalid("offline", "%q is neither %s nor %s", clip(string(r.Offline)), QueueOffline, SkipOffline)
	case len(r.Waves.Sizes) > maxSizes:
		return invalid("waves.sizes", "%d sizes are more than %d; the last size repeats", len(r.Waves.Sizes), maxSizes)
	case r.Waves.Pause < 0 || r.Waves.Pause > longestPause:
		return invalid("waves.pause", "%v is not between 0s and %v", r.Waves.Pause, longestPause)
	case r.Waves.Timeout < 0 || r.Waves.Timeout > longestPause:
		return invalid("waves.timeout", "%v is not between 0s and %v", r.Waves.Timeout, longestPause)
	case r.Waves.Pause > 0 && len(r.Waves.Sizes) == 0:
		return invalid("waves.pause", "there is one wave; say the waves' sizes")
	case len(r.IdempotencyKey) > commands.MaxKey || !utf8.ValidString(r.IdempotencyKey):
		return invalid("idempotency_key", "it is a text of at most %d bytes", commands.MaxKey)
	}
	for _, size := range r.Waves.Sizes {
		if size.IsZero() {
			return invalid("waves.sizes", "a size is empty")
		}
	}
	return r.Limits.check()
}

func (l Limits) check() error {
	if l.Minimum < 0 || l.Minimum > MaxDevices {
		return &commands.InvalidError{Field: "limits.minimum", Message: fmt.Sprintf("%d is not between 0 and %d", l.Minimum, MaxDevices)}
	}
	return nil
}

// fingerprint tells requests apart that bear the same key.
func (r *Request) fingerprint() string {
	same := *r
	same.Actor, same.Role, same.Origin, same.IdempotencyKey = "", "", "", ""
	text, err := json.Marshal(same)
	if err != nil { // params that are not JSON, which the ledger refuses
		text = []byte(err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
