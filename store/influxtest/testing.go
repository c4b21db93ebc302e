package influxtest

import (
	"os"
	"testing"
)

// StartT starts a server for a test and ends it with the test. Without influxd the test is skipped, with the way to get
// it; where the environment has CI=true it fails.
func StartT(t testing.TB) *Server {
	t.Helper()
	s, err := Start(t.Context(), t.TempDir())
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}
