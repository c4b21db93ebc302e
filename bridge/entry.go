package bridge

import (
	"cmp"
	"crypto/tls"
	"errors"
	"net"
	"net/http"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// admit implements rules.
func (b *Broker) admit(c *client, hello connect) *refusal {
	device, proof, r := b.identify(c, hello)
	if r == nil {
		r = b.checkFrozen(device.ID)
	}
	if r != nil {
		return b.refuseConnect(c, cmp.Or(c.origin.Device, device.ID, hello.username), r)
	}
	if r := b.checkPace(c, device.ID); r != nil { // before it takes a place from others
		return r
	}
	if c.origin.Device == "" { // else whoever opened the way has asked
		if later := b.hub.Admission.Admit(b.commits, device.ID, b.isOnline(device.ID)); later != nil {
			return b.postpone(c, device.ID, later)
		}
	}
	c.device, c.proof = device.ID, proof
	if r := b.enrolFirst(c, hello); r != nil {
		return b.refuseConnect(c, device.ID, r)
	}
	b.metrics.connects.WithLabelValues("").Inc()
	if hello.will != nil {
		c.takeWill(*hello.will)
	}
	c.admitted()
	return nil
}

// refuseConnect counts a CONNECT that is refused.
func (b *Broker) refuseConnect(c *client, device string, r *refusal) *refusal {
	b.metrics.connects.WithLabelValues(r.reason).Inc()
	b.noteRefused(c.origin, device, r)
	b.log.Debug("mqtt connection refused", "device", device, "remote", c.origin.Remote, "reason", r.reason)
	c.conn.sayWhy(wire.ClosePolicy, r.message)
	return r
}

// noteRefused tells the flight recorder of the device that a refused CONNECT spoke for, if there is one.
func (b *Broker) noteRefused(from Origin, id string, r *refusal) {
	if _, ok := b.hub.Registry.Get(id); ok {
		b.hub.Sessions.Note(id, devices.Event{Kind: devices.EventRefused, Reason: r.reason, Message: r.message, Remote: from.Remote, Status: int(r.code)})
	}
}

// checkFrozen refuses a device that is frozen as a clone.
func (b *Broker) checkFrozen(device string) *refusal {
	f := b.hub.Sessions.Frozen(device)
	if f == nil {
		return nil
	}
	return &refusal{reason: devices.ReasonFrozen, code: codeBanned, message: f.Cause() + ": several devices use this identity"}
}

// identify finds out which device a CONNECT comes from, and what it proved that with: what opened the connection, if
// that proved anything, else what CONNECT bears.
func (b *Broker) identify(c *client, hello connect) (devices.Device, devices.Proof, *refusal) {
	from := c.origin
	device, _ := b.hub.Registry.Get(from.Device)
	proof := from.Proof
	switch {
	case from.Device == "", hello.password != "":
		var r *refusal
		var said devices.Proof
		if device, said, r = b.authenticate(c, hello); r != nil {
			return device, said, r
		}
		if from.Device == "" {
			proof = said
		} else if device.ID != from.Device || said.Kind == devices.ProofEnrolment && proof.Offer == nil {
			return device, proof, otherDevice()
		}
	case hello.username != "" && hello.username != from.Device:
		return device, proof, otherDevice()
	}
	if from.Path != "" && device.ID != from.Path {
		return device, proof, &refusal{reason: "wrong_device", code: codeNotAuthorized, message: "the path names another device than the credentials"}
	}
	if from.Device != "" {
		return device, proof, refusalOf(b.hub.Registry.Current(from.Device, proof))
	}
	return device, proof, nil
}

func otherDevice() *refusal {
	return &refusal{reason: ReasonOtherDevice, code: codeNotAuthorized, message: "CONNECT names another device than the credentials that opened the connection"}
}

// authenticate looks at the certificate of the connection, and at what CONNECT bears.
func (b *Broker) authenticate(c *client, hello connect) (devices.Device, devices.Proof, *refusal) {
	if devices.IsEnrolmentKey(hello.password) {
		return b.identifyByKey(c.origin, hello)
	}
	device, proof, err := devices.Identify(b.hub.Registry, b.hub.Certificates, tlsState(c.conn.Conn), devices.Credentials{Device: hello.username, Token: hello.password})
	if status, reason, message, ok := devices.CertificateRefusal(device, err); ok {
		return device, proof, &refusal{reason: reason, code: codeOfStatus(status), message: message}
	}
	r := refusalOf(err)
	if r != nil && r.code == codeUnavailable {
		b.log.Warn("mqtt device could not be authenticated", "err", err)
	}
	return device, proof, r
}

// tlsState is that of the TLS connection that the device shook hands on for MQTT; nil: there is none.
func tlsState(nc net.Conn) *tls.ConnectionState {
	secured, ok := nc.(*tls.Conn)
	if !ok {
		return nil
	}
	state := secured.ConnectionState()
	return &state
}

// codeOfStatus is MQTT's word for HTTP's 401 and 403.
func codeOfStatus(status int) reasonCode {
	if status == http.StatusUnauthorized {
		return codeBadCredentials
	}
	return codeNotAuthorized
}

// refusalOf says why a device that showed its credentials is not let in; nil: it is.
func refusalOf(err error) *refusal {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, devices.ErrDisabled):
		return &refusal{reason: ReasonDisabled, code: codeNotAuthorized, message: "the device is disabled"}
	case errors.Is(err, devices.ErrExpired):
		return &refusal{reason: wire.ReasonCredentials, code: codeBadCredentials, message: "the credentials have expired, and the time in which they could have been renewed is over"}
	case errors.Is(err, devices.ErrNotFound), errors.Is(err, devices.ErrRevoked):
		return &refusal{reason: "bad_credentials", code: codeBadCredentials, message: "the device does not exist any more, or its credentials were revoked"}
	case errors.Is(err, devices.ErrCredentials):
		return &refusal{reason: "bad_credentials", code: codeBadCredentials, message: "the username is the device's id and the password its token; these are not known"}
	}
	return &refusal{reason: "unavailable", code: codeUnavailable, message: "the registry cannot be asked now"}
}

// established implements rules.
func (b *Broker) established(c *client, p peer) {
	c.link.open(p)
	if later := b.hub.Admission.Enter(b.isOnline(c.device)); later != nil {
		b.noteLater(c, c.device, wire.CloseOverloaded, later)
		c.link.Close(wire.CloseOverloaded, later.CloseReason())
		return
	}
	c.entered = true
	c.takeOffer()
	c.session = b.hub.Sessions.Attach(devices.Attachment{
		Device: c.device, Transport: c.origin.Transport, Remote: c.origin.Remote, Proof: c.proof, Link: c.link,
	})
	if err := b.hub.Registry.Current(c.device, c.proof); err != nil { // a change before Attach found no session to end
		c.link.Close(wire.CloseRevoked, devices.VoidReason(err))
		return
	}
	c.ready()
	if !c.session.Renews() {
		c.tellState()
	}
	c.joinOthers()
}

// began implements rules.
func (b *Broker) began(c *client, id string, resumes bool) {
	if resumes {
		b.dropWill(id)
	} else {
		b.dueWill(id, nil) // its session has ended
	}
	c.mailbox = b.exchange.begin(id, c, resumes)
}

// forgotten implements rules.
func (b *Broker) forgotten(id string, last *client) {
	b.exchange.end(id, last)
	b.dueWill(id, nil)
}

// joinOthers lets a device hear what others say, once nothing else is asked of it.
func (c *client) joinOthers() {
	if c.unconfirmed == nil && !c.proof.Renewal {
		c.link.join(c.mailbox, c.broker.exchange)
	}
}

// packet implements rules.
func (b *Broker) packet(c *client) {
	if c.session != nil {
		c.session.Touch()
	}
}

// acknowledged implements rules.
func (b *Broker) acknowledged(c *client, packetID uint16) { c.link.acknowledged(packetID) }
