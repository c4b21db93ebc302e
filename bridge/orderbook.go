package bridge

import (
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"telemetryhub/bridge/maps"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// orderBook holds the commands of a device that wait to be published, and those that were, by maps, and whose outcome is
// not known, the oldest first.
type orderBook struct {
	mu     sync.Mutex
	queued []*sending
	left   bool // the session has ended: nothing is published any more
	orders []order
}

// sending is a command in the queue to the external broker.
type sending struct {
	book    *orderBook
	command string
	expires time.Time         // zero: never
	expect  *maps.Expectation // nil: nothing tells its outcome
}

// order is a command that was published.
type order struct {
	expect *maps.Expectation
	sent   time.Time // first
	last   time.Time // sent last
	until  time.Time // of one that is done when something is seen; zero: none
	open   int       // sendings that were not answered

	answered bool // further answers, to its other sendings, are to nothing else
}

// mostOrders bounds those of one device; the ledger has bounds of its own, far below.
const mostOrders = 64

// furtherAnswers is how long after its last sending a command may be answered once more: what a command waits for its
// answer, where nobody says how long.
const furtherAnswers = 30 * time.Second

// queue notes a command that is about to wait for the broker.
func (b *orderBook) queue(s *sending) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.left {
		b.queued = append(b.queued, s)
	}
}

// leave lets all go that waits, for the session ends: it has its outcome, or is sent again on the next.
func (b *orderBook) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queued, b.left = nil, true
}

// take takes it out, and reports whether it was still there. It needs mu.
func (b *orderBook) take(s *sending) bool {
	i := slices.Index(b.queued, s)
	if i >= 0 {
		b.queued = slices.Delete(b.queued, i, i+1)
	}
	return i >= 0
}

// unqueue lets one go that the line did not take.
func (b *orderBook) unqueue(s *sending) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.take(s)
}

// departs reports whether a command is to be published now, which it was not if it has ended or expired while it waited.
// Only from now on can anything answer it. What is no command always departs.
func (s *sending) departs(now time.Time) bool {
	if s == nil {
		return true
	}
	b := s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.take(s) || s.expired(now) {
		return false
	}
	b.note(s.expect, now)
	return true
}

func (s *sending) expired(now time.Time) bool {
	return s != nil && !s.expires.IsZero() && !now.Before(s.expires)
}

// expect notes how the outcome of a command will be known that is published now.
func (b *orderBook) expect(e *maps.Expectation, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note(e, now)
}

// note needs mu.
func (b *orderBook) note(e *maps.Expectation, now time.Time) {
	if e == nil {
		return
	}
	i := slices.IndexFunc(b.orders, func(o order) bool { return o.expect.Command == e.Command })
	if i < 0 {
		if len(b.orders) == mostOrders {
			b.orders = b.orders[1:]
		}
		b.orders = append(b.orders, order{sent: now})
		i = len(b.orders) - 1
	}
	o := &b.orders[i] // of one that is sent again, in the place of its first sending: that is answered first
	o.expect, o.last = e, now
	o.open++
	if e.Within() > 0 {
		o.until = now.Add(e.Within())
	}
}

func (b *orderBook) forget(command string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders = slices.DeleteFunc(b.orders, func(o order) bool { return o.expect.Command == command })
}

// answer takes an answer to a command for one of its sendings, which lets the command go with the last of them.
func (b *orderBook) answer(command string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders = slices.DeleteFunc(b.orders, func(o order) bool {
		return o.expect.Command == command && (o.open == 1 || o.expect.Correlates())
	})
	for i := range b.orders {
		if o := &b.orders[i]; o.expect.Command == command {
			o.answered = true
			o.open--
		}
	}
}

// ended lets a command go that has its outcome: it is not published any more, and a later answer is not taken for its own,
// unless it bears the command's id or is to a further sending.
func (b *orderBook) ended(command string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queued = slices.DeleteFunc(b.queued, func(s *sending) bool { return s.command == command })
	b.orders = slices.DeleteFunc(b.orders, func(o order) bool {
		return o.expect.Command == command && !o.expect.Correlates() && !o.answered
	})
}

// settleable returns the commands that a message which was received at a time may be about. Only one that bears a
// command's id may be older than the command.
func (b *orderBook) settleable(o *maps.Outcome, heard, now time.Time) []order {
	correlated := o.Reply != nil && o.Reply.Correlation != ""
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders = slices.DeleteFunc(b.orders, func(o order) bool {
		return o.answered && now.Sub(o.last) > furtherAnswers || !o.until.IsZero() && now.After(o.until) // it stays unknown
	})
	waiting := slices.Clone(b.orders)
	return slices.DeleteFunc(waiting, func(w order) bool { return !correlated && heard.Before(w.sent) })
}

// settle tells of the commands whose outcome a message is: the one that it answers, which is the oldest that it can be
// the answer to, and those that are done when it says what it says. heard is when it was received; zero: it may be older
// than any command.
func (b *orderBook) settle(session *devices.Session, o *maps.Outcome, heard time.Time, log *slog.Logger) {
	for _, w := range b.settleable(o, heard, time.Now()) {
		command := w.expect.Command
		if w.expect.Answers(o) {
			switch {
			case w.answered && o.Reply.Progress:
			case w.answered:
				b.answer(command)
			case o.Reply.Progress:
				session.Progress(wire.Progress{ID: command, Status: wire.ProgressRunning})
			default:
				b.answer(command)
				session.Answer(answerOf(command, o.Reply))
			}
			return
		}
		met, err := w.expect.Met(o)
		if err != nil {
			log.Warn("the condition of a command could not be told", "device", o.Device, "method", w.expect.Method, "err", err)
		}
		if met {
			b.forget(command)
			session.Answer(wire.Answer{ID: command, Result: json.RawMessage(`{"seen":` + string(maps.Seen(o)) + `}`)})
		}
	}
}

// answerOf is an answer as the device would have given it on a connection of its own.
func answerOf(command string, r *maps.Reply) wire.Answer {
	if r.Fault != nil {
		return wire.Answer{ID: command, Fault: slices.Clone(r.Fault), Code: wire.CodeUnavailable}
	}
	return wire.Answer{ID: command, Result: slices.Clone(r.Result)}
}
