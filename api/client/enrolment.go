package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// EnrolmentKey is an enrolment key without its secret.
type EnrolmentKey struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	State    string            `json:"state"` // active, disabled, expired or exhausted
	Enabled  bool              `json:"enabled"`
	Limit    int               `json:"limit"`
	Used     int               `json:"used"`
	Left     int               `json:"left"`
	Expires  time.Time         `json:"expires,omitzero"` // zero: never
	Type     string            `json:"type,omitempty"`
	Tags     []string          `json:"tags"`
	Pattern  string            `json:"pattern,omitempty"`
	Again    bool              `json:"again"`
	Created  time.Time         `json:"created"`
	Actor    string            `json:"actor"`
	LastUsed time.Time         `json:"last_used,omitzero"`
	Refused  map[string]uint64 `json:"refused"` // by reason, since the hub was started
}

// NewEnrolmentKey is a key to make.
type NewEnrolmentKey struct {
	Name    string    `json:"name"`
	Limit   int       `json:"limit"`
	Expires time.Time `json:"expires,omitzero"`
	Type    string    `json:"type,omitempty"`
	Tags    []string  `json:"tags,omitempty"`
	Pattern string    `json:"pattern,omitempty"`
	Again   bool      `json:"again,omitempty"`
}

// CreatedEnrolmentKey is a new key with its secret, which is shown this once.
type CreatedEnrolmentKey struct {
	Secret string `json:"secret"`
	EnrolmentKey
}

// EnrolmentKeyChange holds what is to change; nil leaves a member as it is.
type EnrolmentKeyChange struct {
	Name    *string `json:"name,omitempty"`
	Enabled *bool   `json:"enabled,omitempty"`
	Limit   *int    `json:"limit,omitempty"`
	Expires *string `json:"expires,omitempty"` // RFC 3339, or never
	Again   *bool   `json:"again,omitempty"`
}

// DeletedEnrolmentKey says what becomes of the devices that a removed key has enrolled.
type DeletedEnrolmentKey struct {
	ID      string `json:"id"`
	Devices string `json:"devices,omitempty"`
}

const enrolmentKeysPath = "/api/v1/enrolment-keys"

// EnrolmentKeys returns all keys, the oldest first.
func (c *Client) EnrolmentKeys(ctx context.Context) ([]EnrolmentKey, error) {
	var answer struct {
		Keys []EnrolmentKey `json:"keys"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: enrolmentKeysPath}, &answer)
	return answer.Keys, err
}

// CreateEnrolmentKey makes a key.
func (c *Client) CreateEnrolmentKey(ctx context.Context, k NewEnrolmentKey) (CreatedEnrolmentKey, error) {
	var created CreatedEnrolmentKey
	err := c.do(ctx, call{method: http.MethodPost, path: enrolmentKeysPath, body: k}, &created)
	return created, err
}

// GetEnrolmentKey returns one key; an unknown one is a Problem with status 404.
func (c *Client) GetEnrolmentKey(ctx context.Context, id string) (EnrolmentKey, error) {
	var k EnrolmentKey
	err := c.do(ctx, call{method: http.MethodGet, path: enrolmentKeysPath + "/" + url.PathEscape(id)}, &k)
	return k, err
}

// UpdateEnrolmentKey changes a key and returns it.
func (c *Client) UpdateEnrolmentKey(ctx context.Context, id string, change EnrolmentKeyChange) (EnrolmentKey, error) {
	var k EnrolmentKey
	err := c.do(ctx, call{method: http.MethodPatch, path: enrolmentKeysPath + "/" + url.PathEscape(id), body: change}, &k)
	return k, err
}

// DeleteEnrolmentKey removes a key; the devices that it enrolled stay.
func (c *Client) DeleteEnrolmentKey(ctx context.Context, id string) (DeletedEnrolmentKey, error) {
	var gone DeletedEnrolmentKey
	err := c.do(ctx, call{method: http.MethodDelete, path: enrolmentKeysPath + "/" + url.PathEscape(id)}, &gone)
	return gone, err
}
