package commands

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"telemetryhub/wire"
)

// validate makes the command that a request asks for, or says what is wrong with it.
func (s *Service) validate(r Request) (*Command, error) {
	if err := wire.CheckDeviceID(r.Device); err != nil {
		return nil, &InvalidError{Field: "device", Message: err.Error()}
	}
	if err := CheckMethod(r.Method); err != nil {
		return nil, err
	}
	params, err := s.checkParams(r.Params)
	if err != nil {
		return nil, err
	}
	r.Params = params
	masked, err := s.onTerms(&r)
	if err != nil {
		return nil, err
	}
	switch r.Delivery {
	case "":
		r.Delivery = AtMostOnce
	case AtMostOnce, AtLeastOnce:
	default:
		return nil, &InvalidError{Field: "delivery", Message: fmt.Sprintf("%q is neither %s nor %s", r.Delivery, AtMostOnce, AtLeastOnce)}
	}
	if err := errors.Join(s.checkDuration("expires", r.Expires), s.checkDuration("timeout", r.Timeout)); err != nil {
		return nil, err
	}
	if len(r.IdempotencyKey) > MaxKey || !utf8.ValidString(r.IdempotencyKey) {
		return nil, &InvalidError{
			Field: "idempotency_key", Message: fmt.Sprintf("it is a text of at most %d bytes", MaxKey),
			Limit: MaxKey, Value: int64(len(r.IdempotencyKey)),
		}
	}
	return &Command{
		Device: r.Device, Method: r.Method, Params: r.Params, Masked: masked, Delivery: r.Delivery, Actor: r.Actor, Role: r.Role, Origin: r.Origin,
		TimeoutMs: firstOf(r.Timeout, s.cfg.Timeout).Milliseconds(), IdempotencyKey: r.IdempotencyKey, RetryOf: r.RetryOf,
	}, nil
}

// CheckMethod returns what is wrong with the name of a method, or nil.
func CheckMethod(method string) *InvalidError {
	invalid := func(message string) *InvalidError { return &InvalidError{Field: "method", Message: message} }
	switch {
	case method == "":
		return invalid("it is empty")
	case len(method) > MaxMethod:
		return &InvalidError{
			Field: "method", Message: fmt.Sprintf("it has %d bytes; at most %d are taken", len(method), MaxMethod),
			Limit: MaxMethod, Value: int64(len(method)),
		}
	case !utf8.ValidString(method) || strings.ContainsFunc(method, func(r rune) bool { return !unicode.IsPrint(r) }):
		return invalid("it has characters that cannot be printed")
	case strings.HasPrefix(method, "hub."):
		return invalid("names that begin with hub. are the hub's own")
	}
	return nil
}

// checkParams returns the params without blanks between their parts.
func (s *Service) checkParams(params json.RawMessage) (json.RawMessage, error) {
	if len(params) == 0 {
		return nil, nil
	}
	if len(params) > s.cfg.MaxParams {
		return nil, &InvalidError{
			Field: "params", Message: fmt.Sprintf("they have %d bytes; at most %d are taken", len(params), s.cfg.MaxParams),
			Limit: int64(s.cfg.MaxParams), Value: int64(len(params)),
		}
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, params); err != nil {
		return nil, &InvalidError{Field: "params", Message: "they are not JSON: " + err.Error()}
	}
	text := compact.Bytes()
	if text[0] != '{' && text[0] != '[' {
		return nil, &InvalidError{Field: "params", Message: "they are a JSON object or array"}
	}
	if !utf8.Valid(text) {
		return nil, &InvalidError{Field: "params", Message: "they are not UTF-8"}
	}
	return text, nil
}

func (s *Service) checkDuration(field string, d time.Duration) error {
	if d == 0 || (d >= time.Millisecond && d <= s.cfg.Keep) {
		return nil
	}
	return &InvalidError{Field: field, Message: fmt.Sprintf("%v is not between 1ms and %v", d, s.cfg.Keep)}
}

func firstOf(asked, configured time.Duration) time.Duration {
	if asked > 0 {
		return asked
	}
	return configured
}
