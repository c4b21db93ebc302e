package devices

import (
	"encoding/json"
	"errors"
	"fmt"

	"telemetryhub/wire"
)

// States keeps what devices report of themselves and what operators desire of them; state.Documents is one.
//
// Report merges a patch (RFC 7396, an object) into what the device reported. Its error is a *wire.Error where the patch
// cannot be used, any other when the hub stops. Else done is called once, from another goroutine: with the version of
// the device's document when the change is durable, or with the error of one that can never be. Report copies the patch
// and does not wait. State is what the device is to be told.
type States interface {
	Report(device string, patch []byte, done func(version uint64, err error)) error
	State(device string) wire.State
}

// maxReports is how many reports of a connection may be under way; then its reader waits.
const maxReports = 16

// Desire tells a device of its desired state, if it is connected. Versions may come out of order: a link tells none that
// is older than what it told.
func (s *Sessions) Desire(device string, st wire.State) {
	s.mu.RLock()
	n, ok := s.byDevice[device]
	s.mu.RUnlock()
	if ok {
		n.Link.Desire(st)
	}
}

// report takes what the device says of its state. The answer follows when it is durable.
func (n *conn) report(f wire.Frame) error {
	reported, err := wire.DecodeState(f.Params)
	if err != nil {
		return err
	}
	if !n.waitReports() {
		n.notTaken(f.ID, errStopping)
		return nil
	}
	id := append([]byte(nil), f.ID...)
	err = n.hub.states.Report(n.device, reported, func(version uint64, err error) {
		<-n.reports
		n.reported(id, version, err)
	})
	if err != nil {
		<-n.reports
		n.notTaken(f.ID, err)
	}
	return nil
}

var errStopping = errors.New("the hub stops or restarts")

// waitReports takes a place for one more report. Until there is one the reader waits; false: the hub stops.
func (n *conn) waitReports() bool {
	if n.reports == nil {
		n.reports = make(chan struct{}, maxReports)
	}
	select {
	case n.reports <- struct{}{}:
		return true
	default:
	}
	n.paused.Store(true)
	defer n.paused.Store(false)
	select {
	case n.reports <- struct{}{}:
		n.session.Hold()
		return true
	case <-n.hub.stop:
		return false
	}
}

// reported answers a report once it is durable, or never will be.
func (n *conn) reported(id []byte, version uint64, err error) {
	unusable, refused := errors.AsType[*wire.Error](err)
	switch {
	case refused:
		n.hub.sink.Refuse(n.device, unusable.Reason)
		n.out.frame(func(dst []byte) []byte { return wire.AppendError(dst, nilIfEmpty(id), unusable) })
	case err != nil:
		n.notTaken(nilIfEmpty(id), err)
	case len(id) > 0:
		n.out.frame(func(dst []byte) []byte {
			return wire.AppendResult(dst, id, fmt.Appendf(nil, `{"version":%d}`, version))
		})
	}
}

func nilIfEmpty(id []byte) []byte {
	if len(id) == 0 {
		return nil
	}
	return id
}

// welcome answers hello, with the desired state; a notification gets no answer.
func (n *conn) welcome(id []byte, w wire.Welcome, largest int) {
	for id != nil {
		w.State = n.hub.states.State(n.device)
		text, err := json.Marshal(w)
		if largest > 0 && len(text)+len(id)+answerFrame > largest {
			n.notice(stateTooLarge(len(text)+len(id)+answerFrame, largest))
			if w.Desired = nil; len(w.Delta) > largest/2 {
				w.Delta = nil
			}
			text, err = json.Marshal(w)
		}
		if err != nil {
			n.hub.log.Error("encode an answer", "err", err)
			return
		}
		if n.out.welcome(id, w.Version, text) {
			return
		}
	}
}

// answerFrame is about what a frame has around the result and the id of an answer, in bytes.
const answerFrame = 40

// Desire implements Link.
func (n *conn) Desire(st wire.State) { n.out.desire(st) }

// tellState tells a device that sent no hello of its desired state, where that differs from what it reported.
func (n *conn) tellState() {
	if st := n.hub.states.State(n.device); st.Delta != nil {
		n.out.desire(st)
	}
}

// told is what a device knows of its desired state, and what it is still to be told: always the newest alone, so that a
// slow device is not told of what is over. Guarded by the outbox's mu.
type told struct {
	version uint64 // told last
	next    *wire.State
}

// desire tells the device of its desired state once it is ready, unless it knows that or a newer one.
func (o *outbox) desire(st wire.State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing || st.Version <= o.told.version || o.told.next != nil && st.Version <= o.told.next.Version {
		return
	}
	o.told.next = &st
	if o.open {
		o.kick()
	}
}

// welcome adds the answer to hello, unless the device was told of a newer state meanwhile.
func (o *outbox) welcome(id []byte, version uint64, answer []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if version < o.told.version {
		return false
	}
	o.told.version = version
	if o.told.next != nil && o.told.next.Version <= version {
		o.told.next = nil
	}
	o.add(func(dst []byte) []byte { return wire.AppendResult(dst, id, answer) })
	return true
}

// addState adds the frame of the state that is to be told, if one is. It needs mu.
func (o *outbox) addState() {
	st := o.told.next
	if st == nil || !o.open {
		return
	}
	o.told.next, o.told.version = nil, st.Version
	frame := o.encode(wire.AppendState(nil, *st), 0)
	size := len(frame)
	if o.largest > 0 && size > o.largest && st.Delta != nil {
		st.Desired = nil // the delta says what is to be done
		frame = o.encode(wire.AppendState(frame[:0], *st), 0)
	}
	if o.largest > 0 && len(frame) > o.largest {
		frame = o.encode(wire.AppendNotice(frame[:0], stateTooLarge(size, o.largest)), 0)
	}
	o.addEncoded(frame)
}

// stateTooLarge tells a device that its desired state is more than it takes.
func stateTooLarge(size, limit int) wire.Notice {
	return wire.Notice{
		Code: wire.ReasonStateTooLarge, Limit: uint64(limit), Value: uint64(size),
		Message: fmt.Sprintf("the frame with the whole desired state has %d bytes and the device takes %d; the delta comes alone, or, if that is still too large, not at all", size, limit),
	}
}
