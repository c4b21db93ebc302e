package devices

import (
	"errors"
	"fmt"
	"time"

	"telemetryhub/auth"
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
	d, ok := r.Get(device)
	switch {
	case !ok:
		return fmt.Errorf("device %s: %w", device, ErrNotFound)
	case !d.Enabled:
		return fmt.Errorf("device %s: %w", device, ErrDisabled)
	}
	now := time.Now()
	switch p.Kind {
	case ProofToken:
		t, ok := d.token(p.ID)
		if !ok {
			return ErrRevoked
		}
		return r.tokens.judge(t.Expires, p.Renewal, now)
	case ProofCertificate:
		if err := r.tokens.judge(p.Expires, p.Renewal, now); err != nil {
			return err
		}
		return p.certificate.current(d)
	case ProofBroker:
		return nil
	}
	return ErrRevoked
}

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

// TokenConfig is what an operator can set of devices' tokens.
type TokenConfig struct {
	Lifetime time.Duration // of a token that is made without one of its own; 0: it does not expire
	Grace    time.Duration // for how long after its end a token may still be used to get a new one
	Overlap  time.Duration // for how long the token before lives beside one that the device has confirmed
}

// expiry is when a token ends that is made at now and was given no time of its own.
func (c TokenConfig) expiry(now time.Time) time.Time {
	if c.Lifetime == 0 {
		return time.Time{}
	}
	return now.Add(c.Lifetime)
}

// judge says whether what expires then is good at now, or in its grace where that is enough.
func (c TokenConfig) judge(expires time.Time, renewal bool, now time.Time) error {
	if renewal {
		expires = expires.Add(c.Grace)
	}
	if !expires.IsZero() && !now.Before(expires) {
		return ErrExpired
	}
	return nil
}

// Token is one of a device's tokens. The hub keeps its hash alone.
type Token struct {
	ID      string    `json:"id"` // the first digits of the hash: not secret, and the same on each hub
	Hash    auth.Hash `json:"hash"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// tokenID names a token in lists and logs.
func tokenID(hash auth.Hash) string { return fmt.Sprintf("%x", hash[:6]) }

func newToken(hash auth.Hash, created, expires time.Time) Token {
	return Token{ID: tokenID(hash), Hash: hash, Created: created, Expires: expires}
}

func (t Token) equal(other Token) bool {
	return t.Hash == other.Hash && t.Expires.Equal(other.Expires)
}

// token returns the device's token of that id.
func (d Device) token(id string) (Token, bool) {
	for _, t := range d.Tokens {
		if t.ID == id {
			return t, true
		}
	}
	return Token{}, false
}

// prove returns what a token proves. Errors: ErrCredentials, ErrExpired.
func (d Device) prove(token string, c TokenConfig, now time.Time) (Proof, error) {
	for _, t := range d.Tokens {
		if !t.Hash.Matches(token) {
			continue
		}
		p := Proof{Kind: ProofToken, ID: t.ID, Expires: t.Expires}
		if c.judge(t.Expires, false, now) == nil {
			return p, nil
		}
		p.Renewal = true
		return p, c.judge(t.Expires, true, now)
	}
	return Proof{}, ErrCredentials
}
