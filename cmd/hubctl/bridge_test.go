package main

import (
	"maps"
	"testing"
)

func TestBridges(t *testing.T) {
	h := newHub(t)
	home := object{
		"name": "home", "kind": "external", "address": "mqtt://broker.lan:1883", "connected": true, "since": at1, "received": 1200, "stored": 1100, "unmapped": 3,
		"refused": object{"unmapped": 3, "bad_json": 1}, "redelivered": 2, "commands": 4, "reconnects": 1, "devices": 5, "in_flight": 7, "per_second": 12.34,
		"lag_ms": 250, "ack_ms": object{"p50": 1.5, "p99": 20, "max": 1500},
	}
	attic := object{"name": "attic", "kind": "external", "address": "mqtts://attic.lan", "since": at1, "failure": "connect: refused\u001b[2J", "refused": object{}, "ack_ms": object{}}
	h.serve(t, "GET /api/v1/bridges", 200, object{"bridges": []object{
		{"name": "embedded", "kind": "embedded", "connected": true, "refused": object{}, "ack_ms": object{}}, home, attic,
	}})
	whole := object{"examples": []object{
		{"time": at2, "topic": "attic/thing", "payload": "{\"a\":1}", "size": 7, "reason": "unmapped", "message": "no map is for the topic"},
		{"time": at1, "topic": "devices/d1/telemetry", "payload_base64": "/w==", "size": 1, "device": "d1", "reason": "bad_json", "message": "not JSON"},
	}}
	maps.Copy(whole, home)
	h.serve(t, "GET /api/v1/bridges/home", 200, whole)
	for name, args := range map[string][]string{"bridge-ls": {"bridge", "ls"}, "bridge-show": {"bridge", "show", "home"}, "bridge-show.json": {"bridge", "show", "home", "--json"}} {
		status, stdout, stderr := h.hubctl(t, args...)
		wantStatus(t, status, exitOK, stderr)
		wantGolden(t, name, stdout)
		if name == "bridge-ls" {
			wantText(t, stderr, "attic is not connected: connect: refused [2J")
		}
	}
	status, stdout, stderr := h.hubctl(t, "__complete", "bridge", "show", "a")
	wantStatus(t, status, exitOK, stderr)
	if stdout != "attic\n" {
		t.Errorf("completed: %q", stdout)
	}
}
