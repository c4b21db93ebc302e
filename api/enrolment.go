package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/devices"
	"telemetryhub/devices/enrolment"
)

// Enrolment is the enrolment keys; enrolment.Keys is it.
type Enrolment interface {
	devices.Enroller
	List() []enrolment.View
	Get(id string) (enrolment.View, error)
	Add(ctx context.Context, t enrolment.Terms, actor string) (key enrolment.View, secret string, err error)
	Change(ctx context.Context, id string, c enrolment.Change) (enrolment.View, error)
	Remove(ctx context.Context, id string) (enrolment.View, error)
}

// EnrolmentKey is a key as operators see it, without its secret.
type EnrolmentKey struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	State    string            `json:"state" enum:"active,disabled,expired,exhausted"`
	Enabled  bool              `json:"enabled"`
	Limit    int               `json:"limit" doc:"Devices that it is for, in all"`
	Used     int               `json:"used" doc:"Devices that it has enrolled, also those that were deleted since"`
	Left     int               `json:"left"`
	Expires  time.Time         `json:"expires,omitzero" doc:"It is of no use from then on; absent: never"`
	Type     string            `json:"type,omitempty" doc:"Of the devices that it enrols; absent: what each says"`
	Tags     []string          `json:"tags" nullable:"false" doc:"Given to the devices"`
	Pattern  string            `json:"pattern,omitempty" doc:"Of the devices' ids: * is any text, ? one character; absent: any id"`
	Again    bool              `json:"again" doc:"A device that it enrolled may enrol again at any time, as after a factory reset"`
	Created  time.Time         `json:"created"`
	Actor    string            `json:"actor" doc:"Who made it"`
	LastUsed time.Time         `json:"last_used,omitzero"`
	Refused  map[string]uint64 `json:"refused" doc:"Requests that were refused, by reason, since the hub was started"`
}

func viewKey(v enrolment.View) EnrolmentKey {
	k := EnrolmentKey{
		ID: v.ID, Name: v.Name, State: v.State(), Enabled: v.Enabled, Limit: v.Limit, Used: v.Used, Left: v.Left, Expires: v.Expires,
		Type: v.Type, Tags: v.Tags, Pattern: v.Pattern, Again: v.Again, Created: v.Created, Actor: v.Actor, LastUsed: v.LastUsed,
		Refused: v.Refused,
	}
	if k.Tags == nil {
		k.Tags = []string{}
	}
	return k
}

// EnrolledView says by which enrolment key a device came.
type EnrolledView struct {
	Key       string    `json:"key" doc:"Its id"`
	At        time.Time `json:"at"`
	Confirmed bool      `json:"confirmed" doc:"The device has used its own credentials, or has said that it has them"`
}

func viewEnrolled(d devices.Device) *EnrolledView {
	if d.Enrolled == nil {
		return nil
	}
	return &EnrolledView{Key: d.Enrolled.Key, At: d.Enrolled.At, Confirmed: !d.Unconfirmed()}
}

// EnrolmentKeyPath is the part of a path that names a key.
type EnrolmentKeyPath struct {
	ID string `path:"id" maxLength:"64" doc:"The key's id"`
}

type enrolmentKeyOutput struct{ Body EnrolmentKey }

type listEnrolmentKeysOutput struct {
	Body struct {
		Keys []EnrolmentKey `json:"keys" nullable:"false" doc:"The oldest first"`
	}
}

type createEnrolmentKeyInput struct {
	Body struct {
		Name    string     `json:"name" minLength:"1" maxLength:"128" doc:"For people"`
		Limit   int        `json:"limit" minimum:"1" maximum:"1000000" doc:"Devices that it is for, in all"`
		Expires *time.Time `json:"expires,omitempty" doc:"It is of no use from then on"`
		Type    string     `json:"type,omitempty" maxLength:"128" doc:"Of its devices; one that says it is of another type is refused"`
		Tags    []string   `json:"tags,omitempty" nullable:"false" maxItems:"64" doc:"Given to its devices"`
		Pattern string     `json:"pattern,omitempty" maxLength:"128" doc:"Of its devices' ids, as a whole: * is any text, ? one character"`
		Again   bool       `json:"again,omitempty" doc:"A device that it enrolled may enrol again at any time, as after a factory reset. Whoever has the key can then take the place of any of its devices"`
	}
}

type createEnrolmentKeyOutput struct {
	Location string `header:"Location"`
	Body     struct {
		Secret string `json:"secret" doc:"The key itself, for the firmware. Shown this once; the hub keeps only its hash"`
		EnrolmentKey
	}
}

type updateEnrolmentKeyInput struct {
	EnrolmentKeyPath
	Body struct {
		Name    *string `json:"name,omitempty" minLength:"1" maxLength:"128"`
		Enabled *bool   `json:"enabled,omitempty"`
		Limit   *int    `json:"limit,omitempty" minimum:"1" maximum:"1000000" doc:"Not below used"`
		Expires *string `json:"expires,omitempty" maxLength:"64" doc:"RFC 3339, or never"`
		Again   *bool   `json:"again,omitempty"`
	}
}

type deleteEnrolmentKeyOutput struct {
	Body struct {
		ID      string `json:"id"`
		Devices string `json:"devices" doc:"What becomes of the devices that it enrolled"`
	}
}

func (s *Server) registerEnrolment() {
	tags, path := []string{"enrolment"}, "/api/v1/enrolment-keys"
	register(s, admin, huma.Operation{
		OperationID: "list-enrolment-keys", Method: http.MethodGet, Path: path, Tags: tags, Summary: "List enrolment keys",
	}, func(context.Context, *struct{}) (*listEnrolmentKeysOutput, error) {
		out := &listEnrolmentKeysOutput{}
		out.Body.Keys = []EnrolmentKey{}
		for _, v := range s.deps.Enrolment.List() {
			out.Body.Keys = append(out.Body.Keys, viewKey(v))
		}
		return out, nil
	})
	register(s, admin, huma.Operation{
		OperationID: "get-enrolment-key", Method: http.MethodGet, Path: path + "/{id}", Tags: tags, Summary: "One enrolment key",
	}, func(_ context.Context, in *EnrolmentKeyPath) (*enrolmentKeyOutput, error) {
		v, err := s.deps.Enrolment.Get(in.ID)
		return &enrolmentKeyOutput{viewKey(v)}, err
	})
	register(s, admin, huma.Operation{
		OperationID: "create-enrolment-key", Method: http.MethodPost, Path: path, Tags: tags, DefaultStatus: http.StatusCreated,
		Summary:     "Make an enrolment key",
		Description: "Firmware carries it; a device that the registry does not know gets credentials of its own for it when it first connects (or by POST /api/v1/enrol). The secret is shown this once.",
	}, s.createEnrolmentKey)
	register(s, admin, huma.Operation{
		OperationID: "update-enrolment-key", Method: http.MethodPatch, Path: path + "/{id}", Tags: tags, Summary: "Change an enrolment key",
		Description: "Disable it, extend it, rename it. Members that are left out stay. What it gives its devices does not change: make another.",
	}, s.updateEnrolmentKey)
	register(s, admin, huma.Operation{
		OperationID: "delete-enrolment-key", Method: http.MethodDelete, Path: path + "/{id}", Tags: tags, Summary: "Remove an enrolment key",
		Description: "The devices that it enrolled stay, with their credentials.",
	}, s.deleteEnrolmentKey)
	register(s, enrolling, huma.Operation{
		OperationID: "enrol", Method: http.MethodPost, Path: "/api/v1/enrol", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary: "A device gets credentials for its enrolment key",
		Description: "With Authorization: Bearer KEY. A device that lost the answer asks again: until it has used its token, and for a day at most, it gets another, and the one before is void. " +
			"Problems: 401 bad_credentials; 403 key_disabled, key_expired, key_exhausted, wrong_type, id_not_allowed, device_disabled; 409 device_exists, already_enrolled; 422 invalid, bad_csr; 429 too_many_refusals; 503 unavailable.",
	}, s.enrol)
}

func (s *Server) createEnrolmentKey(ctx context.Context, in *createEnrolmentKeyInput) (*createEnrolmentKeyOutput, error) {
	b := in.Body
	t := enrolment.Terms{Name: b.Name, Limit: b.Limit, Type: b.Type, Tags: b.Tags, Pattern: b.Pattern, Again: b.Again}
	if b.Expires != nil {
		t.Expires = b.Expires.UTC()
	}
	note(ctx, "terms", t)
	v, secret, err := s.deps.Enrolment.Add(ctx, t, exchangeOf(ctx).operator.Name)
	if err != nil {
		return nil, err
	}
	note(ctx, "key", v.ID)
	out := &createEnrolmentKeyOutput{Location: "/api/v1/enrolment-keys/" + v.ID}
	out.Body.Secret, out.Body.EnrolmentKey = secret, viewKey(v)
	return out, nil
}

func (s *Server) updateEnrolmentKey(ctx context.Context, in *updateEnrolmentKeyInput) (*enrolmentKeyOutput, error) {
	b := in.Body
	note(ctx, "change", b)
	c := enrolment.Change{Name: b.Name, Enabled: b.Enabled, Limit: b.Limit, Again: b.Again}
	if b.Expires != nil {
		var at time.Time
		if *b.Expires != "never" {
			var err error
			if at, err = time.Parse(time.RFC3339, *b.Expires); err != nil {
				return nil, newProblem(http.StatusUnprocessableEntity, "invalid", "expires: neither a time as RFC 3339 writes it nor never").at("body.expires", clip(*b.Expires))
			}
		}
		at = at.UTC()
		c.Expires = &at
	}
	v, err := s.deps.Enrolment.Change(ctx, in.ID, c)
	return &enrolmentKeyOutput{viewKey(v)}, err
}

func (s *Server) deleteEnrolmentKey(ctx context.Context, in *EnrolmentKeyPath) (*deleteEnrolmentKeyOutput, error) {
	v, err := s.deps.Enrolment.Remove(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	note(ctx, "name", v.Name)
	note(ctx, "used", v.Used)
	out := &deleteEnrolmentKeyOutput{}
	out.Body.ID = v.ID
	out.Body.Devices = fmt.Sprintf("The %d devices that it enrolled stay, with their own credentials.", v.Used)
	return out, nil
}

type enrolInput struct {
	Body struct {
		ID         string            `json:"id" minLength:"1" maxLength:"64" doc:"1 to 64 of A-Z a-z 0-9 . _ : -"`
		Type       string            `json:"type,omitempty" maxLength:"128"`
		Model      string            `json:"model,omitempty" maxLength:"256"`
		Firmware   string            `json:"firmware,omitempty" maxLength:"256"`
		Attributes map[string]string `json:"attributes,omitempty"`
		CSR        string            `json:"csr,omitempty" maxLength:"16384" doc:"A certificate signing request (PKCS #10) in PEM, for the device's own key; the names in it do not count"`
	}
}

type enrolOutput struct {
	Location string `header:"Location"`
	Body     struct {
		ID      string    `json:"id"`
		Token   string    `json:"token" doc:"Keep it: the key is of no use any more once it was used"`
		Expires time.Time `json:"expires,omitzero" doc:"End of the token; absent: none"`
		Type    string    `json:"type,omitempty"`
		CA      string    `json:"ca,omitempty" doc:"Certificate of the hub's local CA, in PEM"`

		Certificate        string    `json:"certificate,omitempty" doc:"For the key of csr, in PEM: the device may show it in the TLS handshake in place of the token"`
		CertificateExpires time.Time `json:"certificate_expires,omitzero"`
	}
}

// enrol gives a device credentials of its own. The key's holder is no operator: enrolment.Keys has its own words in the
// audit log for it.
func (s *Server) enrol(ctx context.Context, in *enrolInput) (*enrolOutput, error) {
	x := exchangeOf(ctx)
	shown, ok := devices.CredentialsOf(x.request, false)
	if !ok {
		return nil, unauthorized("no_credentials", "send the enrolment key: Authorization: Bearer KEY")
	}
	b := in.Body
	if shown.Device != "" && shown.Device != b.ID {
		return nil, newProblem(http.StatusForbidden, "wrong_device", "the body names another device than the credentials")
	}
	made, err := s.deps.Enrolment.Enrol(ctx, devices.EnrolRequest{
		Key: shown.Token, Device: b.ID, Type: b.Type, Model: b.Model, Firmware: b.Firmware, Attributes: maps.Clone(b.Attributes), CSR: []byte(b.CSR),
		Transport: "http", Remote: x.request.RemoteAddr,
	})
	if err != nil {
		return nil, err
	}
	out := &enrolOutput{Location: "/api/v1/devices/" + made.Device.ID}
	out.Body.ID, out.Body.Token, out.Body.Expires = made.Device.ID, made.Token, made.Proof.Expires
	out.Body.Type, out.Body.CA = made.Device.Type, string(s.deps.CAPEM)
	if made.Certificate != nil {
		out.Body.Certificate, out.Body.CertificateExpires = string(made.Certificate.PEM), made.Certificate.NotAfter
	}
	return out, nil
}

// enrolmentProblem turns a refusal of the enrolment keys into its HTTP form; nil: it is none.
func enrolmentProblem(err error) *Problem {
	var refused *devices.EnrolError
	switch {
	case errors.Is(err, enrolment.ErrNotFound):
		return newProblem(http.StatusNotFound, "enrolment_key_not_found", "no enrolment key has this id")
	case errors.Is(err, enrolment.ErrTooMany):
		return newProblem(http.StatusConflict, "too_many_keys", "%v", err).over(enrolment.MaxKeys, enrolment.MaxKeys)
	case !errors.As(err, &refused):
		return nil
	case refused.Status == http.StatusUnauthorized:
		return unauthorized(refused.Reason, refused.Message)
	}
	p := newProblem(refused.Status, refused.Reason, "%s", refused.Message)
	if refused.RetryAfter > 0 {
		p = p.retryAfter(refused.RetryAfter)
	}
	return p
}
