package main

import (
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// typeWithForm has a method from whose schema a form can be made.
const typeWithForm = `
types:
  - name: room-node
    other_methods: allow
    methods:
      tune:
        description: Tune the heater.
        params:
          type: object
          required: [watts, psk]
          properties:
            watts: {type: integer, maximum: 11, description: Highest power in W}
            psk: {type: string, minLength: 8, writeOnly: true}
            mode: {enum: [slow, fast], default: slow}
            on: {type: boolean}
`

// The dashboard's walk through its pages in a real browser, against a hub whose devices replay the real readings.
// SCREENSHOT_DIR keeps the pictures.
func TestTheDashboardInABrowser(t *testing.T) {
	node := need(t, "node", "install Node 20.19 or later")
	need(t, "chromium", "apt-get install chromium")
	if _, err := os.Stat("../../web/dist/index.html"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("the dashboard is not built: make web")
		}
		t.Skip("the dashboard is not built: make web")
	}
	broker := mosquitto(t)
	h := startWith(t, typeWithForm+"bridge:\n  brokers:\n    - {name: home, url: tcp://"+broker+"}\n")
	h.background("--replay", strings.Join(roomFiles(t), ","), "--duration", "10m")
	h.online(roomNodes)
	if status := h.call(http.MethodPatch, "/api/v1/devices/A-1", map[string]string{"type": "room-node"}, nil); status != http.StatusOK {
		t.Fatal(status)
	}
	h.seeStrangers(broker)
	cmd := exec.CommandContext(t.Context(), node, "tests/dashboard.test.mjs")
	cmd.Dir = "../../web"
	cmd.Env = append(os.Environ(), "HUB_URL="+h.url, "HUB_TOKEN="+h.token(), "HUB_DEVICES="+strconv.Itoa(roomNodes), "HUB_DEVICE=A-1", "HUB_FORM=1", "HUB_BRIDGE=home")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the walk failed: %v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}

// seeStrangers lets the bridge see two devices that are not registered, and a message that is refused.
func (h *hubProcess) seeStrangers(broker string) {
	h.t.Helper()
	publish := need(h.t, "mosquitto_pub", "apt-get install mosquitto-clients")
	host, port, _ := strings.Cut(broker, ":")
	var list struct {
		Devices []struct{ ID string }
	}
	until(h.t, "two strangers on the list", func() bool {
		for topic, payload := range map[string]string{
			"devices/stranger-1/telemetry": `<img src=x onerror="alert(1)">`, "devices/stranger-2/telemetry": `{"temp":21.5}`,
			"devices/A-1/telemetry": `{"attic":`,
		} {
			if out, err := exec.CommandContext(h.t.Context(), publish, "-h", host, "-p", port, "-q", "1", "-t", topic, "-m", payload).CombinedOutput(); err != nil {
				h.t.Fatalf("mosquitto_pub: %v: %s", err, out)
			}
		}
		return h.call(http.MethodGet, "/api/v1/discovered", nil, &list) == http.StatusOK && len(list.Devices) == 2
	})
}
