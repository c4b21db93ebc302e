package api_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// fakeProofs are devices' credentials: each device has c1.
type fakeProofs struct{ *fakeHub }

func (f fakeProofs) List(device string) ([]devices.Credential, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.devices[device]; !ok {
		return nil, devices.ErrNotFound
	}
	return []devices.Credential{{Kind: devices.ProofToken, ID: "c1", State: "valid", Created: time.Unix(1, 0).UTC(), InUse: device == "d1"}}, nil
}

func (f fakeProofs) Revoke(_ context.Context, device, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if id != "c1" {
		return devices.ErrNoCredential
	}
	f.left = append(f.left, device+" revoked "+id)
	return nil
}

func (f fakeProofs) Rotate(_ context.Context, device string) (devices.Token, devices.RotationOutcome, string, error) {
	if device == "d2" {
		return devices.Token{}, "", "", devices.ErrOffline
	}
	return devices.Token{ID: "c2"}, devices.Unanswered, "no answer", nil
}

func (f fakeProofs) Renew(_ context.Context, _ string, p devices.Proof, params []byte) ([]byte, error) {
	if string(params) == `{"csr":"x"}` {
		return nil, &wire.Error{Code: wire.CodeCredentials, Reason: "no_certificates", Message: "none"}
	}
	return []byte(`{"token":"dev_for_` + string(p.Kind) + `"}`), nil
}

func (f fakeProofs) Used(device string, _ devices.Proof) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = append(f.left, device+" used")
}

func TestNewTokenTimes(t *testing.T) {
	b := newBench(t, api.Config{})
	for _, c := range []struct{ query, body, want string }{
		{"", "", "d1 token keep=0s life=0s"},
		{"?keep=24h&expires_in=90d", "", "d1 token keep=24h0m0s life=2160h0m0s"},
		{"", `{"keep":"1h"}`, "d1 token keep=1h0m0s life=0s"},
		{"", `{"expires_in":"2w"}`, "d1 token keep=0s life=336h0m0s"},
	} {
		v := b.ask("POST", "/api/v1/devices/d1/token"+c.query, "op_admin", c.body).want(200).json()
		if v["id"] != "d1" || v["token"] != "dev_renewed" || v["credential"] != "c2" {
			t.Errorf("%+v: %v", c, v)
		}
		if got := b.said(&b.left); got[len(got)-1] != c.want {
			t.Errorf("%+v: %q", c, got[len(got)-1])
		}
	}
	b.ask("POST", "/api/v1/devices/d1/token?keep=-1h", "op_admin", "").wantProblem(422, "bad_parameter")
	b.ask("POST", "/api/v1/devices/d1/token", "op_admin", `{"expires_in":"soon"}`).wantProblem(422, "bad_parameter")
	b.ask("POST", "/api/v1/devices/d1/token", "op_admin", `{"kep":"1h"}`).wantProblem(422, "invalid")
	b.ask("POST", "/api/v1/devices/d1/token", "op_operator", "").wantProblem(403, "role")
}

func TestCredentials(t *testing.T) {
	b := newBench(t, api.Config{})
	v := b.ask("GET", "/api/v1/devices/d1/credentials", "op_viewer", "").want(200).json()
	all, _ := v["credentials"].([]any)
	if one, _ := all[0].(map[string]any); len(all) != 1 || one["id"] != "c1" || one["kind"] != "token" || one["state"] != "valid" || !yes(one["in_use"]) {
		t.Errorf("listed %v", v)
	}
	b.ask("GET", "/api/v1/devices/none/credentials", "op_operator", "").wantProblem(404, "device_not_found")
	if v := b.ask("DELETE", "/api/v1/devices/d1/credentials/c1", "op_admin", "").want(200).json(); v["credential"] != "c1" || !yes(v["was_in_use"]) {
		t.Errorf("revoked %v", v)
	}
	b.ask("DELETE", "/api/v1/devices/d1/credentials/c9", "op_admin", "").wantProblem(404, "credential_not_found")
	if v := b.ask("POST", "/api/v1/devices/d1/credentials/rotate", "op_admin", "").want(200).json(); v["outcome"] != "unanswered" || v["message"] != "no answer" || v["credential"] != "c2" {
		t.Errorf("rotated %v", v)
	}
	b.ask("POST", "/api/v1/devices/d2/credentials/rotate", "op_admin", "").wantProblem(409, "device_offline")
	b.ask("POST", "/api/v1/devices/none/credentials/rotate", "op_admin", "").wantProblem(404, "device_not_found")
	if got := b.said(&b.left); !slices.Equal(got, []string{"d1 revoked c1"}) {
		t.Errorf("done %v", got)
	}
	want := []string{
		"ada admin device.revoke d1 accepted", "ada admin device.revoke d1 refused credential_not_found",
		"ada admin device.rotate d1 accepted", "ada admin device.rotate d2 refused device_offline", "ada admin device.rotate none refused device_not_found",
	}
	if acts := b.recorded(); !slices.Equal(acts, want) {
		t.Errorf("the audit log has %v, want %v", acts, want)
	}
}

func TestADeviceRenewsByHTTP(t *testing.T) {
	b := newBench(t, api.Config{})
	const path = "/api/v1/devices/d1/credentials"
	a := b.ask("POST", path, "dev_1", "").want(200)
	if v := a.json(); v["token"] != "dev_for_token" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("given %v", v)
	}
	b.ask("POST", path, "dev_1", `{}`).want(200)
	b.ask("POST", path, "dev_1", `{"csr":"x"}`).wantProblem(422, "no_certificates")
	b.ask("POST", path, "dev_1", `{`).wantProblem(400, "bad_json")
	b.ask("POST", path, "dev_9", "").wantProblem(401, "bad_credentials")
	b.ask("POST", path, "dev_2", "").wantProblem(403, "wrong_device")
	b.ask("POST", path, "dev_expired", "").want(200) // within its grace
	b.ask("POST", "/api/v1/devices/d1/telemetry", "dev_expired", `{"T":1}`).wantProblem(401, "credentials_expired")
	b.ask("POST", path, "dev_over", "").wantProblem(401, "credentials_expired")
	b.ask("POST", "/api/v1/devices/d1/telemetry", "dev_1", `{"T":1}`).want(204)
	if got := b.said(&b.left); !slices.Equal(got, []string{"d1 used", "d1 used", "d1 used", "d1 used", "d1 used"}) {
		t.Errorf("uses %v", got)
	}
}
