package bridge

import (
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// said is what a device says of a command: its answer, or how far it is.
type said struct {
	answer   wire.Answer
	progress *wire.Progress
}

// response reads a message of the topic response: an answer, or the notification progress as a WebSocket bears it. The
// error is of type [*wire.Error].
func (s *scratch) response(payload []byte) (said, error) {
	dialect := wire.DialectOfPayload(payload)
	if f, err := s.decoder.Decode(payload, dialect); err == nil && string(f.Method) == "progress" {
		p, err := wire.DecodeProgress(f.Params)
		return said{progress: &p}, err
	}
	answer, err := s.decoder.DecodeAnswerAs(payload, dialect)
	return said{answer: answer}, err
}

func (r said) tell(session *devices.Session) {
	if r.progress != nil {
		session.Progress(*r.progress)
		return
	}
	session.Answer(r.answer)
}
