package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// telemetryScratch is what reading one posted frame needs; it is used again.
type telemetryScratch struct {
	body      bytes.Buffer
	decoder   wire.Decoder
	telemetry wire.Telemetry
}

const reasonMediaType = "unsupported_media_type"

func (s *Server) registerTelemetry() {
	const path = "/api/v1/devices/{id}/telemetry"
	register(s, device, huma.Operation{
		OperationID: "post-telemetry", Method: http.MethodPost, Path: path, Tags: []string{"telemetry"}, DefaultStatus: http.StatusNoContent,
		Summary: "A device posts readings",
		Description: "With the device's own credentials (Bearer TOKEN, or Basic DEVICE:TOKEN). The body is one telemetry object as on the socket: values{}, " +
			"or readings[] of {ts or age_ms, values{}}, or the values themselves, in JSON or CBOR; or a SenML pack (RFC 8428) in either. Content-Type says which. " +
			"204 says that it is durable.",
	}, s.postTelemetry)
	// Documented after it was registered: huma would read and parse a body that it knows of, and this one is wire's.
	s.api.OpenAPI().Paths[path].Post.RequestBody = &huma.RequestBody{
		Required: true,
		Content: map[string]*huma.MediaType{
			"application/json":       {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}},
			"application/cbor":       {Schema: &huma.Schema{Description: "The same object in CBOR (RFC 8949)"}},
			"application/senml+json": {Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}}},
			"application/senml+cbor": {Schema: &huma.Schema{Description: "A pack in CBOR (RFC 8428 section 6)"}},
		},
	}
}

func (s *Server) postTelemetry(ctx context.Context, in *DevicePath) (*struct{}, error) {
	x := exchangeOf(ctx)
	id, err := s.authenticateDevice(x.request, in.ID)
	if err != nil {
		s.noteDeviceRefused(ctx, in.ID, err)
		return nil, err
	}
	dialect, problem := dialectOf(x.request.Header)
	if problem != nil {
		s.refuseFrame(ctx, id, reasonMediaType, problem)
		return nil, problem
	}
	scratch, _ := s.decode.Get().(*telemetryScratch)
	defer func() {
		if scratch.body.Cap() <= 4*s.cfg.MaxFrame {
			s.decode.Put(scratch)
		}
	}()
	profile := s.deps.Profiles.Of(id)
	if err := s.readFrame(x, profile, &scratch.body); err != nil {
		if err.Reason == wire.ReasonTooLarge {
			s.refuseFrame(ctx, id, err.Reason, err)
		}
		return nil, err
	}
	if err := s.pace(id, profile, scratch.body.Len()); err != nil {
		return nil, err // not counted as received: it comes again
	}
	if err := scratch.decoder.DecodePayloadAs(scratch.body.Bytes(), dialect, id, &scratch.telemetry); err != nil {
		reason := wire.ReasonBadFrame
		if known, ok := errors.AsType[*wire.Error](err); ok {
			reason = known.Reason
		}
		s.refuseFrame(ctx, id, reason, err)
		return nil, err
	}
	err = s.deps.Ingest.Commit(ctx, id, &scratch.telemetry)
	if unusable, ok := errors.AsType[*wire.Error](err); ok {
		s.refuseFrame(ctx, id, unusable.Reason, err)
		return nil, err
	}
	if err != nil {
		s.log.WarnContext(ctx, "posted telemetry not committed", "device", id, "error", err)
		return nil, newProblem(http.StatusServiceUnavailable, wire.ReasonStopping, "the readings are not durable; send them again").retryAfter(defaultRetry)
	}
	s.deps.Sessions.LearnUnits(id, scratch.telemetry.Units)
	return nil, nil //nolint:nilnil // huma's way to say 204 without a body
}

// authenticateDevice returns the id of the device that the request's credentials belong to, which must be the path's.
func (s *Server) authenticateDevice(r *http.Request, id string) (string, error) {
	p, err := s.proveDevice(r, id)
	if err != nil {
		return "", err
	}
	if p.Renewal {
		return "", deviceUnauthorized(wire.ReasonCredentials, "the device's token or certificate has expired; POST /api/v1/devices/{id}/credentials gives a new one for it")
	}
	s.deps.Proofs.Used(id, p)
	return id, nil
}

// proveDevice returns what the request's credentials prove of the path's device. They may be good for renewal only.
func (s *Server) proveDevice(r *http.Request, id string) (devices.Proof, error) {
	shown, ok := devices.CredentialsOf(r, false)
	if !ok && (s.deps.Certificates == nil || r.TLS == nil || len(r.TLS.PeerCertificates) == 0) {
		return devices.Proof{}, deviceUnauthorized("no_credentials", "a device sends Authorization: Bearer TOKEN, or Basic DEVICE:TOKEN, or shows a client certificate in the TLS handshake")
	}
	d, proof, err := devices.Identify(s.deps.Registry, s.deps.Certificates, r.TLS, shown)
	if status, reason, detail, ok := devices.CertificateRefusal(d, err); ok {
		if status == http.StatusUnauthorized {
			return devices.Proof{}, deviceUnauthorized(reason, detail)
		}
		return devices.Proof{}, newProblem(status, reason, "%s", detail)
	}
	switch {
	case errors.Is(err, devices.ErrExpired):
		return proof, deviceUnauthorized(wire.ReasonCredentials, "the device's token has expired, and the time in which it could have renewed itself is over")
	case errors.Is(err, devices.ErrCredentials), errors.Is(err, devices.ErrNotFound):
		return proof, deviceUnauthorized("bad_credentials", "the device's credentials are wrong")
	case err != nil:
		return proof, err
	case d.ID != id:
		return proof, newProblem(http.StatusForbidden, "wrong_device", "the credentials are those of another device than %q", clip(id))
	}
	return proof, nil
}

func deviceUnauthorized(reason, detail string) *Problem {
	return unauthorized(reason, detail).with("WWW-Authenticate", `Basic realm="telemetry hub", charset="UTF-8"`)
}

// dialectOf returns what the body is written in. What small clients send without a thought, such as curl -d's
// form-urlencoded, goes to the decoder of JSON, which is strict.
func dialectOf(h http.Header) (wire.Dialect, *Problem) {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return wire.Dialect{}, newProblem(http.StatusUnsupportedMediaType, reasonMediaType, "Content-Encoding %s is not taken; send it uncompressed", clip(encoding))
	}
	given := h.Get("Content-Type")
	if given == "" {
		return wire.Dialect{}, nil
	}
	if dialect, ok := wire.DialectOfMediaType(given); ok {
		return dialect, nil
	}
	media, _, err := mime.ParseMediaType(given)
	if err == nil && (media == "text/plain" || media == "application/x-www-form-urlencoded" || strings.HasSuffix(media, "+json") && !strings.Contains(media, "/sen")) {
		return wire.Dialect{}, nil // not SenML's siblings (RFC 8428 section 12.3, RFC 8790), which are lists of other meaning
	}
	return wire.Dialect{}, newProblem(http.StatusUnsupportedMediaType, reasonMediaType, "Content-Type %s is not taken; send %s", clip(given), strings.Join(wire.MediaTypes(), ", "))
}

// readFrame reads a body that is as large as the device's frames may be.
func (s *Server) readFrame(x *exchange, p *devices.Profile, to *bytes.Buffer) *Problem {
	problem := s.readBody(x, p.Limits.MaxFrame, to)
	if problem != nil && problem.Reason == wire.ReasonTooLarge {
		s.deps.Throttle.Passed(devices.LimitMaxFrame, p, 1)
	}
	return problem
}

// readBody reads a body of at most limit bytes within BodyTimeout.
func (s *Server) readBody(x *exchange, limit int64, to *bytes.Buffer) *Problem {
	if n := x.request.ContentLength; n > limit {
		return newProblem(http.StatusRequestEntityTooLarge, wire.ReasonTooLarge, "a body of %d bytes is larger than the limit, %d", n, limit).over(limit, n)
	}
	// net/http takes the deadline away once the body has been read. Not every writer has deadlines.
	_ = x.control().SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout))
	to.Reset()
	n, err := to.ReadFrom(io.LimitReader(x.request.Body, limit+1))
	var timeout net.Error
	switch {
	case n > limit:
		return newProblem(http.StatusRequestEntityTooLarge, wire.ReasonTooLarge, "the body is larger than the limit, %d bytes", limit).over(limit, n)
	case errors.As(err, &timeout) && timeout.Timeout():
		return newProblem(http.StatusRequestTimeout, "body_timeout", "the body did not arrive within %v", s.cfg.BodyTimeout)
	case err != nil:
		return newProblem(http.StatusBadRequest, "body_incomplete", "the body did not arrive whole")
	}
	return nil
}
