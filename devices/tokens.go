package devices

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"telemetryhub/auth"
	"telemetryhub/wire"
)

// TokenConfig is what an operator can set of devices' tokens.
type TokenConfig struct {
	Lifetime time.Duration // of a token that is made without one of its own; 0: it does not expire
	Grace    time.Duration // for how long after its end a token may still be used to get a new one
	// Overlap is for how long the token before lives beside one that the device has confirmed, and one that the device has
	// not confirmed beside the one before.
	Overlap time.Duration
}

// expiry is when a token ends that is made at now and was given no time of its own.
func (c TokenConfig) expiry(now time.Time) time.Time {
	if c.Lifetime == 0 {
		return time.Time{}
	}
	return now.Add(c.Lifetime)
}

// end is when a token is good for nothing more, or with renewal for nothing at all; zero: never.
func (c TokenConfig) end(t Token, renewal bool) time.Time {
	if t.Expires.IsZero() || !renewal || t.Final {
		return t.Expires
	}
	return t.Expires.Add(c.Grace)
}

// maxTokens bounds how many tokens a device has at once.
const maxTokens = 5

// Errors of a device's tokens, for errors.Is.
var (
	ErrNoCredential  = errors.New("the device has no such credential")
	ErrTooManyTokens = fmt.Errorf("the device has %d tokens; revoke one of them first", maxTokens)
)

// Token is one of a device's tokens. The hub keeps its hash alone.
type Token struct {
	ID      string        `json:"id"` // the first digits of the hash: not secret, and the same on each hub
	Hash    auth.Hash     `json:"hash"`
	Created time.Time     `json:"created"`
	Expires time.Time     `json:"expires,omitzero"`
	Final   bool          `json:"final,omitempty"` // it has no grace: another has taken its place
	Offer   *PendingOffer `json:"offer,omitempty"` // it was given to the device on its connection, and was not used yet
}

// PendingOffer is what is known of a token between its way to the device and its first use. With that, the tokens before it are
// void. Until then all are good: the device may hold either, wherever the hub or the device were cut off.
type PendingOffer struct {
	Confirmed bool      `json:"confirmed,omitempty"` // the device says that it has it
	Expires   time.Time `json:"expires,omitzero"`    // of the token, once the device has it; zero: never
}

// tokenID names a token in lists and logs.
func tokenID(hash auth.Hash) string { return fmt.Sprintf("%x", hash[:6]) }

func newToken(hash auth.Hash, created, expires time.Time) Token {
	return Token{ID: tokenID(hash), Hash: hash, Created: created, Expires: expires}
}

func (t Token) equal(other Token) bool {
	return t.Hash == other.Hash && t.Expires.Equal(other.Expires)
}

// indexToken returns where the device's token of that id is, -1 if there is none.
func (d Device) indexToken(id string) int {
	return slices.IndexFunc(d.Tokens, func(t Token) bool { return t.ID == id })
}

// token returns the device's token of that id.
func (d Device) token(id string) (Token, bool) {
	if i := d.indexToken(id); i >= 0 {
		return d.Tokens[i], true
	}
	return Token{}, false
}

// prove returns what a token proves. Errors: ErrCredentials, ErrExpired.
func (d Device) prove(token string, c TokenConfig, now time.Time) (Proof, error) {
	for _, t := range d.Tokens {
		if !t.Hash.Matches(token) {
			continue
		}
		p := Proof{Kind: ProofToken, ID: t.ID, Expires: t.Expires, Renewal: isPast(t.Expires, now)}
		if isPast(c.end(t, true), now) {
			return p, ErrExpired
		}
		return p, nil
	}
	return Proof{}, ErrCredentials
}

// addToken makes room for t where there are too many: those that are good for nothing go, then the oldest that was
// offered and not confirmed, but never the one that the device uses. It changes d.Tokens, which is d's own.
func (d *Device) addToken(t Token, inUse string, c TokenConfig, now time.Time) error {
	d.Tokens = slices.DeleteFunc(d.Tokens, func(t Token) bool { return isPast(c.end(t, true), now) })
	if len(d.Tokens) >= maxTokens {
		i := slices.IndexFunc(d.Tokens, func(t Token) bool { return t.Offer != nil && !t.Offer.Confirmed && t.ID != inUse })
		if i < 0 {
			return ErrTooManyTokens
		}
		d.Tokens = slices.Delete(d.Tokens, i, i+1)
	}
	d.Tokens = append(d.Tokens, t)
	return nil
}

// replace ends t no later than then, without a grace.
func (t *Token) replace(then time.Time) {
	if t.Expires.IsZero() || then.Before(t.Expires) {
		t.Expires, t.Final = then, true
	}
}

// stamp is the time as records bear it.
func stamp() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// TokenRequest says what becomes of a device's tokens when it is given a new one.
type TokenRequest struct {
	Keep time.Duration // for how long those before stay valid; 0: they are void at once
	Life time.Duration // of the new one; 0: as configured
}

// NewToken gives a device a new token and returns it; those before it are void at once.
func (r *Registry) NewToken(ctx context.Context, id string) (string, error) {
	secret, _, err := r.AddToken(ctx, id, TokenRequest{})
	return secret, err
}

// AddToken gives a device a new token and returns it, which is never shown again. Errors: ErrNotFound, ErrTooManyTokens.
func (r *Registry) AddToken(ctx context.Context, id string, q TokenRequest) (secret string, t Token, err error) {
	secret, hash, err := auth.NewToken(auth.DevicePrefix)
	if err != nil {
		return "", t, err
	}
	_, err = r.update(ctx, id, func(d *Device) error {
		now := stamp()
		t = newToken(hash, now, r.tokens.expiry(now))
		if q.Life > 0 {
			t.Expires = now.Add(q.Life)
		}
		if q.Keep == 0 {
			d.Tokens = []Token{t}
			return nil
		}
		for i := range d.Tokens {
			d.Tokens[i].replace(now.Add(q.Keep))
		}
		return d.addToken(t, "", r.tokens, now)
	})
	return secret, t, err
}

// RevokeToken makes one of a device's tokens void. Errors: ErrNotFound, ErrNoCredential.
func (r *Registry) RevokeToken(ctx context.Context, id, token string) error {
	_, err := r.update(ctx, id, func(d *Device) error {
		i := d.indexToken(token)
		if i < 0 {
			return ErrNoCredential
		}
		d.Tokens = slices.Delete(d.Tokens, i, i+1)
		return nil
	})
	return err
}

// renewPace is how soon after a token that it did not use a device gets another.
const renewPace = 10 * time.Second

// offerToken adds a token that is on its way to the device. asked: it is the answer to the device's own request, whose
// way nobody confirms. Errors: ErrNotFound, ErrTooManyTokens; a *wire.Error where the device asks again too soon.
func (r *Registry) offerToken(ctx context.Context, id, inUse string, asked bool) (secret string, t Token, err error) {
	secret, hash, err := auth.NewToken(auth.DevicePrefix)
	if err != nil {
		return "", t, err
	}
	_, err = r.update(ctx, id, func(d *Device) error {
		now := stamp()
		if wait := renewWait(*d, inUse, now); asked && wait > 0 {
			return &wire.Error{Code: wire.CodeUnavailable, Reason: wire.ReasonRenewed, RetryAfter: wait, Message: "a token was given just now; connect with it, or ask again later"}
		}
		t = newToken(hash, now, r.tokens.expiry(now))
		t.Offer = &PendingOffer{Expires: t.Expires}
		if !asked {
			// Without an end of its own it would be a second key for ever, if the device never got it.
			t.Expires = now.Add(r.tokens.Overlap)
			if end := t.Offer.Expires; !end.IsZero() && end.Before(t.Expires) {
				t.Expires = end
			}
		}
		return d.addToken(t, inUse, r.tokens, now)
	})
	return secret, t, err
}

// renewWait is how long a device that asks for a token has to wait for it.
func renewWait(d Device, inUse string, now time.Time) time.Duration {
	if len(d.Tokens) == 0 {
		return 0
	}
	last := d.Tokens[len(d.Tokens)-1]
	if last.Offer == nil || last.Offer.Confirmed || last.ID == inUse {
		return 0
	}
	return last.Created.Add(renewPace).Sub(now)
}

// errSettled ends a change of a token that is not offered any more.
var errSettled = errors.New("the token is not offered any more")

// confirmToken notes that the device has an offered token: it lives as long as it was meant to, the token before it no
// longer than Overlap, and offers between them, which never can be used now, are taken away.
func (r *Registry) confirmToken(ctx context.Context, id, token string) (t Token, err error) {
	_, err = r.update(ctx, id, func(d *Device) error {
		i := d.indexToken(token)
		if i < 0 || d.Tokens[i].Offer == nil || d.Tokens[i].Offer.Confirmed {
			return errSettled
		}
		end := d.Tokens[i].Offer.Expires
		d.Tokens[i].Expires, d.Tokens[i].Offer = end, &PendingOffer{Confirmed: true, Expires: end}
		t = d.Tokens[i]
		var kept []Token
		for j := range d.Tokens {
			if j < i {
				if d.Tokens[j].Offer != nil {
					continue
				}
				d.Tokens[j].replace(stamp().Add(r.tokens.Overlap))
			}
			kept = append(kept, d.Tokens[j])
		}
		d.Tokens = kept
		return nil
	})
	return t, err
}

// useToken notes the first use of an offered token: those before it are void.
func (r *Registry) useToken(ctx context.Context, id, token string) error {
	_, err := r.update(ctx, id, func(d *Device) error {
		i := d.indexToken(token)
		if i < 0 || d.Tokens[i].Offer == nil {
			return errSettled
		}
		d.Tokens = d.Tokens[i:]
		d.Tokens[0].Expires, d.Tokens[0].Offer = d.Tokens[0].Offer.Expires, nil
		return nil
	})
	return err
}

// isOffered reports whether the device has that token and did not use it yet.
func (r *Registry) isOffered(id, token string) bool {
	d, _ := r.Get(id)
	t, ok := d.token(token)
	return ok && t.Offer != nil
}
