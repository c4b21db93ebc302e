package api_test

import (
	"strings"
	"testing"
	"time"

	"telemetryhub/api"
)

type fakeBridges struct{}

func (fakeBridges) Bridges() []api.Bridge {
	example := api.ShownMessage(time.Now(), "attic/thing", []byte{0xff}, 1)
	example.Reason = "unmapped"
	return []api.Bridge{
		{Name: "embedded", Kind: "embedded", Connected: true, Refused: map[string]uint64{}},
		{
			Name: "home", Kind: "external", Failure: "connection refused", Received: 7, Stored: 5, Unmapped: 1, Refused: map[string]uint64{"unmapped": 1},
			AckMs: api.AckMs{P50: 1.5}, Examples: []api.RefusedMessage{example},
		},
	}
}

func TestBridgesAreListedAndOneIsShownWithExamples(t *testing.T) {
	b := newBench(t, api.Config{})
	list := string(b.ask("GET", "/api/v1/bridges", "op_viewer", "").want(200).body)
	if strings.Index(list, `"embedded"`) > strings.Index(list, `"home"`) || strings.Contains(list, "attic") || !strings.Contains(list, `"stored":5`) {
		t.Errorf("%s", list)
	}
	one := string(b.ask("GET", "/api/v1/bridges/home", "op_viewer", "").want(200).body)
	for _, want := range []string{`"failure":"connection refused"`, `"refused":{"unmapped":1}`, `"topic":"attic/thing"`, `"payload_base64":"/w=="`, `"ack_ms":{"p50":1.5,"p99":0,"max":0}`} {
		if !strings.Contains(one, want) {
			t.Errorf("no %s in %s", want, one)
		}
	}
	b.ask("GET", "/api/v1/bridges/attic", "op_viewer", "").wantProblem(404, "bridge_not_found")
}
