package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

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
	h := startHub(t, t.TempDir())
	h.background("--replay", strings.Join(roomFiles(t), ","), "--duration", "10m")
	h.online(roomNodes)
	cmd := exec.CommandContext(t.Context(), node, "tests/dashboard.test.mjs")
	cmd.Dir = "../../web"
	cmd.Env = append(os.Environ(), "HUB_URL="+h.url, "HUB_TOKEN="+h.token(), "HUB_DEVICES="+strconv.Itoa(roomNodes), "HUB_DEVICE=A-1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the walk failed: %v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}
