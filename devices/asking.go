package devices

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"telemetryhub/wire"
)

// Asker is a Link that takes requests of the hub's own, whose answers are no commands'. An error means that surely
// nothing was sent.
type Asker interface {
	Ask(id, method string, params []byte) error
}

// askedPrefix begins the ids of the hub's own requests; a command's id has no colon.
const askedPrefix = "hub:"

// errNotSent says that surely nothing was sent.
var errNotSent = errors.New("nothing was sent")

// asked is a request of the hub's own that waits for its answer.
type asked struct {
	session *Session
	answer  chan wire.Answer // closed when the session has ended
}

// askable returns an error where the session's device cannot be asked anything.
func (s *Session) askable() error {
	if _, ok := s.Link.(Asker); !ok {
		return fmt.Errorf("%w: its transport is %s", ErrNotAsked, s.Transport)
	}
	return nil
}

// ask sends a request of the hub's own and waits for its answer. Errors: errNotSent; another where it was sent and no
// answer came.
func (s *Sessions) ask(ctx context.Context, n *Session, id, method string, params []byte) (wire.Answer, error) {
	asker, ok := n.Link.(Asker)
	if !ok {
		return wire.Answer{}, errNotSent
	}
	a := asked{session: n, answer: make(chan wire.Answer, 1)}
	s.asking.Lock()
	s.asked[id] = a
	s.asking.Unlock()
	defer func() {
		s.asking.Lock()
		delete(s.asked, id)
		s.asking.Unlock()
	}()
	if err := asker.Ask(id, method, params); err != nil {
		return wire.Answer{}, fmt.Errorf("%w: %w", errNotSent, err)
	}
	if s.session(n.Device) != n { // it ended before endAsked could find the request
		return wire.Answer{}, errSessionOver
	}
	select {
	case answer, ok := <-a.answer:
		if !ok {
			return wire.Answer{}, errSessionOver
		}
		return answer, nil
	case <-ctx.Done():
		return wire.Answer{}, errors.New("the device said nothing in time")
	}
}

// answered takes an answer to a request of the hub's own.
func (s *Sessions) answered(n *Session, a wire.Answer) {
	s.asking.Lock()
	waiting, ok := s.asked[a.ID]
	if ok = ok && waiting.session == n; ok {
		delete(s.asked, a.ID)
		waiting.answer <- a
	}
	s.asking.Unlock()
	if !ok && s.late != nil {
		s.late(n, strings.TrimPrefix(a.ID, askedPrefix), a)
	}
}

// endAsked lets go who waits for an answer on a session that has ended.
func (s *Sessions) endAsked(n *Session) {
	s.asking.Lock()
	defer s.asking.Unlock()
	for id, a := range s.asked {
		if a.session == n {
			close(a.answer)
			delete(s.asked, id)
		}
	}
}
