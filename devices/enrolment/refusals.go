package enrolment

import (
	"fmt"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"telemetryhub/devices"
)

// Reasons of refused enrolments.
const (
	reasonUnknownKey = "bad_credentials" // as for any token that is none
	reasonDisabled   = "key_disabled"
	reasonExpired    = "key_expired"
	reasonExhausted  = "key_exhausted"
	reasonType       = "wrong_type"
	reasonID         = "id_not_allowed"
	reasonInvalid    = "invalid"
	reasonCSR        = "bad_csr"
	reasonExists     = "device_exists"
	reasonEnrolled   = "already_enrolled"
	reasonDevice     = "device_disabled"
	reasonTooMany    = "too_many_refusals"
	reasonStore      = "unavailable"
)

// Rates of refusals that are told as what they are, and put into the audit log: of one key, and of all requests.
const (
	keyRefusals     = 30 // at once
	keyRefusalEvery = 2 * time.Second
	allRefusals     = 200
	allRefusalEvery = 100 * time.Millisecond
)

// refusalRate is one of them.
type refusalRate struct{ limit *rate.Limiter }

func newRefusalRate(burst int, every time.Duration) refusalRate {
	return refusalRate{rate.NewLimiter(rate.Every(every), burst)}
}

func (r refusalRate) allow(now time.Time) bool { return r.limit.AllowN(now, 1) }

func refusal(reason, format string, args ...any) *devices.EnrolError {
	e := &devices.EnrolError{Status: http.StatusForbidden, Reason: reason, Message: fmt.Sprintf(format, args...)}
	switch reason {
	case reasonUnknownKey:
		e.Status = http.StatusUnauthorized
	case reasonExists, reasonEnrolled:
		e.Status = http.StatusConflict
	case reasonInvalid, reasonCSR:
		e.Status = http.StatusUnprocessableEntity
	}
	return e
}

func unavailable(format string, args ...any) *devices.EnrolError {
	return &devices.EnrolError{
		Status: http.StatusServiceUnavailable, Reason: reasonStore, Message: fmt.Sprintf(format, args...), RetryAfter: retryUnavailable,
	}
}

// When to come again.
const (
	retryUnavailable = 5 * time.Second
	retryTooMany     = time.Minute
)

// masked is what is told instead of the reason while there are too many refusals.
func masked() *devices.EnrolError {
	return &devices.EnrolError{
		Status: http.StatusTooManyRequests, Reason: reasonTooMany, Message: "too many enrolments were refused; try again later", RetryAfter: retryTooMany,
	}
}
