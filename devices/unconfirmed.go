package devices

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"telemetryhub/wire"
)

// ConfirmWait bounds how long a connection that came by an enrolment key may take to confirm its credentials.
const ConfirmWait = 30 * time.Second

// Offer is a token that the device of a connection has yet to be given. It travels with the connection's Proof until the
// connection has a session.
type Offer struct {
	token   string
	expires time.Time
}

// OfferID is the id of the request hub.credentials that gives a device the token of its enrolment. A command's id has no
// colon.
const OfferID = "hub:enrol"

// Request is the request hub.credentials, as JSON text.
func (o *Offer) Request() []byte {
	params := wire.AppendCredentials(nil, wire.Credentials{Token: o.token, Expires: o.expires, TTL: time.Until(o.expires)})
	return wire.AppendRequest(nil, OfferID, "hub.credentials", params)
}

// identifyByKey looks at a request that shows an enrolment key. The device is enrolled later, once nothing else can
// keep it from its connection; only what is surely refused is so here.
func (c *Connector) identifyByKey(r *http.Request, shown Credentials) (Device, Proof, *refusal) {
	device := r.PathValue("device")
	switch {
	case c.cfg.Enroller == nil:
		return Device{}, Proof{}, &refusal{http.StatusUnauthorized, "bad_credentials", "the hub takes no enrolment keys"}
	case device == "" && shown.Device == "":
		return Device{}, Proof{}, &refusal{http.StatusBadRequest, "no_device", "an enrolment key says not which device comes: connect to /connect/DEVICE"}
	case device != "" && shown.Device != "" && device != shown.Device:
		return Device{}, Proof{}, &refusal{http.StatusForbidden, "wrong_device", "the path names another device than the credentials"}
	case device == "":
		device = shown.Device
	}
	// Of a key that is none, or an id that is none, nothing is remembered, as it would be of a device that is let in later.
	if !c.cfg.Enroller.Knows(shown.Token) || wire.CheckDeviceID(device) != nil {
		_, err := c.enrol(r, device)
		return Device{}, Proof{}, refusalOf(err)
	}
	return Device{ID: device}, Proof{Kind: ProofEnrolment}, nil
}

// enrol gives the device credentials for the enrolment key that its request shows.
func (c *Connector) enrol(r *http.Request, device string) (Enrolment, error) {
	shown, _ := CredentialsOf(r, true)
	return c.cfg.Enroller.Enrol(r.Context(), EnrolRequest{Key: shown.Token, Device: device, Transport: TransportWSS, Remote: r.RemoteAddr})
}

func refusalOf(err error) *refusal {
	var e *EnrolError
	if !errors.As(err, &e) {
		return &refusal{http.StatusInternalServerError, "internal", "internal error; the hub's log says more"}
	}
	return &refusal{e.Status, e.Reason, e.Message}
}

// enrolFirst enrols the device of a request that has shown an enrolment key, and answers where that is refused.
func (c *Connector) enrolFirst(w http.ResponseWriter, r *http.Request, device Device, p Proof) (Device, Proof, bool) {
	if p.Kind != ProofEnrolment {
		return device, p, true
	}
	made, err := c.enrol(r, device.ID)
	if err == nil {
		return made.Device, made.OfferedProof(), true
	}
	if e := (*EnrolError)(nil); errors.As(err, &e) && e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	no := refusalOf(err)
	c.refuse(r, no)
	no.write(w)
	return device, p, false
}

// OfferedProof is the proof of a connection that begins with the offer of the enrolment's token.
func (e Enrolment) OfferedProof() Proof {
	p := e.Proof
	p.Offer = &Offer{token: e.Token, expires: p.Expires}
	return p
}

// unconfirmed is a connection whose device has not yet said that it has its credentials.
type unconfirmed struct {
	proof Proof
	until time.Time
}

// offer makes hub.credentials the first frame of a connection that came by an enrolment key.
func (n *conn) offer(p Proof) Proof {
	if p.Offer == nil {
		return p
	}
	request := p.Offer.Request()
	p.Offer = nil // not kept
	n.unconfirmed.Store(&unconfirmed{proof: p, until: time.Now().Add(ConfirmWait)})
	n.out.frame(func(dst []byte) []byte { return append(dst, request...) })
	return p
}

// confirming takes a frame of a device that has not confirmed its credentials, and reports whether that was all.
func (n *conn) confirming(u *unconfirmed, f wire.Frame) (done bool) {
	if f.Kind == wire.KindAnswer {
		a, err := f.Answer()
		if err == nil && a.ID == OfferID {
			n.confirmed(u, a)
			return true
		}
		if err == nil && a.ID == wire.ProbeID {
			return true // that it came was all
		}
	}
	if string(f.Method) == "hello" {
		return false
	}
	n.refuse(f.ID, &wire.Error{
		Code: wire.CodeCredentials, Reason: wire.ReasonUnconfirmed,
		Message: "answer hub.credentials first, once the token is stored; until then only hello is taken",
	})
	return true
}

// confirmed takes the answer to hub.credentials. What the device sends behind it waits until that is durable.
func (n *conn) confirmed(u *unconfirmed, a wire.Answer) {
	if a.Fault != nil {
		n.Close(wire.ClosePolicy, "the device did not take its credentials")
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), confirmWait)
	defer cancel()
	n.paused.Store(true)
	err := n.hub.registry.Confirm(ctx, n.device, u.proof)
	n.session.Touch()
	n.paused.Store(false)
	if errors.Is(err, ErrRevoked) || errors.Is(err, ErrNotFound) {
		n.Close(wire.CloseRevoked, VoidReason(err))
		return
	}
	if err != nil { // its use does it: the device has the token
		n.hub.log.Warn("an enrolment was not confirmed", "device", n.device, "err", err)
		n.Close(wire.CloseOverloaded, fmt.Sprintf(`{"retry_after_ms":%d}`, time.Second.Milliseconds()))
		return
	}
	n.unconfirmed.Store(nil)
	n.out.ready()
}

// lookConfirmed is the sweeper's look at a connection that is not confirmed.
func (n *conn) lookConfirmed(now time.Time) {
	if u := n.unconfirmed.Load(); u != nil && now.After(u.until) {
		n.Close(wire.ClosePolicy, fmt.Sprintf("the credentials were not confirmed within %s", ConfirmWait))
	}
}
