package devices

import (
	"errors"
	"fmt"
	"time"
)

// ProofKind says what a connection proved itself with.
type ProofKind string

// Kinds of proof.
const (
	ProofToken       ProofKind = "token"
	ProofCertificate ProofKind = "certificate"
	ProofBroker      ProofKind = "broker" // an external MQTT broker vouches for the device
	// ProofEnrolment is of a request with an enrolment key; the device gets a token before it gets a session.
	ProofEnrolment ProofKind = "enrolment key"
)

// Proof is what a connection proved itself with. The zero Proof proves nothing.
type Proof struct {
	Kind    ProofKind
	ID      string    // which one: a token's id, a certificate's fingerprint, a broker's name
	Expires time.Time // zero: never
	// Renewal: it has expired, within the grace. Such a connection may renew its credentials and do nothing else.
	Renewal bool
	// Offer: the connection begins with giving the device the token that this is the proof of. Not of a session.
	Offer *Offer

	certificate *shownCertificate // nil: another kind of proof
}

// Errors of credentials that are no longer good, for errors.Is.
var (
	ErrRevoked = errors.New("the credentials were revoked")
	ErrExpired = errors.New("the credentials have expired")
)

// Current returns nil as long as the device may be connected by that proof. A proof that is good for renewal is, until
// its grace is over. Errors: ErrNotFound, ErrDisabled, ErrRevoked, ErrExpired.
func (r *Registry) Current(device string, p Proof) error {
	_, err := r.standing(device, p)
	return err
}

// standing is Current, and says until when that holds if nothing changes; zero: for ever.
func (r *Registry) standing(device string, p Proof) (until time.Time, err error) {
	d, ok := r.Get(device)
	switch {
	case !ok:
		return until, fmt.Errorf("device %s: %w", device, ErrNotFound)
	case !d.Enabled:
		return until, fmt.Errorf("device %s: %w", device, ErrDisabled)
	}
	switch p.Kind {
	case ProofToken:
		t, ok := d.token(p.ID)
		if !ok {
			return until, ErrRevoked
		}
		until = r.tokens.end(t, p.Renewal)
	case ProofCertificate:
		if until = p.Expires; p.Renewal && !until.IsZero() {
			until = until.Add(r.tokens.Grace)
		}
		if isPast(until, time.Now()) {
			return until, ErrExpired
		}
		if err := p.certificate.current(d); err != nil {
			return until, err
		}
	case ProofBroker:
	default:
		return until, ErrRevoked
	}
	if isPast(until, time.Now()) {
		return until, ErrExpired
	}
	return until, nil
}

// isPast reports whether an end has come; the zero time never does.
func isPast(end, now time.Time) bool { return !end.IsZero() && !now.Before(end) }

// VoidReason says in a word or two, as the close frame does, why a session ended for one of Current's errors.
func VoidReason(err error) string {
	switch {
	case errors.Is(err, ErrNotFound):
		return "deleted"
	case errors.Is(err, ErrDisabled):
		return "disabled"
	case errors.Is(err, ErrExpired):
		return "credentials expired"
	}
	return "credentials revoked"
}
