package rest

import (
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the files that are made from the code")

// The comments in the description are those of the code.
func TestComments(t *testing.T) {
	all := map[string]string{}
	for _, dir := range []string{"../config", "../api"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
					addComments(all, file.Name.Name, g)
				}
			}
		}
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if text = append(text, '\n'); *update {
		if err := os.WriteFile("comments.json", text, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(text) != string(commentsText) {
		t.Error("comments.json is not up to date; go generate ./ctl/rest")
	}
}

// addComments adds the comments of structs that are JSON, and of their fields.
func addComments(all map[string]string, pkg string, g *ast.GenDecl) {
	for _, spec := range g.Specs {
		spec := spec.(*ast.TypeSpec)
		s, ok := spec.Type.(*ast.StructType)
		if !ok || !spec.Name.IsExported() {
			continue
		}
		isJSON := false
		for _, f := range s.Fields.List {
			if f.Tag == nil || !strings.Contains(f.Tag.Value, "json:") || len(f.Names) == 0 {
				continue
			}
			isJSON = true
			if text := oneLine(f.Doc.Text() + " " + f.Comment.Text()); text != "" {
				all[pkg+"."+spec.Name.Name+"."+f.Names[0].Name] = text
			}
		}
		if isJSON {
			all[pkg+"."+spec.Name.Name] = oneLine(g.Doc.Text())
		}
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
