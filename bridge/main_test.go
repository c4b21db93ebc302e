package bridge_test

import (
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// realPart returns the path of a program that a test needs. Without it the test is skipped, and fails where CI is set.
func realPart(t *testing.T, name, howToGet string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing (%s)", name, howToGet)
	}
	t.Skipf("%s is missing: %s", name, howToGet)
	return ""
}
