package devices

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"telemetryhub/auth"
	"telemetryhub/wire"
)

// Certifier signs a device's certificate signing request and enters the certificate among the device's credentials; an
// Issuer is one. Its error is an *auth.SigningRequestError where the request is to blame.
type Certifier interface {
	Issue(ctx context.Context, device string, request []byte) (auth.IssuedCertificate, error)
}

// Rotation renews what devices prove themselves with on their open connections, by the hub's wish, the device's own or
// the token's age, so that at no time a device holds nothing that is good.
//
// A token's way: it is in the registry, valid, before it is sent (offerToken); the device says that it has it
// (confirmToken), or does not; with its first use those before it are void (useToken). Each step is one durable write,
// and whatever is cut off between two of them leaves what the device may hold valid.
type Rotation struct {
	registry *Registry
	sessions *Sessions
	issuer   Certifier // nil: certificates are not issued
	log      *slog.Logger

	mu       sync.Mutex
	rotating map[string]bool      // devices that were offered a token and have not answered
	again    map[string]time.Time // when one that did not take it is asked again
	due      map[offer]settled    // what is to be written of offered tokens
	wake     chan struct{}        // due has one more
	outcomes map[RotationOutcome]uint64
}

// offer names a token that a device was offered.
type offer struct{ device, token string }

// settled is what became of an offer. Of two the greater counts.
type settled byte

const (
	settledRefused settled = iota + 1
	settledConfirmed
	settledUsed
)

// RotationOutcome is what came of offering a device a new token.
type RotationOutcome string

// Outcomes of a rotation.
const (
	Confirmed  RotationOutcome = "confirmed"  // the device has it; the one before is void with its first use
	Unanswered RotationOutcome = "unanswered" // the device may have it: both are valid for now
	Refused    RotationOutcome = "refused"    // the device said that it did not take it; it is void
)

// Errors of a rotation, for errors.Is.
var (
	ErrRotating = errors.New("the device is being offered a token and has not answered")
	ErrNotAsked = errors.New("the device cannot be offered a token on its connection")
)

// NewRotation returns the Rotation of the registry's devices. Run settles what becomes of offers. issuer may be nil.
func NewRotation(registry *Registry, sessions *Sessions, issuer Certifier, log *slog.Logger) *Rotation {
	c := &Rotation{
		registry: registry, sessions: sessions, issuer: issuer, log: log,
		rotating: map[string]bool{}, again: map[string]time.Time{}, due: map[offer]settled{}, wake: make(chan struct{}, 1),
		outcomes: map[RotationOutcome]uint64{Confirmed: 0, Unanswered: 0, Refused: 0},
	}
	sessions.follow(c.attached)
	sessions.late = c.late
	return c
}

// Credential is something that a device can prove itself with, as operators see it.
type Credential struct {
	Kind     ProofKind
	ID       string
	Created  time.Time
	Expires  time.Time // zero: never
	LastUsed time.Time // zero: not since this is noted
	InUse    bool      // by the device's connection
	State    string    // valid, offered, confirmed or expired
}

// List returns a device's credentials: its tokens, the oldest first, then the certificates that the hub has issued.
// Errors: ErrNotFound.
func (c *Rotation) List(device string) ([]Credential, error) {
	d, ok := c.registry.Get(device)
	if !ok {
		return nil, fmt.Errorf("device %s: %w", device, ErrNotFound)
	}
	now := time.Now()
	all := make([]Credential, 0, len(d.Tokens))
	for _, t := range d.Tokens {
		one := Credential{Kind: ProofToken, ID: t.ID, Created: t.Created, Expires: t.Expires, State: "valid"}
		switch {
		case isPast(c.registry.tokens.end(t, true), now):
			continue
		case isPast(t.Expires, now):
			one.State = "expired"
		case t.Offer != nil && t.Offer.Confirmed:
			one.State = "confirmed"
		case t.Offer != nil:
			one.State = "offered"
		}
		all = append(all, one)
	}
	for _, held := range d.Certificates {
		one := Credential{Kind: ProofCertificate, ID: held.ID, Created: held.Created, Expires: held.Expires, State: "valid"}
		switch {
		case isPast(held.Expires.Add(c.registry.tokens.Grace), now):
			continue
		case isPast(held.Expires, now):
			one.State = "expired"
		}
		all = append(all, one)
	}
	for i := range all {
		all[i].LastUsed, all[i].InUse = c.sessions.used(device, all[i].ID)
	}
	return all, nil
}

// Revoke makes one credential of a device void; a connection that rests on it ends. Errors: ErrNotFound, ErrNoCredential.
func (c *Rotation) Revoke(ctx context.Context, device, id string) error {
	err := c.registry.RevokeToken(ctx, device, id)
	if !errors.Is(err, ErrNoCredential) {
		return err
	}
	if err := c.registry.RevokeCertificate(ctx, device, id); !errors.Is(err, ErrNoCertificate) {
		return err
	}
	return ErrNoCredential
}

// answerWait bounds how long a device may take to store a token and say so.
const answerWait = 30 * time.Second

// Rotate offers a connected device a new token and waits for its answer, until ctx ends or answerWait. Errors:
// ErrNotFound, ErrOffline, ErrRotating, ErrNotAsked, ErrTooManyTokens. Where the outcome is not Confirmed, said tells more.
func (c *Rotation) Rotate(ctx context.Context, device string) (t Token, o RotationOutcome, said string, err error) {
	n := c.sessions.session(device)
	switch {
	case n == nil:
		return t, "", "", ErrOffline
	case n.Proved().Kind != ProofToken:
		return t, "", "", fmt.Errorf("%w: it proved itself by %s", ErrNotAsked, n.Proved().Kind)
	case !c.begin(device):
		return t, "", "", ErrRotating
	}
	defer c.end(device)
	if err := n.askable(); err != nil {
		return t, "", "", err
	}
	secret, t, err := c.registry.offerToken(ctx, device, n.Proved().ID, false)
	if err != nil {
		return t, "", "", err
	}
	params := wire.AppendCredentials(nil, wire.Credentials{Token: secret, Expires: t.Offer.Expires, TTL: time.Until(t.Offer.Expires)})
	wait, cancel := context.WithTimeout(ctx, answerWait)
	a, err := c.sessions.ask(wait, n, askedPrefix+t.ID, "hub.credentials", params)
	cancel()
	// What became of it is noted, whoever still waits to hear it.
	t, o, said = c.conclude(context.WithoutCancel(ctx), n, t, a, err)
	c.count(o)
	c.sessions.Note(device, Event{Kind: EventCredentials, Reason: string(o), Message: said})
	c.log.Info("token offered", "device", device, "token", t.ID, "outcome", string(o))
	return t, o, said, nil
}

// conclude writes what the device's answer means.
func (c *Rotation) conclude(ctx context.Context, n *Session, t Token, a wire.Answer, err error) (Token, RotationOutcome, string) {
	const both = "; it may have the new token: both are valid until one of them is used up to " // the time
	switch {
	case errors.Is(err, errNotSent):
		c.settle(ctx, offer{n.Device, t.ID}, settledRefused)
		return t, Refused, "it was not sent: " + err.Error()
	case err != nil:
		return t, Unanswered, "no answer: " + err.Error() + both + t.Expires.Format(time.RFC3339)
	case a.Fault != nil:
		c.settle(ctx, offer{n.Device, t.ID}, settledRefused)
		return t, Refused, "the device answered " + string(a.Fault)
	}
	// First the session, which would end with a token that is not its own any more.
	n.prove(Proof{Kind: ProofToken, ID: t.ID, Expires: t.Offer.Expires})
	confirmed, err := c.registry.confirmToken(ctx, n.Device, t.ID)
	if errors.Is(err, errSettled) { // it was used or revoked meanwhile
		return t, Confirmed, ""
	}
	if err != nil {
		return t, Unanswered, "the device has it, but that could not be written: " + err.Error() + both + t.Expires.Format(time.RFC3339)
	}
	return confirmed, Confirmed, ""
}

func (c *Rotation) begin(device string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rotating[device] {
		return false
	}
	c.rotating[device] = true
	return true
}

func (c *Rotation) end(device string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.rotating, device)
}

func (c *Rotation) count(o RotationOutcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[o]++
}

// Rotations returns how many tokens were offered to devices on their connections, by outcome.
func (c *Rotation) Rotations() map[RotationOutcome]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.outcomes)
}

// Renew gives a device what it asks for on its own connection, and returns the answer's result. params are those of
// `credentials`. The error is a *wire.Error where the device can do something about it.
func (c *Rotation) Renew(ctx context.Context, device string, p Proof, params []byte) ([]byte, error) {
	r, err := wire.DecodeCredentials(params)
	if err != nil {
		return nil, err
	}
	if r.CSR != "" {
		return c.certify(ctx, device, p, r.CSR)
	}
	inUse := ""
	if p.Kind == ProofToken {
		inUse = p.ID
	}
	secret, t, err := c.registry.offerToken(ctx, device, inUse, true)
	if errors.Is(err, ErrTooManyTokens) {
		return nil, &wire.Error{Code: wire.CodeCredentials, Reason: "too_many_tokens", Message: err.Error(), Limit: maxTokens, Value: maxTokens}
	}
	if err != nil {
		return nil, err
	}
	c.sessions.Note(device, Event{Kind: EventCredentials, Reason: "asked", Message: "the device was given token " + t.ID})
	c.log.Info("token given to the device that asked for it", "device", device, "token", t.ID)
	return wire.AppendCredentials(nil, wire.Credentials{Token: secret, Expires: t.Expires, TTL: time.Until(t.Expires)}), nil
}

func (c *Rotation) certify(ctx context.Context, device string, p Proof, csr string) ([]byte, error) {
	if c.issuer == nil {
		return nil, &wire.Error{Code: wire.CodeCredentials, Reason: "no_certificates", Message: "this hub issues no certificates; ask without csr for a token"}
	}
	if d, _ := c.registry.Get(device); len(d.Certificates) > 0 {
		newest := d.Certificates[len(d.Certificates)-1]
		if wait := time.Until(newest.Created.Add(renewPace)); wait > 0 && newest.ID != p.ID {
			return nil, &wire.Error{Code: wire.CodeUnavailable, Reason: wire.ReasonRenewed, RetryAfter: wait, Message: "a certificate was given just now; connect with it, or ask again later"}
		}
	}
	made, err := c.issuer.Issue(ctx, device, []byte(csr))
	if wrong, ok := errors.AsType[*auth.SigningRequestError](err); ok {
		return nil, &wire.Error{Code: wire.CodeInvalidParams, Reason: "bad_csr", Message: "csr: " + wrong.Message}
	}
	if err != nil {
		return nil, err
	}
	c.sessions.Note(device, Event{Kind: EventCredentials, Reason: "asked", Message: "the device was given certificate " + made.ID()})
	c.log.Info("certificate given to the device that asked for it", "device", device, "certificate", made.ID(), "expires", made.NotAfter)
	return wire.AppendCredentials(nil, wire.Credentials{Certificate: string(made.PEM), Expires: made.NotAfter, TTL: time.Until(made.NotAfter)}), nil
}
