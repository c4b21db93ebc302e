package devices

import (
	"errors"
	"net/http"
	"strings"

	"telemetryhub/wire"
)

// Credentials are what a request shows of itself. Device is empty where only a token was shown.
type Credentials struct {
	Device, Token string
}

// CredentialsOf reads a request's credentials: `Authorization: Bearer TOKEN`, else `Authorization: Basic
// DEVICE:TOKEN` (RFC 7617), else, where the caller allows it, `?token=TOKEN` for clients that can set only a URL.
func CredentialsOf(r *http.Request, query bool) (Credentials, bool) {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return Credentials{Token: strings.TrimSpace(token)}, true
	}
	if user, password, ok := r.BasicAuth(); ok {
		// A device id may hold colons and a token never does, so the last one parts them.
		pair := user + ":" + password
		last := strings.LastIndexByte(pair, ':')
		return Credentials{Device: pair[:last], Token: pair[last+1:]}, true
	}
	if token := r.URL.Query().Get("token"); query && token != "" {
		return Credentials{Token: token}, true
	}
	return Credentials{}, false
}

// refusal is why a request was not let in, as HTTP says it.
type refusal struct {
	status int
	reason string
	detail string
}

const reasonNoCredentials = "no_credentials"

// identify returns the device that a request to /connect or /connect/{device} comes from.
func (c *Connector) identify(r *http.Request) (Device, Proof, *refusal) {
	shown, ok := CredentialsOf(r, true)
	if !ok && (c.cfg.Certificates == nil || r.TLS == nil || len(r.TLS.PeerCertificates) == 0) {
		return Device{}, Proof{}, &refusal{http.StatusUnauthorized, reasonNoCredentials, "show the device's token: Authorization: Bearer TOKEN, Authorization: Basic DEVICE:TOKEN, or ?token=TOKEN; or a client certificate in the TLS handshake"}
	}
	if IsEnrolmentKey(shown.Token) {
		return c.identifyByKey(r, shown)
	}
	path := r.PathValue("device")
	// A token alone says whose it is; the path is compared afterwards, so that a right token at a wrong path is told so.
	d, proof, err := Identify(c.registry, c.cfg.Certificates, r.TLS, shown)
	if status, reason, detail, ok := CertificateRefusal(d, err); ok {
		return Device{}, Proof{}, &refusal{status, reason, detail}
	}
	switch {
	case errors.Is(err, ErrDisabled):
		return Device{}, Proof{}, &refusal{http.StatusForbidden, "device_disabled", "the device is disabled; an operator can enable it"}
	case errors.Is(err, ErrExpired):
		return Device{}, Proof{}, &refusal{http.StatusUnauthorized, wire.ReasonCredentials, "the token has expired, and the time in which it could have renewed itself is over; `hubctl devices token DEVICE` gives a new one"}
	case err != nil:
		return Device{}, Proof{}, &refusal{http.StatusUnauthorized, "bad_credentials", "the token is not valid for this device; `hubctl devices token DEVICE` gives a new one"}
	case path != "" && path != d.ID:
		return Device{}, Proof{}, &refusal{http.StatusForbidden, "wrong_device", "the path names another device than the credentials"}
	}
	return d, proof, nil
}
