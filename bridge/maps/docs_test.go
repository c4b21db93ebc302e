package maps_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"telemetryhub/bridge/maps"
)

// TestDocsNameEveryKey holds that docs/maps.md names each key of the language.
func TestDocsNameEveryKey(t *testing.T) {
	page, err := os.ReadFile("../../docs/maps.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(of reflect.Type)
	walk = func(of reflect.Type) {
		for field := range of.Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if key != "" && key != "description" && !strings.Contains(string(page), key) {
				t.Errorf("docs/maps.md has no word of %s", key)
			}
			inner := field.Type
			if inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				walk(inner)
			}
		}
	}
	walk(reflect.TypeFor[maps.Group]())
}
