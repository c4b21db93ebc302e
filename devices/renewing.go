package devices

import (
	"context"
	"errors"
	"time"

	"telemetryhub/wire"
)

// Renewer gives a device the new credentials that it asks for; a Rotation is one. result is JSON text. The error is a
// *wire.Error where the device can do something about it.
type Renewer interface {
	Renew(ctx context.Context, device string, p Proof, params []byte) (result []byte, err error)
}

// renewTimeout bounds how long a device waits for new credentials to be durable.
const renewTimeout = 10 * time.Second

// renew answers `credentials`. The reader waits for it: what the device sends meanwhile waits in its socket.
func (n *conn) renew(f wire.Frame) error {
	if f.ID == nil {
		return &wire.Error{Code: wire.CodeInvalidRequest, Reason: wire.ReasonBadFrame, Message: "credentials is a request: without an id there is no answer to bear them"}
	}
	if n.hub.cfg.Renewer == nil {
		return &wire.Error{Code: wire.CodeCredentials, Reason: wire.ReasonUnknownMethod, Message: "this hub renews no credentials"}
	}
	n.paused.Store(true)
	defer n.paused.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), renewTimeout)
	defer cancel()
	result, err := n.hub.cfg.Renewer.Renew(ctx, n.device, n.session.Proved(), f.Params)
	if _, known := errors.AsType[*wire.Error](err); err != nil && !known {
		n.hub.log.Warn("a device's credentials could not be renewed", "device", n.device, "err", err)
		return &wire.Error{Code: wire.CodeUnavailable, Reason: "not_written", Message: "the new credentials could not be made durable; the old are as good as before", RetryAfter: journalRetry}
	}
	if err != nil {
		return err
	}
	n.session.Touch()
	n.out.frame(func(dst []byte) []byte { return wire.AppendResult(dst, f.ID, result) })
	return nil
}

// Ask implements Asker.
func (n *conn) Ask(id, method string, params []byte) error { return n.out.ask(id, method, params) }

// ask adds a request of the hub's own.
func (o *outbox) ask(id, method string, params []byte) error {
	frame := o.encode(wire.AppendRequest(nil, id, method, params), 0)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.tooLarge(frame); err != nil {
		return err
	}
	return o.request(frame)
}

// ExpiredError is the answer to a frame that a connection which may only renew its credentials does not take.
func ExpiredError() *wire.Error {
	return &wire.Error{
		Code: wire.CodeCredentials, Reason: wire.ReasonCredentials,
		Message: "the credentials have expired: this connection takes hello and credentials only; ask for new ones and connect with them",
	}
}

// isForRenewal reports whether a connection that may only renew takes the frame.
func isForRenewal(f wire.Frame) bool {
	switch string(f.Method) {
	case "hello", "credentials":
		return true
	}
	return false
}

// helloAside answers hello on a connection that may only renew: of the device's state and commands it says nothing.
func (n *conn) helloAside(id []byte) {
	keepalive := time.Duration(n.keepalive.Load())
	n.answer(id, wire.Welcome{
		Device: n.device, Session: n.session.ID(), Time: time.Now().UnixMilli(), KeepaliveS: int(keepalive.Seconds()), MaxFrame: int(n.profile().Limits.MaxFrame),
	})
}

// sayExpired tells a device on connecting what it may do.
func (n *conn) sayExpired() {
	n.notice(wire.Notice{Code: wire.ReasonCredentials, Message: ExpiredError().Message})
}
