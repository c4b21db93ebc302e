package main

import (
	"io"
	"net/http"
	"testing"
)

const speedSchema = `{
	"type": "object", "required": ["mode", "code"],
	"properties": {
		"mode": {"enum": ["1", "2"]}, "speed": {"type": "integer"}, "code": {"$ref": "#/$defs/code"}, "on": {"type": "boolean"},
		"either": {"type": ["string", "null"]}, "any": {}, "psk": {"type": "string", "writeOnly": true}, "list": {"type": "array"}
	},
	"$defs": {"code": {"type": "string"}}
}`

// methods serves what the device d1 takes.
func (h *hub) methods(t *testing.T) {
	t.Helper()
	h.serve(t, "GET /api/v1/devices/d1/methods", 200, `{"type":"pump","other_methods":"refuse","methods":[`+
		`{"name":"fly","role":"operator","announced":true},`+
		`{"name":"set","description":"Set it.","params":`+speedSchema+`,"timeout_ms":5000,"delivery":"at-least-once","role":"admin","listed":true,"announced":true,"taken":true}]}`)
}

func TestValuesAreTypedByTheSchema(t *testing.T) {
	h := newHub(t)
	h.methods(t)
	var body string
	h.mux.HandleFunc("POST /api/v1/devices/{id}/commands", func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		body = string(data)
		reply(t, w, 201, object{"id": "01C", "state": "sent"})
	})
	for want, args := range map[string][]string{
		`{"method":"set","params":{"any":5,"code":"007","either":null,"list":[1],"mode":"1","on":true,"psk":"12345678","speed":3}}`: {
			"send", "d1", "set", "mode=1", "speed=3", "code=007", "on=true", "either=null", "any=5", "psk=12345678", "list=[1]",
		},
		`{"method":"set","params":{"code":"{\"a\":1}","either":"5","mode":"1","psk":"true","speed":"fast"}}`: {"send", "d1", "set", `code={"a":1}`, "either=5", "mode=1", "psk=true", "speed=fast"},
		`{"method":"set","params":{"code":"quoted"}}`:                                                        {"send", "d1", "set", `code="quoted"`},
		`{"method":"other","params":{"code":7}}`:                                                             {"send", "d1", "other", "code=7"},
		`{"method":"set","params":{"code":7}}`:                                                               {"send", "d1", "set", "--params", `{"code":7}`}, // as it stands
		`{"method":"set","params":{"code":8}}`:                                                               {"send", "elsewhere", "set", "code=8"},          // an older hub
	} {
		if status, _, stderr := h.hubctl(t, args...); status != exitOK || body != want {
			t.Errorf("%v sent %s, want %s (%s)", args, body, want, stderr)
		}
	}
}

func TestFaultsOfParamsStandOneALine(t *testing.T) {
	h := newHub(t)
	h.serve(t, "POST /api/v1/devices/d1/commands", 422, object{"title": "Unprocessable Entity", "detail": "params: the params do not fit", "reason": "bad_params", "errors": []object{
		{"location": "body.params", "pointer": "/speed", "message": "must be at most 9"}, {"location": "body.params", "pointer": "", "message": "too many\u001b[2J"},
	}})
	status, _, stderr := h.hubctl(t, "send", "d1", "set", "--params", `{"speed":10}`)
	wantStatus(t, status, exitError, stderr)
	if want := "hubctl: params: the params do not fit\nhubctl:   /speed  must be at most 9\nhubctl:   (the params themselves)  too many [2J\n"; stderr != want {
		t.Errorf("%q, want %q", stderr, want)
	}
}

func TestTheAuditLogIsShownAndExported(t *testing.T) {
	h := newHub(t)
	const lines = "{\"id\":\"1-0\",\"act\":\"login\"}\n{\"id\":\"1-1\",\"act\":\"device.create\",\"new\":\"member\"}\n"
	var query string
	h.mux.HandleFunc("GET /api/v1/acts", func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		if r.Header.Get("Accept") == "application/x-ndjson" {
			w.Header().Set("Content-Type", "application/x-ndjson")
			_, _ = io.WriteString(w, lines)
			return
		}
		reply(t, w, 200, object{"next": "", "acts": []object{
			{"id": "2-0", "time": at2, "actor": "ann", "role": "admin", "origin": "10.0.0.7", "act": "command.send", "device": "d1", "target": "01C", "outcome": "accepted", "facts": object{"method": "set", "params": object{"psk": "[secret]"}}, "recovered": true},
			{"id": "1-3", "time": at1, "origin": "10.0.0.8", "act": "login.failed", "outcome": "refused", "reason": "bad_token", "suppressed": 12},
		}})
	})
	status, stdout, stderr := h.hubctl(t, "acts", "--actor", "ann", "--act", "device", "--from", "-24h", "--to", "5", "--outcome", "accepted", "--device", "d1")
	wantStatus(t, status, exitOK, stderr)
	wantGolden(t, "acts", stdout)
	if want := "act=device&actor=ann&device=d1&from=-24h&limit=50&outcome=accepted&to=5"; query != want {
		t.Errorf("asked %s, want %s", query, want)
	}
	status, stdout, stderr = h.hubctl(t, "acts", "--json", "--from", "-24h")
	wantStatus(t, status, exitOK, stderr)
	if stdout != lines || query != "from=-24h" {
		t.Errorf("%s gave %q, want the hub's own lines", query, stdout)
	}
	if status, _, stderr := h.hubctl(t, "acts", "--outcome", "maybe"); status != exitUsage {
		t.Errorf("status %d (%s)", status, stderr)
	}
}

func TestMethodsOfADevice(t *testing.T) {
	h := newHub(t)
	h.methods(t)
	status, stdout, stderr := h.hubctl(t, "devices", "methods", "d1")
	wantStatus(t, status, exitOK, stderr)
	wantGolden(t, "methods", stdout)
	wantText(t, stderr, "other methods are refused")
	status, stdout, stderr = h.hubctl(t, "devices", "methods", "d1", "--json")
	wantStatus(t, status, exitOK, stderr)
	wantText(t, stdout, `"writeOnly": true`, `"other_methods": "refuse"`)
}
