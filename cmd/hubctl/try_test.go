package main

import "testing"

func TestBridgeTry(t *testing.T) {
	h := newHub(t)
	const path = "POST /api/v1/bridges/home/try"
	h.serve(t, "GET /api/v1/bridges", 200, object{"bridges": []object{
		{"name": "embedded", "kind": "embedded", "refused": object{}, "ack_ms": object{}}, {"name": "home", "kind": "external", "refused": object{}, "ack_ms": object{}},
	}})
	h.serve(t, path, 200, object{"outcomes": []object{
		{
			"as": "telemetry", "map": "tasmota/sensor", "device": "plug", "registered": true, "ts": 1772362800000, "measurement": "energy", "boot": "b1", "seq": 7,
			"values": object{"Power": 12.5, "On": true}, "units": object{"Power": "W"},
		},
		{"as": "state", "map": "tasmota/sensor", "device": "new\u001b[2J", "registered": false, "type": "plug", "state": object{"on": true}, "reason": "unknown_device", "message": "no such device"},
	}})
	status, stdout, stderr := h.hubctl(t, "bridge", "try", "--topic", "tele/plug/SENSOR", "--payload", "{}")
	wantStatus(t, status, exitError, stderr)
	wantGolden(t, "bridge-try", stdout)

	h.serve(t, "POST /api/v1/bridges/attic/try", 200, object{"outcomes": []object{}, "reason": "unmapped", "message": "no map is for the topic; the nearest is map a"})
	status, stdout, stderr = h.hubctl(t, "bridge", "try", "--bridge", "attic", "--topic", "x", "--payload", "1")
	wantStatus(t, status, exitError, stderr)
	wantText(t, stdout, "refused: unmapped: no map is for the topic; the nearest is map a")

	h.serve(t, "POST /api/v1/bridges/cellar/try", 200, object{"outcomes": []object{}, "passed_over": true})
	status, stdout, stderr = h.hubctl(t, "bridge", "try", "--bridge", "cellar", "--topic", "x")
	wantStatus(t, status, exitOK, stderr)
	wantText(t, stdout, "passed over")

	status, _, stderr = h.hubctl(t, "bridge", "try", "--bridge", "home")
	wantStatus(t, status, exitUsage, stderr)
}
