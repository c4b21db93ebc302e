package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/devices"
	"telemetryhub/devices/enrolment"
)

// fakeEnrolment knows one key, d1, whose secret is enr_good.
type fakeEnrolment struct{ *fakeHub }

func (f fakeEnrolment) key() enrolment.View {
	return enrolment.View{Key: enrolment.Key{
		ID: "d1", Terms: enrolment.Terms{Name: "batch", Limit: 3}, Enabled: true, Used: 1, Actor: "ada", Created: time.UnixMilli(0).UTC(),
	}, Left: 2, Refused: map[string]uint64{"wrong_type": 4}}
}

func (f fakeEnrolment) List() []enrolment.View { return []enrolment.View{f.key()} }

func (f fakeEnrolment) Get(id string) (enrolment.View, error) {
	if id != "d1" {
		return enrolment.View{}, enrolment.ErrNotFound
	}
	return f.key(), nil
}

func (f fakeEnrolment) said(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.enrolment = append(f.enrolment, fmt.Sprintf(format, args...))
}

func (f fakeEnrolment) Add(_ context.Context, t enrolment.Terms, actor string) (enrolment.View, string, error) {
	if t.Pattern == "[" {
		return enrolment.View{}, "", &devices.InvalidError{Field: "pattern", Message: "is no pattern"}
	}
	f.said("add %+v by %s", t, actor)
	return f.key(), "enr_new", nil
}

func (f fakeEnrolment) Change(_ context.Context, id string, c enrolment.Change) (enrolment.View, error) {
	if c.Expires != nil {
		f.said("change %s until %v", id, *c.Expires)
	}
	if c.Enabled != nil {
		f.said("change %s enabled %v", id, *c.Enabled)
	}
	return f.Get(id)
}

func (f fakeEnrolment) Remove(_ context.Context, id string) (enrolment.View, error) {
	f.said("remove %s", id)
	return f.Get(id)
}

func (f fakeEnrolment) Knows(key string) bool { return key == "enr_good" }

func (f fakeEnrolment) Enrol(_ context.Context, r devices.EnrolRequest) (devices.Enrolment, error) {
	switch {
	case r.Key != "enr_good":
		return devices.Enrolment{}, &devices.EnrolError{Status: 401, Reason: "bad_credentials", Message: "the enrolment key is not valid"}
	case r.Device == "d1":
		return devices.Enrolment{}, &devices.EnrolError{Status: 409, Reason: "device_exists", Message: "a device with this id exists"}
	case r.Device == "d7":
		return devices.Enrolment{}, &devices.EnrolError{Status: 429, Reason: "too_many_refusals", Message: "later", RetryAfter: time.Minute}
	}
	f.said("enrol %s %s %s %s %v over %s", r.Device, r.Type, r.Model, r.Firmware, r.Attributes, r.Transport)
	d := devices.Device{ID: r.Device, Type: r.Type}
	return devices.Enrolment{Device: d, Token: "dev_new", Proof: devices.Proof{Expires: time.UnixMilli(1000).UTC()}}, nil
}

func TestEnrolmentKeysAreMadeShownAndChanged(t *testing.T) {
	b := newBench(t, api.Config{})
	const path = "/api/v1/enrolment-keys"
	a := b.ask("POST", path, "op_admin", `{"name":"batch","limit":3,"type":"climate","tags":["hall"],"pattern":"node-*","expires":"2030-01-01T00:00:00Z","again":true}`).want(201)
	if made := a.json(); made["secret"] != "enr_new" || made["id"] != "d1" || a.header.Get("Location") != path+"/d1" {
		t.Errorf("made %v, at %s", made, a.header.Get("Location"))
	}
	b.ask("POST", path, "op_admin", `{"name":"batch"}`).wantProblem(422, "invalid")
	b.ask("POST", path, "op_admin", `{"name":"batch","limit":0}`).wantProblem(422, "invalid")
	b.ask("POST", path, "op_admin", `{"name":"batch","limit":1,"pattern":"["}`).wantProblem(422, "invalid")
	for _, get := range []string{path, path + "/d1"} {
		if a := b.ask("GET", get, "op_admin", "").want(200); strings.Contains(string(a.body), "enr_") || strings.Contains(string(a.body), "hash") || !strings.Contains(string(a.body), `"wrong_type":4`) {
			t.Errorf("%s shows %s", get, a.body)
		}
	}
	b.ask("GET", path+"/d2", "op_admin", "").wantProblem(404, "enrolment_key_not_found")
	b.ask("PATCH", path+"/d1", "op_admin", `{"enabled":false}`).want(200)
	b.ask("PATCH", path+"/d1", "op_admin", `{"expires":"never"}`).want(200)
	b.ask("PATCH", path+"/d1", "op_admin", `{"expires":"tomorrow"}`).wantProblem(422, "invalid")
	b.ask("DELETE", path+"/d1", "op_admin", "").want(200)
	want := []string{
		"add {Name:batch Limit:3 Expires:2030-01-01 00:00:00 +0000 UTC Type:climate Tags:[hall] Pattern:node-* Again:true} by ada",
		"change d1 enabled false", "change d1 until 0001-01-01 00:00:00 +0000 UTC", "remove d1",
	}
	if got := strings.Join(b.enrolment, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the keys were told\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	acts := strings.Join(b.recorded(), "\n")
	for _, act := range []string{"ada admin enrolment-key.create accepted", "ada admin enrolment-key.update d1 accepted", "ada admin enrolment-key.delete d1 accepted"} {
		if !strings.Contains(acts, act) {
			t.Errorf("no act %q in\n%s", act, acts)
		}
	}
	if text := fmt.Sprint(b.acts); strings.Contains(text, "enr_") {
		t.Errorf("a key is in the audit log: %s", text)
	}
}

func TestPostEnrol(t *testing.T) {
	b := newBench(t, api.Config{})
	const path, body = "/api/v1/enrol", `{"id":"d9","type":"climate","model":"c2","firmware":"1.4","attributes":{"room":"A"}}`
	made := b.ask("POST", path, "enr_good", body).want(201).json()
	if made["id"] != "d9" || made["token"] != "dev_new" || made["ca"] == "" || made["expires"] != "1970-01-01T00:00:01Z" {
		t.Errorf("answered %v", made)
	}
	if got := strings.Join(b.enrolment, "\n"); got != "enrol d9 climate c2 1.4 map[room:A] over http" {
		t.Errorf("the keys were told %s", got)
	}
	if a := b.ask("POST", path, "enr_bad", body).want(401); a.problem().Reason != "bad_credentials" || a.header.Get("WWW-Authenticate") == "" {
		t.Errorf("a wrong key: %s", a.body)
	}
	b.ask("POST", path, "", body).wantProblem(401, "no_credentials")
	b.ask("POST", path+"?token=enr_good", "", body).wantProblem(422, "invalid") // never in the URL over HTTP
	b.ask("POST", path, "enr_good", `{"id":"d1"}`).wantProblem(409, "device_exists")
	b.ask("POST", path, "enr_good", `{}`).wantProblem(422, "invalid")
	if a := b.ask("POST", path, "enr_good", `{"id":"d7"}`).want(429); a.header.Get("Retry-After") != "60" {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	if len(b.acts) != 0 {
		t.Errorf("the API has told the audit log itself: %q", b.recorded())
	}
}

// TestAnEnrolmentKeyIsNoCredential tries a key wherever a token is taken.
func TestAnEnrolmentKeyIsNoCredential(t *testing.T) {
	for _, op := range newBench(t, api.Config{}).operations() {
		if op.Role == "open" || op.Role == "enrolment key" {
			continue
		}
		b := newBench(t, api.Config{})
		body := ""
		if op.method != http.MethodGet {
			body = "{}"
		}
		b.ask(op.method, op.request(), "enr_good", body).want(401)
	}
}
