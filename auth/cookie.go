package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// CookieLife is how long a login lasts.
	CookieLife = 12 * time.Hour
	// cookieKeyBytes is the length of the key that signs cookies (RFC 2104: at least the length of the hash).
	cookieKeyBytes = 32
	// maxCookie bounds what is looked at: a name of 64 characters, a number and a signature take about 150.
	maxCookie = 256
)

// NewCookie makes the value of a login cookie: NAME.EXPIRES.SIGNATURE, the name and the signature in base64url, the end in
// seconds since 1970. Op is as Authenticate returned it; the cookie holds no longer than its token. The role is not in it,
// so a change of role counts at once.
func (o *Operators) NewCookie(op Operator, now time.Time) (value string, expires time.Time, err error) {
	if record, ok := o.record(op.Name); !ok || !record.has(op.token) {
		return "", time.Time{}, fmt.Errorf("make a login cookie for %q: %w", op.Name, ErrTokenNotFound)
	}
	expires = now.Add(CookieLife)
	if !op.Until.IsZero() && op.Until.Before(expires) {
		expires = op.Until
	}
	expires = expires.Truncate(time.Second)
	end := strconv.FormatInt(expires.Unix(), 10)
	value = base64.RawURLEncoding.EncodeToString([]byte(op.Name)) + "." + end + "." +
		base64.RawURLEncoding.EncodeToString(o.signCookie(op.Name, op.token, end))
	return value, expires, nil
}

// FromCookie returns the operator a cookie was made for, unless it is forged, has expired, or the token that the login was
// made with is void.
func (o *Operators) FromCookie(value string, now time.Time) (Operator, bool) {
	if len(value) > maxCookie {
		return Operator{}, false
	}
	namePart, rest, ok := strings.Cut(value, ".")
	if !ok {
		return Operator{}, false
	}
	end, signaturePart, ok := strings.Cut(rest, ".")
	if !ok {
		return Operator{}, false
	}
	name, errName := base64.RawURLEncoding.DecodeString(namePart)
	signature, errSignature := base64.RawURLEncoding.DecodeString(signaturePart)
	seconds, errEnd := strconv.ParseInt(end, 10, 64)
	if errName != nil || errSignature != nil || errEnd != nil {
		return Operator{}, false
	}
	expires := time.Unix(seconds, 0)
	if !now.Before(expires) {
		return Operator{}, false
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, t := range o.byName[string(name)].record.Tokens { // 16 at most
		if !hmac.Equal(signature, o.signCookie(string(name), t.Hash, end)) {
			continue
		}
		op, ok := o.admit(o.byHash[t.Hash], now)
		if op.Until.IsZero() || expires.Before(op.Until) {
			op.Until = expires
		}
		return op, ok
	}
	return Operator{}, false
}

// signCookie binds a login to its end and to the operator's token: when that is void its cookies are. The parts cannot run
// into each other: a name and a number hold no zero byte, the hash has a fixed length.
func (o *Operators) signCookie(name string, token Hash, end string) []byte {
	mac := hmac.New(sha256.New, o.cookieKey)
	mac.Write([]byte("cookie v1\x00" + name + "\x00" + end + "\x00"))
	mac.Write(token[:])
	return mac.Sum(nil)
}

// loadCookieKey reads the signing key of a bucket, or makes it. It lives in the bucket so that a login survives a restart
// and counts on every hub that shares the bucket.
func loadCookieKey(ctx context.Context, kv jetstream.KeyValue) ([]byte, error) {
	fresh := make([]byte, cookieKeyBytes)
	if _, err := rand.Read(fresh); err != nil {
		return nil, fmt.Errorf("make the cookie key: %w", err)
	}
	_, err := kv.Create(ctx, cookieKeyName, fresh)
	if err == nil {
		return fresh, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return nil, fmt.Errorf("store the cookie key: %w", err)
	}
	entry, err := kv.Get(ctx, cookieKeyName)
	if err != nil {
		return nil, fmt.Errorf("read the cookie key: %w", err)
	}
	if len(entry.Value()) != cookieKeyBytes {
		return nil, fmt.Errorf("read the cookie key: %d bytes instead of %d", len(entry.Value()), cookieKeyBytes)
	}
	return entry.Value(), nil
}
