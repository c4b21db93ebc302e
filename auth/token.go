package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// Prefixes of tokens. They tell a person (and a scanner for leaked secrets) what a text is; they grant nothing.
const (
	DevicePrefix    = "dev"
	OperatorPrefix  = "op"
	EnrolmentPrefix = "enr"
)

// tokenBytes is the entropy of a token in bytes: 256 bits.
const tokenBytes = 32

// Hash is the SHA-256 of a token, the only form in which the hub keeps one. In JSON it is hexadecimal text; the zero Hash
// is the empty text and matches no token.
type Hash [sha256.Size]byte

// NewToken makes a token of 256 random bits, such as dev_w0Pz…, and its hash. The prefix is one of those above.
func NewToken(prefix string) (token string, hash Hash, err error) {
	if prefix != DevicePrefix && prefix != OperatorPrefix && prefix != EnrolmentPrefix {
		return "", Hash{}, fmt.Errorf("make a token: unknown prefix %q", prefix)
	}
	var secret [tokenBytes]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return "", Hash{}, fmt.Errorf("make a token: %w", err)
	}
	token = prefix + "_" + base64.RawURLEncoding.EncodeToString(secret[:])
	return token, HashToken(token), nil
}

// HashToken returns the hash under which a token is known.
func HashToken(token string) Hash {
	return sha256.Sum256([]byte(token))
}

// Matches reports in constant time whether h is the hash of token.
func (h Hash) Matches(token string) bool {
	other := HashToken(token)
	return subtle.ConstantTimeCompare(h[:], other[:]) == 1
}

// IsZero reports whether h is the hash of nothing, as on a device that has no token.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText writes h in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) {
	if h.IsZero() {
		return []byte{}, nil
	}
	return hex.AppendEncode(nil, h[:]), nil
}

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(text []byte) error {
	*h = Hash{}
	if len(text) == 0 {
		return nil
	}
	if len(text) != hex.EncodedLen(len(h)) {
		return fmt.Errorf("hash of a token: %d characters instead of %d", len(text), hex.EncodedLen(len(h)))
	}
	if _, err := hex.Decode(h[:], text); err != nil {
		*h = Hash{}
		return fmt.Errorf("hash of a token: %w", err)
	}
	return nil
}

// IsEnrolmentKey reports whether a secret says of itself that it is an enrolment key; whether it is one of the hub's is
// another question.
func IsEnrolmentKey(secret string) bool { return strings.HasPrefix(secret, EnrolmentPrefix+"_") }
