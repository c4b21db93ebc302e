package bridge

import (
	"context"
	"errors"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// renewTimeout bounds how long a device waits for new credentials to be durable.
const renewTimeout = 10 * time.Second

// expired refuses what a connection brings that may only renew its credentials.
func expired() *refusal {
	e := devices.ExpiredError()
	return &refusal{reason: e.Reason, message: e.Message, code: codeNotAuthorized, unacked: true}
}

// renew gives a device the new credentials that it asked for on .../credentials. The answer goes to .../issued, at most
// once and never retained: a device that does not get it asks again. Refused, it says why there too, for MQTT 3.1.1 has no
// other place for that.
func (b *Broker) renew(c *client, s *scratch, m message) error {
	if m.retained {
		return &refusal{reason: ReasonRetained, code: codeNotAuthorized, message: "a request for credentials is not retained"}
	}
	if c.session == nil || b.hub.Renewer == nil { // without a session: the last will of a connection that did not get as far
		return &refusal{reason: ReasonNoSession, code: codeNotAuthorized, message: "credentials are not renewed here"}
	}
	if !c.link.listens(subjectIssued) {
		return &refusal{reason: ReasonNotSubscribed, code: codeImplementation, message: "subscribe to " + joinTopic(ownPrefix, c.device, subjectIssued) + " first: the answer comes there"}
	}
	params, err := s.decoder.DecodeCredentialsPayload(m.payload, wire.DialectOfPayload(m.payload))
	if err != nil {
		return b.refuseRenewal(c, err)
	}
	ctx, cancel := context.WithTimeout(b.commits, renewTimeout)
	defer cancel()
	result, err := b.hub.Renewer.Renew(ctx, c.device, c.session.Proved(), params)
	if err != nil {
		return b.refuseRenewal(c, err)
	}
	return c.link.issue(result)
}

func (b *Broker) refuseRenewal(c *client, err error) error {
	e, known := errors.AsType[*wire.Error](err)
	if !known {
		b.log.Warn("a device's credentials could not be renewed", "device", c.device, "err", err)
		e = &wire.Error{Code: wire.CodeUnavailable, Reason: "not_written", Message: "the new credentials could not be made durable; the old are as good as before"}
	}
	// Not told is as good as told: the message itself is refused.
	_ = c.link.issue(wire.AppendError(nil, nil, e))
	return &refusal{reason: e.Reason, message: e.Message, code: codeImplementation}
}

func (l *link) issue(answer []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.once(subjectIssued, answer); err != nil {
		return &refusal{reason: ReasonNotSubscribed, message: err.Error(), code: codeImplementation}
	}
	return nil
}

// Ask implements devices.Asker: the command's topic bears it, at most once.
func (l *link) Ask(id, method string, params []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.once(subjectCommand, wire.AppendRequest(nil, id, method, params))
}
