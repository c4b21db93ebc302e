package influxtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// module is the newest release of influxd that builds with the Go tool alone.
const module = "github.com/influxdata/influxdb/cmd/influxd@v1.8.3"

// ErrMissing is returned when there is no influxd and none could be built. Its text says how to get one.
var ErrMissing = errors.New("influxtest: no influxd in PATH or GOPATH/bin; get it with: go install " + module)

// Binary returns the path of influxd, building it first if it is missing.
func Binary(ctx context.Context) (string, error) {
	name := "influxd"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	folder, err := installFolder(ctx)
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrMissing, err)
	}
	path := filepath.Join(folder, name)
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
		return path, nil
	}
	// Outside any module, so that the project's go.mod has no say in the versions.
	install := exec.CommandContext(ctx, "go", "install", module)
	install.Dir = os.TempDir()
	install.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+folder)
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w (%w: %s)", ErrMissing, err, lastLine(out))
	}
	return path, nil
}

// installFolder is where `go install` puts its binaries: GOBIN, or GOPATH/bin.
func installFolder(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOBIN", "GOPATH").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	gobin, gopath, _ := strings.Cut(string(out), "\n")
	if gobin = strings.TrimSpace(gobin); gobin != "" {
		return gobin, nil
	}
	first := filepath.SplitList(strings.TrimSpace(gopath))
	if len(first) == 0 {
		return "", errors.New("GOPATH is empty")
	}
	return filepath.Join(first[0], "bin"), nil
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
