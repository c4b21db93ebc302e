package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// Credential is something that a device can prove itself with. The secret itself is nowhere in it.
type Credential struct {
	ID       string    `json:"id" doc:"Names it; not secret"`
	Kind     string    `json:"kind" doc:"token, or certificate"`
	State    string    `json:"state" doc:"valid; offered: sent to the device, which has not said that it has it; confirmed: it has, and did not use it yet; expired: good for renewal only"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"`
	LastUsed time.Time `json:"last_used,omitzero"`
	InUse    bool      `json:"in_use" doc:"The device's connection rests on it"`
}

func credentialOf(c devices.Credential) Credential {
	return Credential{
		ID: c.ID, Kind: string(c.Kind), State: c.State, Created: c.Created, Expires: c.Expires, LastUsed: c.LastUsed, InUse: c.InUse,
	}
}

func (s *Server) registerCredentials() {
	const path = "/api/v1/devices/{id}/credentials"
	tags := []string{"credentials"}
	register(s, admin, huma.Operation{
		OperationID: "new-device-token", Method: http.MethodPost, Path: "/api/v1/devices/{id}/token", Tags: tags, Summary: "Give a device a new token",
		Description: "Those before it are void at once and the device's connection ends, unless keep says for how long they stay valid. The token is shown this once. keep and expires_in may stand in the query or in the body.",
	}, s.newDeviceToken)
	register(s, viewer, huma.Operation{
		OperationID: "list-credentials", Method: http.MethodGet, Path: path, Tags: tags, Summary: "What a device can prove itself with", Description: "The oldest first. No secrets.",
	}, s.listCredentials)
	register(s, admin, huma.Operation{
		OperationID: "revoke-credential", Method: http.MethodDelete, Path: path + "/{cid}", Tags: tags, Summary: "Revoke one of a device's credentials",
		Description: "It is void at once, and a connection that rests on it ends with close code 4003.",
	}, s.revokeCredential)
	register(s, admin, huma.Operation{
		OperationID: "rotate-credentials", Method: http.MethodPost, Path: path + "/rotate", Tags: tags, Summary: "Offer a connected device a new token on its open connection",
		Description: "Answers when the device has stored it, has refused it, or has not answered for 30 s. The token before is void with the first use of the new one. The connection stays.",
	}, s.rotateCredentials)
	register(s, device, huma.Operation{
		OperationID: "renew-credentials", Method: http.MethodPost, Path: path, Tags: tags, Summary: "A device gets a new token for its own",
		Description: "With the device's own credentials (Bearer TOKEN, or Basic DEVICE:TOKEN), also with those that have expired within the grace. The body is the params of `credentials`: {} or nothing for a token. The token before is void with the first use of the new one.",
		Responses: map[string]*huma.Response{"200": {
			Description: "{token, expires (ms since 1970), ttl_ms}, or {certificate, expires, ttl_ms}",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}}},
		}},
	}, s.renewCredentials)
	s.api.OpenAPI().Paths[path].Post.RequestBody = &huma.RequestBody{
		Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}}},
	}
}

// longestLife bounds what an operator can ask for.
const longestLife = 100 * 365 * 24 * time.Hour

// TokenTimes say how long tokens are valid.
type TokenTimes struct {
	Keep      string `json:"keep,omitempty" query:"keep" maxLength:"32" doc:"For how long the tokens before stay valid, such as 24h; left out: they are void at once"`
	ExpiresIn string `json:"expires_in,omitempty" query:"expires_in" maxLength:"32" doc:"Life of the new token, such as 90d; left out: as configured"`
}

type newTokenInput struct {
	DevicePath
	TokenTimes
	Body *struct {
		Keep      string `json:"keep,omitempty" maxLength:"32"`
		ExpiresIn string `json:"expires_in,omitempty" maxLength:"32"`
	}
}

type deviceTokenOutput struct {
	Body struct {
		ID         string    `json:"id"`
		Token      string    `json:"token" doc:"Shown this once; the hub keeps only its hash"`
		Credential string    `json:"credential" doc:"The token's id among the device's credentials"`
		Expires    time.Time `json:"expires,omitzero"`
	}
}

func (s *Server) newDeviceToken(ctx context.Context, in *newTokenInput) (*deviceTokenOutput, error) {
	times, at := in.TokenTimes, "query"
	if times == (TokenTimes{}) && in.Body != nil {
		times, at = TokenTimes{in.Body.Keep, in.Body.ExpiresIn}, "body"
	}
	var q devices.TokenRequest
	var err error
	if q.Keep, err = parseDuration(at+".keep", times.Keep, time.Second, longestLife); err != nil {
		return nil, err
	}
	if q.Life, err = parseDuration(at+".expires_in", times.ExpiresIn, time.Second, longestLife); err != nil {
		return nil, err
	}
	secret, t, err := s.deps.Registry.AddToken(ctx, in.ID, q)
	if err != nil {
		return nil, err
	}
	note(ctx, "credential", t.ID)
	if q.Keep > 0 {
		note(ctx, "keep", q.Keep.String())
	}
	if !t.Expires.IsZero() {
		note(ctx, "expires", t.Expires)
	}
	s.logChange(ctx, "token renewed", in.ID)
	out := &deviceTokenOutput{}
	out.Body.ID, out.Body.Token, out.Body.Credential, out.Body.Expires = in.ID, secret, t.ID, t.Expires
	return out, nil
}

type credentialsOutput struct {
	Body struct {
		Credentials []Credential `json:"credentials" nullable:"false"`
	}
}

func (s *Server) listCredentials(_ context.Context, in *DevicePath) (*credentialsOutput, error) {
	all, err := s.deps.Proofs.List(in.ID)
	if err != nil {
		return nil, err
	}
	out := &credentialsOutput{}
	out.Body.Credentials = make([]Credential, len(all))
	for i, c := range all {
		out.Body.Credentials[i] = credentialOf(c)
	}
	return out, nil
}

type credentialPath struct {
	DevicePath
	CID string `path:"cid" maxLength:"128" doc:"The credential's id"`
}

type revokedOutput struct {
	Body struct {
		ID         string `json:"id"`
		Credential string `json:"credential"`
		WasInUse   bool   `json:"was_in_use" doc:"A connection rested on it, and has ended"`
	}
}

func (s *Server) revokeCredential(ctx context.Context, in *credentialPath) (*revokedOutput, error) {
	note(ctx, "credential", clip(in.CID))
	all, err := s.deps.Proofs.List(in.ID)
	if err != nil {
		return nil, err
	}
	out := &revokedOutput{}
	out.Body.ID, out.Body.Credential = in.ID, in.CID
	for _, c := range all {
		out.Body.WasInUse = out.Body.WasInUse || c.ID == in.CID && c.InUse
	}
	if err := s.deps.Proofs.Revoke(ctx, in.ID, in.CID); err != nil {
		return nil, err
	}
	s.logChange(ctx, "credential revoked", in.ID)
	return out, nil
}

type rotatedOutput struct {
	Body struct {
		ID         string    `json:"id"`
		Outcome    string    `json:"outcome" enum:"confirmed,unanswered,refused" doc:"confirmed: the device has it; unanswered: it may have it, and both are valid for now; refused: it has not, and the new one is void"`
		Message    string    `json:"message,omitempty"`
		Credential string    `json:"credential" doc:"The new token's id"`
		Expires    time.Time `json:"expires,omitzero" doc:"Of the new token"`
	}
}

func (s *Server) rotateCredentials(ctx context.Context, in *DevicePath) (*rotatedOutput, error) {
	if _, err := s.find(in.ID); err != nil {
		return nil, err
	}
	t, outcome, said, err := s.deps.Proofs.Rotate(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	note(ctx, "credential", t.ID)
	note(ctx, "outcome", string(outcome))
	out := &rotatedOutput{}
	out.Body.ID, out.Body.Outcome, out.Body.Message, out.Body.Credential, out.Body.Expires = in.ID, string(outcome), said, t.ID, t.Expires
	return out, nil
}

func (s *Server) renewCredentials(ctx context.Context, in *DevicePath) (*huma.StreamResponse, error) {
	x := exchangeOf(ctx)
	p, err := s.proveDevice(x.request, in.ID)
	if err != nil {
		return nil, err
	}
	if !p.Renewal {
		s.deps.Proofs.Used(in.ID, p)
	}
	var body bytes.Buffer
	if err := s.readBody(x, int64(s.cfg.MaxFrame), &body); err != nil {
		return nil, err
	}
	var decoder wire.Decoder
	params, err := decoder.DecodeCredentialsPayload(body.Bytes(), wire.DialectOfPayload(body.Bytes()))
	if err != nil {
		return nil, err
	}
	result, err := s.deps.Proofs.Renew(ctx, in.ID, p, params)
	if _, known := errors.AsType[*wire.Error](err); err != nil && !known {
		s.log.WarnContext(ctx, "a device's credentials could not be renewed", "device", in.ID, "error", err)
		return nil, newProblem(http.StatusServiceUnavailable, "not_written", "the new credentials could not be made durable; the old are as good as before").retryAfter(defaultRetry)
	}
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", "application/json")
		ctx.SetHeader("Cache-Control", "no-store")
		_, _ = ctx.BodyWriter().Write(result) // the client is gone: it asks again
	}}, nil
}
