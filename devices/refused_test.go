package devices_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
)

// Anybody can make requests that are refused: they are counted, and a long path is no long line of the log.
func TestRefusedRequestsAreCountedAndNotLogged(t *testing.T) {
	h := newHub(t)
	for _, c := range []struct {
		path   string
		header http.Header
	}{
		{"/connect/" + strings.Repeat("x", 10_000), nil},
		{"/connect/d1", nil},
		{"/connect/d1", bearer("dev_wrong")},
		{"/connect/" + strings.Repeat("é", 100), bearer(h.tokens["d1"])},
	} {
		conn := h.listener.dial()
		_, resp, err := upgrade(conn, c.path, c.header)
		if err == nil || resp == nil {
			t.Fatalf("%s: %v", c.path, err)
		}
		conn.Close()
	}
	if got, want := h.connector.Refused(), map[string]uint64{"no_credentials": 2, "bad_credentials": 1, "wrong_device": 1}; !maps.Equal(got, want) {
		t.Errorf("refused %v, want %v", got, want)
	}
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, "refused") && (!strings.Contains(line, "level=DEBUG") || len(line) > 400) {
			t.Errorf("logged %d bytes: %.200s", len(line), line)
		}
	}
	if text := h.log.String(); !strings.Contains(text, "device="+strings.Repeat("x", 64)+" ") || !strings.Contains(text, "device="+strings.Repeat("é", 32)+" ") {
		t.Errorf("the log says not who: %.1000s", text)
	}
}
