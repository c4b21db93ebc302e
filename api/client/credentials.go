package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Credential is something that a device can prove itself with, without its secret.
type Credential struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind"`  // token or certificate
	State    string    `json:"state"` // valid, offered, confirmed or expired
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"`   // zero: never
	LastUsed time.Time `json:"last_used,omitzero"` // zero: not since that is noted
	InUse    bool      `json:"in_use"`             // the device's connection rests on it
}

// NewTokenTimes are durations such as 24h and 90d; empty: the hub's.
type NewTokenTimes struct {
	Keep      string `json:"keep,omitempty"`       // for how long the tokens before stay valid; empty: they end at once
	ExpiresIn string `json:"expires_in,omitempty"` // life of the new one
}

// GivenToken is a new token, which is shown this once.
type GivenToken struct {
	ID         string    `json:"id"` // of the device
	Token      string    `json:"token"`
	Credential string    `json:"credential"` // the token's id
	Expires    time.Time `json:"expires,omitzero"`
}

// GiveToken gives a device a new token.
func (c *Client) GiveToken(ctx context.Context, id string, times NewTokenTimes) (GivenToken, error) {
	var given GivenToken
	err := c.do(ctx, call{method: http.MethodPost, path: devicePath(id) + "/token", body: times}, &given)
	return given, err
}

// NewToken gives a device a new token and ends those before it at once.
func (c *Client) NewToken(ctx context.Context, id string) (string, error) {
	given, err := c.GiveToken(ctx, id, NewTokenTimes{})
	return given.Token, err
}

// Credentials lists what a device can prove itself with, the oldest first.
func (c *Client) Credentials(ctx context.Context, id string) ([]Credential, error) {
	var answer struct {
		Credentials []Credential `json:"credentials"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: devicePath(id) + "/credentials"}, &answer)
	return answer.Credentials, err
}

// RevokedCredential says what was revoked.
type RevokedCredential struct {
	ID         string `json:"id"`
	Credential string `json:"credential"`
	WasInUse   bool   `json:"was_in_use"` // a connection rested on it, and has ended
}

// RevokeCredential makes one credential of a device void at once.
func (c *Client) RevokeCredential(ctx context.Context, id, credential string) (RevokedCredential, error) {
	var gone RevokedCredential
	err := c.do(ctx, call{method: http.MethodDelete, path: devicePath(id) + "/credentials/" + url.PathEscape(credential)}, &gone)
	return gone, err
}

// Rotated is what came of offering a device a new token.
type Rotated struct {
	ID         string    `json:"id"`
	Outcome    string    `json:"outcome"` // confirmed, unanswered or refused
	Message    string    `json:"message,omitempty"`
	Credential string    `json:"credential"` // the new token's id
	Expires    time.Time `json:"expires,omitzero"`
}

// rotateWait is what the hub gives a device to answer.
const rotateWait = 30 * time.Second

// RotateCredentials offers a connected device a new token on its open connection, and waits for its answer.
func (c *Client) RotateCredentials(ctx context.Context, id string) (Rotated, error) {
	var rotated Rotated
	err := c.do(ctx, call{method: http.MethodPost, path: devicePath(id) + "/credentials/rotate", wait: rotateWait}, &rotated)
	return rotated, err
}
