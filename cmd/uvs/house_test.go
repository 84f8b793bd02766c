package main

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// layers gives every package its layer; a package may import only lower ones.
// The packages below ctl/ stand below ctl, which joins them.
var layers = map[string]int{
	"uvs/dataplane/wire":          0,
	"uvs/dataplane/slab":          0,
	"uvs/dataplane/cow":           0,
	"uvs/dataplane/lpm":           1,
	"uvs/dataplane/keyhash":       1,
	"uvs/conntrack":               2,
	"uvs/conntrack/frag":          3,
	"uvs/sched":                   1,
	"uvs/fwd":                     1,
	"uvs/fwd/answer":              2,
	"uvs/fwd/tunnel":              2,
	"uvs/dataplane/ring":          1,
	"uvs/dataplane/memlink":       1,
	"uvs/dataplane/helper/stream": 3,
	"uvs/dataplane/helper/tftp":   3,
	"uvs/dataplane/helper/sip":    3,
	"uvs/dataplane/helper/ftp":    4,
	"uvs/dataplane/helper":        5,
	"uvs/ctl/config":              6,
	"uvs/ctl/store":               6,
	"uvs/ctl/api":                 7,
	"uvs/ctl/file":                7,
	"uvs/ctl/ipvsadm":             8,
	"uvs/dataplane/director":      6,
	"uvs/dataplane":               7,
	"uvs/ctl/guard":               7,
	"uvs/ctl/localnode":           7,
	"uvs/ctl/routes":              7,
	"uvs/ctl/compile":             8,
	"uvs/ctl":                     9,
	"uvs/ctl/privsep":             8,
	"uvs/ctl/rest":                10,
	"uvs/bench":                   0,
	"uvs/bench/realserver":        11,
	"uvs/bench/lab":               12,
	"uvs/cmd/uvs":                 13,
	"uvs/bench/e2e":               14,
}

// testOnly are packages that only tests import.
var testOnly = map[string]bool{
	"uvs/ctl/nettest":                        true,
	"uvs/dataplane/wire/wiretest":            true,
	"uvs/dataplane/memlink/linktest":         true,
	"uvs/dataplane/helper/stream/streamtest": true,
	"uvs/fwd/fwdtest":                        true,
}

type goPackage struct {
	ImportPath, Dir, Doc string
	Imports, GoFiles     []string
}

func goPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports,GoFiles", "uvs/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// A package imports only lower layers, and every package has a layer.
func TestLayers(t *testing.T) {
	for _, p := range goPackages(t) {
		if testOnly[p.ImportPath] {
			continue
		}
		layer, ok := layers[p.ImportPath]
		if !ok {
			t.Errorf("package %s has no layer", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, "uvs/") {
				continue
			}
			if testOnly[imp] {
				t.Errorf("%s imports %s, which is for tests only", p.ImportPath, imp)
			} else if below, ok := layers[imp]; !ok || below >= layer {
				t.Errorf("%s (layer %d) imports %s (layer %d)", p.ImportPath, layer, imp, below)
			}
		}
	}
}

// A command that talks to a director links nothing of the data path.
func TestCommandsKnowNoDataPath(t *testing.T) {
	for _, pkg := range []string{"uvs/ctl/config", "uvs/ctl/api", "uvs/ctl/ipvsadm"} {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			switch dep {
			case "uvs/dataplane", "uvs/dataplane/director", "uvs/dataplane/ring", "uvs/dataplane/memlink",
				"uvs/ctl/guard",
				"github.com/google/nftables", "github.com/vishvananda/netlink", "github.com/rs/zerolog",
				"github.com/danielgtaylor/huma/v2":
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
}

// The frame path uses no clock, log or socket.
func TestDirectorKnowsOnlyFrames(t *testing.T) {
	pure := map[string]bool{
		"uvs/dataplane/director":      true,
		"uvs/fwd":                     true,
		"uvs/fwd/answer":              true,
		"uvs/fwd/tunnel":              true,
		"uvs/dataplane/helper":        true,
		"uvs/dataplane/helper/stream": true,
		"uvs/dataplane/helper/ftp":    true,
		"uvs/dataplane/helper/tftp":   true,
		"uvs/dataplane/helper/sip":    true,
		"uvs/dataplane/wire":          true,
		"uvs/sched":                   true,
	}
	for _, p := range goPackages(t) {
		if !pure[p.ImportPath] {
			continue
		}
		for _, imp := range p.Imports {
			switch imp {
			case "log", "os", "syscall", "golang.org/x/sys/unix", "github.com/rs/zerolog", "sync":
				t.Errorf("%s imports %s", p.ImportPath, imp)
			}
		}
		for _, name := range p.GoFiles {
			for _, use := range clockUses(t, filepath.Join(p.Dir, name)) {
				t.Errorf("%s/%s uses time.%s", p.ImportPath, name, use)
			}
		}
	}
}

// clockUses returns the names of package time that a file uses, other than
// durations, which are settings.
func clockUses(t *testing.T, path string) (uses []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	durations := map[string]bool{"Duration": true, "Second": true, "Minute": true, "Hour": true}
	ast.Inspect(file, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == "time" && !durations[s.Sel.Name] {
			uses = append(uses, s.Sel.Name)
		}
		return true
	})
	return uses
}

// unsafe is used only in files whose name says so, and every package has a
// comment.
func TestUnsafeAndPackageComments(t *testing.T) {
	for _, p := range goPackages(t) {
		if p.Doc == "" {
			t.Errorf("package %s has no comment", p.ImportPath)
		}
		err := filepath.WalkDir(p.Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || filepath.Dir(path) != p.Dir {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			named := strings.HasSuffix(path, "_unsafe.go") || strings.HasSuffix(path, "_unsafe_test.go")
			if importsUnsafe(file) && !named {
				t.Errorf("%s imports unsafe", path)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func importsUnsafe(f *ast.File) bool {
	for _, s := range f.Imports {
		if s.Path.Value == `"unsafe"` {
			return true
		}
	}
	return false
}
