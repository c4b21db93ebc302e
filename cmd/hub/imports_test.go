package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "telemetryhub"

// partImports says which of our parts a part may import. A folder below a part belongs to it, unless it stands here
// itself. A new part needs a line here and a word in docs/architecture.md.
func partImports() map[string][]string {
	return map[string][]string{
		"wire":               {},
		"auth":               {},
		"auth/acts":          {"backbone"},
		"backbone":           {},
		"feed":               {},
		"web":                {},
		"devices":            {"wire", "auth", "feed"},
		"commands":           {"wire", "feed"},
		"commands/catalogue": {},
		"store":              {"wire"},
		"ingest":             {"backbone", "wire"},
		"bridge":             {"devices", "commands", "wire", "bridge/maps", "bridge/presets"},
		"bridge/maps":        {"wire"},
		"bridge/presets":     {"bridge/maps"},
		"api":                {"devices", "commands", "commands/catalogue", "wire", "auth", "auth/acts"},
		"api/client":         {},
		"cmd/hub":            {"wire", "auth", "backbone", "web", "auth/acts", "devices", "commands", "commands/catalogue", "store", "ingest", "bridge", "bridge/maps", "bridge/presets", "api"},
		"cmd/hubctl":         {"api/client"},
		"cmd/device-sim":     {"api/client", "wire"},
		"bench":              {"api/client", "wire", "store/influxtest"},
		"torture":            {"api/client", "wire", "store/influxtest"},

		// A device that users copy.
		"docs/clients/go": {},

		// A database for tests; the benchmarks and the torture run it too.
		"store/influxtest": {},
	}
}

// moduleHomes says which parts may import a module of others. A new module needs a line here and a sentence in
// docs/dependencies.md.
func moduleHomes() map[string][]string {
	return map[string][]string{
		"github.com/gorilla/websocket":                {"devices", "cmd/device-sim", "docs/clients/go"},
		"github.com/eclipse/paho.mqtt.golang":         {"bridge", "cmd/device-sim"},
		"github.com/mochi-mqtt/server/v2":             {"bridge"},
		"github.com/influxdata/influxdb-client-go/v2": {"store"},
		"github.com/influxdata/influxdb":              {"store", "bridge/maps"}, // there its line protocol alone
		"github.com/expr-lang/expr":                   {"bridge/maps"},
		"github.com/influxdata/influxql":              {"store"},
		"go.uber.org/zap":                             {"store"}, // the engine's logger
		"github.com/nats-io/nats-server/v2":           {"backbone"},
		"github.com/minio/highwayhash":                {"backbone"},
		"github.com/nats-io/nats.go":                  {"backbone", "bridge", "auth", "auth/acts", "commands", "devices", "ingest", "cmd/hub"},
		"github.com/danielgtaylor/huma/v2":            {"api"},
		"github.com/prometheus/client_golang":         {"api", "bridge", "commands", "devices", "ingest", "store", "cmd/hub"},
		"github.com/alecthomas/kong":                  {"cmd/hub", "cmd/hubctl", "cmd/device-sim"},
		"go.yaml.in/yaml/v4":                          {"cmd/hub", "bridge/presets"},
		"github.com/santhosh-tekuri/jsonschema/v6":    {"commands/catalogue"},
		"github.com/go-json-experiment/json":          {"wire", "devices"},
		"github.com/fxamacker/cbor/v2":                {"cmd/device-sim"}, // and tests
		"github.com/HdrHistogram/hdrhistogram-go":     {"cmd/device-sim", "bench"},
		"github.com/hanwen/go-fuse/v2":                {"torture"},
		"github.com/schollz/progressbar/v3":           {"cmd/device-sim", "cmd/hubctl"},
		"golang.org/x/term":                           {"cmd/device-sim", "cmd/hubctl"},
		"golang.org/x/sys":                            {"devices"},
		"golang.org/x/time":                           {"api", "bridge", "devices", "cmd/device-sim"},
	}
}

// TestImportEdges holds DESIGN.md's direction of imports. Test files may import more: they put parts together that do not
// know each other.
func TestImportEdges(t *testing.T) {
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			// The same folders that the go command leaves out, and those of npm.
			hidden := file != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_"))
			if hidden || name == "testdata" || name == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		relative, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		checkFile(t, file, filepath.ToSlash(relative))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Error("no Go file was found")
	}
}

// checkFile reports each import of one file that has no edge.
func checkFile(t *testing.T, file, name string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Error(err)
			continue
		}
		if err := checkImport(path.Dir(name), imported); err != nil {
			t.Errorf("%s imports %s: %v", name, imported, err)
		}
	}
}

// checkImport says what is wrong with a package in folder importing another, or nil.
func checkImport(folder, imported string) error {
	parts := partImports()
	from, ok := longestPrefix(folder, parts)
	if !ok {
		return fmt.Errorf("%s is no part that partImports knows", folder)
	}
	if inner, ours := strings.CutPrefix(imported, module+"/"); ours {
		to, ok := longestPrefix(inner, parts)
		switch {
		case !ok:
			return fmt.Errorf("%s is no part that partImports knows", inner)
		case strings.HasSuffix(inner, "test") && !slices.Contains(parts[from], inner):
			return fmt.Errorf("%s is for tests only", inner)
		case to != from && !slices.Contains(parts[from], to):
			return fmt.Errorf("%s may import of ours only %v", from, parts[from])
		}
		return nil
	}
	if domain, _, _ := strings.Cut(imported, "/"); !strings.Contains(domain, ".") {
		return nil // the standard library
	}
	homes := moduleHomes()
	dependency, ok := longestPrefix(imported, homes)
	if !ok {
		return fmt.Errorf("a dependency without a home: add it to moduleHomes and to docs/dependencies.md")
	}
	if !slices.Contains(homes[dependency], from) {
		return fmt.Errorf("the home of %s is %v", dependency, homes[dependency])
	}
	return nil
}

// longestPrefix finds the entry that a path is in: api/client for api/client/x, not api.
func longestPrefix(name string, table map[string][]string) (string, bool) {
	best := ""
	for entry := range maps.Keys(table) {
		if (name == entry || strings.HasPrefix(name, entry+"/")) && len(entry) > len(best) {
			best = entry
		}
	}
	return best, best != ""
}

// TestImportEdgesFail shows the rules at work: without it a test that finds nothing would look the same.
func TestImportEdgesFail(t *testing.T) {
	for _, test := range []struct{ folder, imported, want string }{
		{"wire", "telemetryhub/auth", "wire may import of ours only []"},
		{"devices", "telemetryhub/ingest", "devices may import of ours only [wire auth feed]"},
		{"ingest", "telemetryhub/devices", "ingest may import of ours only [backbone wire]"},
		{"api", "telemetryhub/api/client", "api may import of ours only"},
		{"api/client", "telemetryhub/api", "api/client may import of ours only []"},
		{"cmd/hubctl", "telemetryhub/devices", "cmd/hubctl may import of ours only [api/client]"},
		{"cmd/hubctl/inner", "telemetryhub/devices", "cmd/hubctl may import of ours only [api/client]"},
		{"api", "github.com/gorilla/websocket", "the home of github.com/gorilla/websocket is [devices cmd/device-sim docs/clients/go]"},
		{"cmd/hub", "github.com/eclipse/paho.mqtt.golang", "the home of github.com/eclipse/paho.mqtt.golang is"},
		{"store", "github.com/nobody/knows", "a dependency without a home"},
		{"helpers", "telemetryhub/wire", "helpers is no part"},
		{"cmd/hub", "telemetryhub/helpers", "helpers is no part"},
		{"store", "telemetryhub/store/influxtest", "is for tests only"},
		{"torture", "telemetryhub/ingest", "torture may import of ours only [api/client wire store/influxtest]"},
		{"bench", "telemetryhub/store", "bench may import of ours only [api/client wire store/influxtest]"},
	} {
		if err := checkImport(test.folder, test.imported); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s imports %s: %v, want %q", test.folder, test.imported, err, test.want)
		}
	}
	for _, test := range [][2]string{
		{"devices", "telemetryhub/wire"},
		{"cmd/hub", "telemetryhub/ingest"},
		{"store", "net/http"},
		{"store", "github.com/influxdata/influxdb/tsdb/engine"},
		{"cmd/device-sim/judge", "telemetryhub/cmd/device-sim/readings"},
		{"bench", "telemetryhub/store/influxtest"},
		{"torture", "telemetryhub/torture/forgetfs"},
	} {
		if err := checkImport(test[0], test[1]); err != nil {
			t.Errorf("%s imports %s: %v", test[0], test[1], err)
		}
	}
}
