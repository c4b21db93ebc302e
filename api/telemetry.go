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
			"or readings[] of {ts or age_ms, values{}}, or the values themselves. 204 says that it is durable.",
	}, s.postTelemetry)
	// Documented after it was registered: huma would read and parse a body that it knows of, and this one is wire's.
	s.api.OpenAPI().Paths[path].Post.RequestBody = &huma.RequestBody{
		Required: true,
		Content:  map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}}},
	}
}

func (s *Server) postTelemetry(ctx context.Context, in *DevicePath) (*struct{}, error) {
	x := exchangeOf(ctx)
	id, err := s.authenticateDevice(x.request, in.ID)
	if err != nil {
		return nil, err
	}
	if err := checkMediaType(x.request.Header); err != nil {
		s.deps.Ingest.Refuse(id, reasonMediaType)
		return nil, err
	}
	scratch, _ := s.decode.Get().(*telemetryScratch)
	defer func() {
		if scratch.body.Cap() <= 4*s.cfg.MaxFrame {
			s.decode.Put(scratch)
		}
	}()
	if err := s.readFrame(x, &scratch.body); err != nil {
		if err.Reason == wire.ReasonTooLarge {
			s.deps.Ingest.Refuse(id, err.Reason)
		}
		return nil, err
	}
	if err := scratch.decoder.DecodePayload(scratch.body.Bytes(), &scratch.telemetry); err != nil {
		reason := wire.ReasonBadFrame
		if known, ok := errors.AsType[*wire.Error](err); ok {
			reason = known.Reason
		}
		s.deps.Ingest.Refuse(id, reason)
		return nil, err
	}
	err = s.deps.Ingest.Commit(ctx, id, &scratch.telemetry)
	if unusable, ok := errors.AsType[*wire.Error](err); ok {
		s.deps.Ingest.Refuse(id, unusable.Reason)
		return nil, err
	}
	if err != nil {
		s.log.WarnContext(ctx, "posted telemetry not committed", "device", id, "error", err)
		return nil, newProblem(http.StatusServiceUnavailable, wire.ReasonStopping, "the readings are not durable; send them again").retryAfter(defaultRetry)
	}
	return nil, nil //nolint:nilnil // huma's way to say 204 without a body
}

// authenticateDevice returns the id of the device that the request's credentials belong to, which must be the path's.
func (s *Server) authenticateDevice(r *http.Request, id string) (string, error) {
	shown, ok := devices.CredentialsOf(r, false)
	if !ok {
		return "", deviceUnauthorized("no_credentials", "a device sends Authorization: Bearer TOKEN, or Basic DEVICE:TOKEN")
	}
	d, err := s.deps.Registry.Authenticate(shown.Device, shown.Token)
	switch {
	case errors.Is(err, devices.ErrCredentials), errors.Is(err, devices.ErrNotFound):
		return "", deviceUnauthorized("bad_credentials", "the device's credentials are wrong")
	case err != nil:
		return "", err
	case d.ID != id:
		return "", newProblem(http.StatusForbidden, "wrong_device", "the credentials are those of another device than %q", clip(id))
	}
	return d.ID, nil
}

func deviceUnauthorized(reason, detail string) *Problem {
	return unauthorized(reason, detail).with("WWW-Authenticate", `Basic realm="telemetry hub", charset="UTF-8"`)
}

// checkMediaType refuses what is surely not JSON. What small clients send without a thought, such as curl -d's
// form-urlencoded, is let through to the decoder, which is strict.
func checkMediaType(h http.Header) *Problem {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return newProblem(http.StatusUnsupportedMediaType, reasonMediaType, "Content-Encoding %s is not taken; send plain JSON", clip(encoding))
	}
	given := h.Get("Content-Type")
	if given == "" {
		return nil
	}
	media, _, err := mime.ParseMediaType(given)
	switch {
	case err != nil:
	case media == "application/senml+json": // a pack is an array, of other meaning
	case media == "application/json", media == "text/plain", media == "application/x-www-form-urlencoded", strings.HasSuffix(media, "+json"):
		return nil
	}
	return newProblem(http.StatusUnsupportedMediaType, reasonMediaType, "Content-Type %s is not taken; send application/json", clip(given))
}

// readFrame reads a body of at most MaxFrame bytes within BodyTimeout.
func (s *Server) readFrame(x *exchange, to *bytes.Buffer) *Problem {
	limit := int64(s.cfg.MaxFrame)
	if n := x.request.ContentLength; n > limit {
		return newProblem(http.StatusRequestEntityTooLarge, wire.ReasonTooLarge, "a frame of %d bytes is larger than max_frame, %d", n, limit).over(limit, n)
	}
	// net/http takes the deadline away once the body has been read. Not every writer has deadlines.
	_ = x.control().SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout))
	to.Reset()
	n, err := to.ReadFrom(io.LimitReader(x.request.Body, limit+1))
	var timeout net.Error
	switch {
	case n > limit:
		return newProblem(http.StatusRequestEntityTooLarge, wire.ReasonTooLarge, "a frame is larger than max_frame, %d bytes", limit).over(limit, n)
	case errors.As(err, &timeout) && timeout.Timeout():
		return newProblem(http.StatusRequestTimeout, "body_timeout", "the body did not arrive within %v", s.cfg.BodyTimeout)
	case err != nil:
		return newProblem(http.StatusBadRequest, "body_incomplete", "the body did not arrive whole")
	}
	return nil
}
