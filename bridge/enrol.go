package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// unconfirmed is a connection whose device came by an enrolment key and has not yet said that it has its credentials.
type unconfirmed struct {
	offer *devices.Offer
	sent  bool
	timer *time.Timer // ends the connection
}

// errUnconfirmed ends a connection of MQTT 3.1.1, which has no other word for a message that is not to be acknowledged.
var errUnconfirmed = errors.New("the device has not confirmed its credentials")

// identifyByKey looks at a CONNECT with an enrolment key for its password. The device is enrolled later, once nothing
// else can keep it from its connection; only what is surely refused is so here.
func (b *Broker) identifyByKey(from Origin, hello connect) (devices.Device, devices.Proof, *refusal) {
	switch {
	case b.hub.Enroller == nil:
		return devices.Device{}, devices.Proof{}, refusalOf(devices.ErrCredentials)
	case !b.hub.Enroller.Knows(hello.password), wire.CheckDeviceID(hello.username) != nil:
		_, err := b.enrol(from, hello)
		return devices.Device{}, devices.Proof{}, enrolRefusal(err)
	}
	return devices.Device{ID: hello.username}, devices.Proof{Kind: devices.ProofEnrolment}, nil
}

func (b *Broker) enrol(from Origin, hello connect) (devices.Enrolment, error) {
	// It is carried through, whatever becomes of the connection.
	return b.hub.Enroller.Enrol(context.Background(), devices.EnrolRequest{
		Key: hello.password, Device: hello.username, Transport: from.Transport, Remote: from.Remote,
	})
}

// enrolFirst enrols the device of a CONNECT that has shown an enrolment key.
func (b *Broker) enrolFirst(c *client, hello connect) *refusal {
	if c.proof.Kind != devices.ProofEnrolment {
		return nil
	}
	made, err := b.enrol(c.origin, hello)
	if err != nil {
		return enrolRefusal(err)
	}
	c.proof = made.OfferedProof()
	return nil
}

func enrolRefusal(err error) *refusal {
	var e *devices.EnrolError
	if !errors.As(err, &e) {
		return &refusal{reason: "unavailable", code: codeUnavailable, message: "the device cannot be enrolled now"}
	}
	r := &refusal{reason: e.Reason, code: codeNotAuthorized, message: e.Message}
	switch e.Status {
	case http.StatusUnauthorized:
		r.code = codeBadCredentials
	case http.StatusTooManyRequests:
		r.code = codeBusy
	case http.StatusServiceUnavailable:
		r.code = codeUnavailable
	}
	if e.RetryAfter > 0 {
		r.message = fmt.Sprintf("%s; come back in %s", e.Message, e.RetryAfter)
	}
	return r
}

// takeOffer notes that a connection begins with hub.credentials, before it has a session.
func (c *client) takeOffer() {
	if c.proof.Offer == nil {
		return
	}
	c.unconfirmed = &unconfirmed{offer: c.proof.Offer}
	c.proof.Offer = nil // not kept
	c.link.hold()
	c.unconfirmed.timer = time.AfterFunc(devices.ConfirmWait, func() {
		c.link.Close(wire.ClosePolicy, fmt.Sprintf("the credentials were not confirmed within %s", devices.ConfirmWait))
	})
}

// offer sends hub.credentials as soon as the device listens to it.
func (c *client) offer() {
	u := c.unconfirmed
	if u.sent || !c.link.subscribed() {
		return
	}
	if err := c.link.offer(u.offer.Request()); err != nil {
		c.link.Close(wire.ClosePolicy, err.Error())
		return
	}
	u.sent = true
}

// confirming takes a message of a device that has not confirmed its credentials.
func (b *Broker) confirming(c *client, about subject, s *scratch, m message) error {
	if about == subjectResponse {
		if r, err := s.response(m.payload); err == nil && r.progress == nil && r.answer.ID == devices.OfferID {
			return b.confirmed(c, r.answer)
		}
	}
	if m.qos > 0 && !c.v5 {
		return errUnconfirmed
	}
	return &refusal{
		reason: wire.ReasonUnconfirmed, code: codeNotAuthorized,
		message: "answer hub.credentials first, once the token is stored; it comes on " + joinTopic(ownPrefix, c.device, subjectCommand),
	}
}

// confirmed takes the answer to hub.credentials, which is acknowledged when that is durable.
func (b *Broker) confirmed(c *client, a wire.Answer) error {
	if a.Fault != nil {
		c.link.Close(wire.ClosePolicy, "the device did not take its credentials")
		return nil
	}
	err := b.hub.Registry.Confirm(b.commits, c.device, c.proof)
	if errors.Is(err, devices.ErrRevoked) || errors.Is(err, devices.ErrNotFound) {
		c.link.Close(wire.CloseRevoked, devices.VoidReason(err))
		return nil
	}
	if err != nil {
		return err // the connection ends; the device has its token, and its use confirms it
	}
	c.unconfirmed.timer.Stop()
	c.unconfirmed = nil
	c.link.release()
	c.ready()
	c.tellState()
	c.joinOthers()
	return nil
}

// hold keeps the desired state back.
func (l *link) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

func (l *link) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
}

// offer adds a request of the hub's own; the command's topic bears it, at most once.
func (l *link) offer(payload []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	out, _, err := l.prepare(subjectCommand, payload)
	if err != nil {
		return fmt.Errorf("send by mqtt: %w", err)
	}
	l.add(out)
	return nil
}
