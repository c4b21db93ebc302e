package wire

import (
	"strconv"
	"time"
)

// Credentials is what a device is given to prove itself with from its next connection on: a token, or a certificate for
// the key that it asked for.
type Credentials struct {
	Token       string
	Certificate string    // PEM, that of the device first
	Expires     time.Time // zero: never
	TTL         time.Duration
}

// CredentialsRequest is what a device asks for with `credentials`.
type CredentialsRequest struct {
	CSR string `json:"csr"` // a certificate signing request (PKCS #10) in PEM; empty: it asks for a token
}

// DecodeCredentials decodes the params of `credentials`; absent params ask for a token. The error is of type [*Error].
func DecodeCredentials(params []byte) (CredentialsRequest, error) {
	var r CredentialsRequest
	if len(params) == 0 {
		return r, nil
	}
	if fault := unmarshal(params, &r); fault != "" {
		return r, badParams("credentials: %s", fault)
	}
	return r, nil
}

// AppendRequest appends a request of the hub's own; id is a text, params JSON text.
func AppendRequest(dst []byte, id, method string, params []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = appendQuoted(dst, id)
	dst = append(dst, `,"method":`...)
	dst = appendQuoted(dst, method)
	dst = append(dst, `,"params":`...)
	dst = append(dst, params...)
	return append(dst, '}')
}

// AppendCredentials appends the object {token or certificate, expires, ttl_ms}: the result of `credentials` and the
// params of hub.credentials. Without an end neither expires (ms since the epoch) nor ttl_ms (for devices without a
// clock) is there.
func AppendCredentials(dst []byte, c Credentials) []byte {
	dst = append(dst, '{')
	for _, member := range [...]struct{ name, text string }{{`"token":`, c.Token}, {`"certificate":`, c.Certificate}} {
		if member.text != "" {
			dst = append(dst, member.name...)
			dst = appendQuoted(dst, member.text)
			dst = append(dst, ',')
		}
	}
	if !c.Expires.IsZero() {
		dst = append(dst, `"expires":`...)
		dst = strconv.AppendInt(dst, c.Expires.UnixMilli(), 10)
		dst = append(dst, `,"ttl_ms":`...)
		dst = strconv.AppendInt(dst, max(0, c.TTL.Milliseconds()), 10)
		return append(dst, '}')
	}
	dst[len(dst)-1] = '}'
	return dst
}

// DecodeCredentialsPayload returns the params of `credentials` in a payload that came by itself, as MQTT bears it; an
// empty one is none. The error is of type [*Error].
func (d *Decoder) DecodeCredentialsPayload(data []byte, as Dialect) ([]byte, error) {
	if len(data) == 0 {
		return nil, nil
	}
	params, e := d.open(data, as)
	if e != nil {
		return nil, e
	}
	return params, nil
}
