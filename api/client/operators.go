package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Scope is which devices an operator sees and commands: those with one of the tags.
type Scope struct {
	Tags []string `json:"tags"`
}

// Operator is a person or a program that uses the hub's API.
type Operator struct {
	Name    string          `json:"name"`
	Role    string          `json:"role"`            // viewer, operator, admin
	Scope   *Scope          `json:"scope,omitempty"` // nil: all devices
	Enabled bool            `json:"enabled"`
	Created time.Time       `json:"created,omitzero"`
	Tokens  []OperatorToken `json:"tokens"` // by name
}

// OperatorToken is what may be shown of a token.
type OperatorToken struct {
	Name     string    `json:"name"`
	Created  time.Time `json:"created,omitzero"`
	Expires  time.Time `json:"expires,omitzero"` // zero: never
	Expired  bool      `json:"expired,omitempty"`
	LastUsed time.Time `json:"last_used,omitzero"`
}

// NewOperator is an operator to be made, and its first token.
type NewOperator struct {
	Name      string `json:"name"`
	Role      string `json:"role"`
	Scope     *Scope `json:"scope,omitempty"`      // nil: all devices
	TokenName string `json:"token_name,omitempty"` // default if empty
	ExpiresIn string `json:"expires_in,omitempty"` // such as 90d; empty: never
}

// CreatedOperator is an operator with its token, which is shown this once.
type CreatedOperator struct {
	Operator
	Token string `json:"token"`
}

// NamedToken is a token at the one time when it is shown.
type NamedToken struct {
	Name    string    `json:"name"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires,omitzero"`
}

// OperatorChange is what is to become of an operator; what is nil stays.
type OperatorChange struct {
	Role       *string
	Scope      *Scope
	AllDevices bool // takes the scope away
	Enabled    *bool
}

func (o OperatorChange) body() map[string]any {
	body := map[string]any{}
	if o.Role != nil {
		body["role"] = *o.Role
	}
	if o.Scope != nil {
		body["scope"] = o.Scope
	}
	if o.AllDevices {
		body["scope"] = nil
	}
	if o.Enabled != nil {
		body["enabled"] = *o.Enabled
	}
	return body
}

const operatorsPath = "/api/v1/operators"

func operatorPath(name string) string { return operatorsPath + "/" + url.PathEscape(name) }

// Operators lists who may use the API, by name.
func (c *Client) Operators(ctx context.Context) ([]Operator, error) {
	var list struct {
		Operators []Operator `json:"operators"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: operatorsPath}, &list)
	return list.Operators, err
}

// GetOperator returns one operator.
func (c *Client) GetOperator(ctx context.Context, name string) (o Operator, err error) {
	err = c.do(ctx, call{method: http.MethodGet, path: operatorPath(name)}, &o)
	return o, err
}

// CreateOperator makes an operator.
func (c *Client) CreateOperator(ctx context.Context, n NewOperator) (made CreatedOperator, err error) {
	err = c.do(ctx, call{method: http.MethodPost, path: operatorsPath, body: n}, &made)
	return made, err
}

// ChangeOperator changes an operator's role or scope, or disables or enables it.
func (c *Client) ChangeOperator(ctx context.Context, name string, change OperatorChange) (o Operator, err error) {
	err = c.do(ctx, call{method: http.MethodPatch, path: operatorPath(name), body: change.body()}, &o)
	return o, err
}

// DeleteOperator removes an operator.
func (c *Client) DeleteOperator(ctx context.Context, name string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: operatorPath(name)}, nil)
}

// NewOperatorToken gives an operator a token; one of the same name is void from then on. Expires is such as 90d, empty
// for never.
func (c *Client) NewOperatorToken(ctx context.Context, operator, name, expires string) (t NamedToken, err error) {
	body := map[string]string{}
	if name != "" {
		body["name"] = name
	}
	if expires != "" {
		body["expires_in"] = expires
	}
	err = c.do(ctx, call{method: http.MethodPost, path: operatorPath(operator) + "/token", body: body}, &t)
	return t, err
}

// RevokeOperatorToken ends one of an operator's tokens.
func (c *Client) RevokeOperatorToken(ctx context.Context, operator, name string) (o Operator, err error) {
	err = c.do(ctx, call{method: http.MethodDelete, path: operatorPath(operator) + "/tokens/" + url.PathEscape(name)}, &o)
	return o, err
}
