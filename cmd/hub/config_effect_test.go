package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// nothingOf stands for every imported package: what is looked for are this package's own structs.
type nothingOf struct{}

func (nothingOf) Import(name string) (*types.Package, error) {
	p := types.NewPackage(name, path.Base(name))
	p.MarkComplete()
	return p, nil
}

// handsOn are the functions, in files that read and check the configuration, that make of it what a part is opened with.
var handsOn = map[string]bool{"external": true, "groups": true, "foreign": true}

// isHandedOn reports whether a place in a file is within one of them.
func isHandedOn(file *ast.File, at token.Pos) bool {
	return slices.ContainsFunc(file.Decls, func(d ast.Decl) bool {
		f, ok := d.(*ast.FuncDecl)
		return ok && handsOn[f.Name.Name] && f.Pos() <= at && at < f.End()
	})
}

// TestEveryKeyIsReadByTheHub looks for a use of each field of the configuration outside of the files that read and check
// it, or where they hand it on: a key that nobody reads does nothing, and says the opposite.
func TestEveryKeyIsReadByTheHub(t *testing.T) {
	readWhileLoading := map[string]bool{"token_file": true, "password_file": true, "secret_file": true} // config_secrets.go puts their content into token, password, secret
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set, files := token.NewFileSet(), []*ast.File(nil)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	info := types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}}
	check := types.Config{Importer: nothingOf{}, Error: func(error) {}} // what is of imported packages is unknown, and told so
	pkg, _ := check.Check("hub", set, files, &info)
	read := map[types.Object]bool{}
	for use, selection := range info.Selections {
		from := slices.IndexFunc(files, func(f *ast.File) bool { return f.FileStart <= use.Pos() && use.Pos() < f.FileEnd })
		if !strings.HasPrefix(set.File(use.Pos()).Name(), "config") || isHandedOn(files[from], use.Pos()) {
			read[selection.Obj()] = true
		}
	}
	keys := 0
	for _, name := range pkg.Scope().Names() {
		section, ok := pkg.Scope().Lookup(name).Type().Underlying().(*types.Struct)
		if !ok {
			continue
		}
		for i := range section.NumFields() {
			_, key, _ := strings.Cut(section.Tag(i), `yaml:"`)
			if key = strings.TrimSuffix(key, `"`); key == "" || key == inline {
				continue
			}
			keys++
			if field := section.Field(i); !read[field] && !readWhileLoading[key] {
				t.Errorf("%s.%s (key %s) has no effect: nothing outside of config*.go reads it", name, field.Name(), key)
			}
		}
	}
	if keys < 50 {
		t.Errorf("only %d keys were found", keys)
	}
}
