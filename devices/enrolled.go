package devices

import (
	"context"
	"errors"
	"net/http"
	"time"

	"telemetryhub/auth"
)

// ConfirmWithin is how long a device may take to confirm the credentials that an enrolment gave it. Until then the key
// gives it others, should it have lost them; its credentials are good all the same, also afterwards.
const ConfirmWithin = 24 * time.Hour

// IsEnrolmentKey reports whether what stands in the place of a token says of itself that it is an enrolment key.
func IsEnrolmentKey(secret string) bool { return auth.IsEnrolmentKey(secret) }

// Enrolled says by which enrolment key a device came.
type Enrolled struct {
	Key      string    `json:"key"`            // its id
	At       time.Time `json:"at"`             // when the key counted it
	Until    time.Time `json:"until,omitzero"` // its credentials are not confirmed, and until then the key gives it others
	Model    string    `json:"model,omitempty"`
	Firmware string    `json:"firmware,omitempty"` // both as it said then; a session knows better
}

// EnrolRequest is a device that shows an enrolment key in place of credentials.
type EnrolRequest struct {
	Key        string // the secret
	Device     string
	Type       string // what the device says it is; empty where it has not said
	Model      string
	Firmware   string
	Attributes map[string]string
	CSR        []byte // a certificate signing request in PEM or DER; nil: none
	Transport  string
	Remote     string
}

// Enrolment is what a device gets for an enrolment key.
type Enrolment struct {
	Device      Device
	Token       string
	Proof       Proof                   // of the token
	Certificate *auth.IssuedCertificate // if one was asked for
}

// EnrolmentOf is the outcome for a device that was given a token.
func EnrolmentOf(d Device, token string) Enrolment {
	t := d.Tokens[len(d.Tokens)-1]
	return Enrolment{Device: d, Token: token, Proof: Proof{Kind: ProofToken, ID: t.ID, Expires: t.Expires}}
}

// EnrolError says why a device does not get credentials.
type EnrolError struct {
	Status     int // of HTTP
	Reason     string
	Message    string
	RetryAfter time.Duration // 0: trying again is of no use by itself
}

// Error says the reason and the message.
func (e *EnrolError) Error() string { return e.Reason + ": " + e.Message }

// Temporary reports whether the hub, and not the request, is at fault.
func (e *EnrolError) Temporary() bool {
	return e.Status == http.StatusTooManyRequests || e.Status >= http.StatusInternalServerError
}

// Enroller gives devices credentials for an enrolment key. Its error is an *EnrolError.
type Enroller interface {
	// Knows reports whether there is such a key, whether or not it is of use.
	Knows(key string) bool
	Enrol(ctx context.Context, r EnrolRequest) (Enrolment, error)
}

// Unconfirmed reports whether the device has credentials of an enrolment that it has neither confirmed nor used.
func (d Device) Unconfirmed() bool { return d.Enrolled != nil && !d.Enrolled.Until.IsZero() }

// Validate says which member breaks a limit of the registry. Errors: *InvalidError.
func (d Device) Validate() error { return d.validate() }

// CreateEnrolled adds a device that enrolled itself, as Create does; d.Enrolled says by which key.
func (r *Registry) CreateEnrolled(ctx context.Context, d Device) (Device, string, error) {
	return r.Create(ctx, d)
}

// CertificateOf is a certificate as the device's record has it.
func CertificateOf(made auth.IssuedCertificate) Certificate {
	return Certificate{ID: made.ID(), Fingerprint: made.Fingerprint, Serial: made.Serial, Created: time.Now().UTC().Truncate(time.Millisecond), Expires: made.NotAfter}
}

// EnrolAgain gives a device a token in place of all its credentials, if check allows it, which may change the record,
// such as by a certificate, and be called again. Errors: ErrNotFound, check's own.
func (r *Registry) EnrolAgain(ctx context.Context, id string, check func(*Device) error) (Device, string, error) {
	token, hash, err := auth.NewToken(auth.DevicePrefix)
	if err != nil {
		return Device{}, "", err
	}
	d, err := r.update(ctx, id, func(d *Device) error {
		d.Certificates = nil
		if err := check(d); err != nil {
			return err
		}
		now := time.Now().UTC().Truncate(time.Millisecond)
		d.Tokens = []Token{newToken(hash, now, r.tokens.expiry(now))}
		return d.validate()
	})
	return d, token, err
}

// errConfirmed says that there is nothing to confirm.
var errConfirmed = errors.New("the credentials are confirmed")

// Confirm notes that the device has the credentials that an enrolment gave it: from then on the key gives it no others.
// Errors: ErrNotFound, and ErrRevoked where p is of credentials that it has no more.
func (r *Registry) Confirm(ctx context.Context, device string, p Proof) error {
	_, err := r.update(ctx, device, func(d *Device) error {
		if _, has := d.token(p.ID); p.Kind == ProofToken && !has || p.Kind == ProofCertificate && p.certificate.current(*d) != nil {
			return ErrRevoked
		}
		if !d.Unconfirmed() {
			return errConfirmed
		}
		confirmed := *d.Enrolled // the record's own is read by others
		confirmed.Until = time.Time{}
		d.Enrolled = &confirmed
		return nil
	})
	if errors.Is(err, errConfirmed) {
		return nil
	}
	return err
}

// confirmWait bounds how long a device waits for its first use of its credentials to be written.
const confirmWait = 5 * time.Second

// confirmUse confirms the credentials that a device uses. Where that cannot be written now, the next use does it.
func (r *Registry) confirmUse(device string, p Proof) error {
	ctx, cancel := context.WithTimeout(context.Background(), confirmWait)
	defer cancel()
	if err := r.Confirm(ctx, device, p); errors.Is(err, ErrRevoked) || errors.Is(err, ErrNotFound) {
		return ErrCredentials // of just now
	}
	return nil
}
