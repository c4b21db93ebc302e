package main

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestDevicesSetLimits(t *testing.T) {
	h := newHub(t)
	var sent object
	h.mux.HandleFunc("PATCH /api/v1/devices/d1", func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			t.Error(err)
		}
		reply(t, w, 200, object{
			"id": "d1", "enabled": true, "created": "2026-01-02T03:04:05Z",
			"limits": object{
				"messages": object{"value": 50, "from": "device"}, "bytes": object{"value": 0, "from": "default"},
				"burst_ms": object{"value": 30000, "from": "type"}, "max_frame": object{"value": 16384, "from": "type"},
			},
			"slowed": object{"held_ms": 54123, "refused": 2, "limit": "messages", "last": "2026-01-02T03:04:05Z"},
		})
	})
	status, got, stderr := h.hubctl(t, "devices", "set", "d1", "--limit", "messages=50", "--limit", "burst=30s", "--limit", "max_frame=16KiB", "--limit", "bytes=none", "--no-limit", "connects")
	if status != 0 {
		t.Fatalf("exit %d: %s", status, stderr)
	}
	want := object{"limits": object{"messages": 50.0, "burst_ms": 30000.0, "max_frame": 16384.0, "bytes": 0.0, "connects": nil}}
	if !reflect.DeepEqual(sent, want) {
		t.Errorf("sent %v\nwant %v", sent, want)
	}
	for _, line := range []string{
		"burst=30s (type), bytes=none (default), max_frame=16KiB (type), messages=50 (device)",
		"for 54.123s, 2 refused, last by messages at ",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("%q is not in\n%s", line, got)
		}
	}
}

func TestLimitsThatCannotBeRead(t *testing.T) {
	for _, c := range [][2]string{{"messages", "many"}, {"messages", "1.5"}, {"burst", "10"}, {"bytes", "16KB"}, {"max_frame", "-1"}, {"bytes", "99999999999GiB"}} {
		if _, err := limitChange(map[string]string{c[0]: c[1]}, nil); err == nil || !strings.Contains(err.Error(), c[0]) {
			t.Errorf("%s=%s: %v", c[0], c[1], err)
		}
	}
}
