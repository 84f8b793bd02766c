package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// repository is the tree as the tests of names and language see it: its paths, its
// Go files, and the pages that people read.
type repository struct {
	paths map[string]bool // files and folders, relative to the root
	tails map[string]bool // every path, and every path less its first folders
	files []goFile
	pages []text
}

type goFile struct {
	path   string
	pkg    string
	syntax *ast.File
	fset   *token.FileSet
	lines  []string
}

// text is a piece of prose and where it begins.
type text struct {
	path string
	line int
	body string
}

const root = "../.."

// pastPages record the past and may name what no longer exists.
var pastPages = map[string]bool{"CHANGELOG.md": true}

func readRepository(t *testing.T) *repository {
	t.Helper()
	r := &repository{paths: map[string]bool{}, tails: map[string]bool{}}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(p, root+"/.git/") {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil || rel == "." {
			return err
		}
		if d.Name() == ".git" {
			return nil // a file in a linked work tree
		}
		r.note(rel)
		if d.IsDir() {
			return nil
		}
		return r.read(p, rel)
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *repository) note(rel string) {
	r.paths[rel] = true
	for tail := rel; ; {
		r.tails[tail] = true
		_, rest, ok := strings.Cut(tail, "/")
		if !ok {
			return
		}
		tail = rest
	}
}

func (r *repository) read(p, rel string) error {
	switch ext := path.Ext(rel); {
	case ext == ".go":
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		syntax, err := parser.ParseFile(fset, rel, b, parser.ParseComments)
		if err != nil {
			return err
		}
		pkg := strings.TrimSuffix(syntax.Name.Name, "_test")
		r.files = append(r.files, goFile{rel, pkg, syntax, fset, strings.Split(string(b), "\n")})
	case (ext == ".md" || ext == ".8") && !pastPages[rel]:
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		r.pages = append(r.pages, text{rel, 1, string(b)})
	}
	return nil
}

// prose returns every comment of the Go files, and every page.
func (r *repository) prose() []text {
	all := slices.Clone(r.pages)
	for _, f := range r.files {
		for _, g := range f.syntax.Comments {
			var body strings.Builder
			for _, c := range g.List {
				body.WriteString(c.Text + "\n")
			}
			all = append(all, text{f.path, f.fset.Position(g.Pos()).Line, body.String()})
		}
	}
	return all
}

// names are what Go files declare: by package, and members by type.
type names struct {
	packages map[string]map[string]bool // package, top-level name
	members  map[string]map[string]bool // type, field or method
	tests    map[string]bool            // tests, benchmarks, fuzz targets, examples
}

func (r *repository) names() names {
	n := names{map[string]map[string]bool{}, map[string]map[string]bool{}, map[string]bool{}}
	for _, f := range r.files {
		top := n.packages[f.pkg]
		if top == nil {
			top = map[string]bool{}
			n.packages[f.pkg] = top
		}
		for _, d := range f.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				n.addFunc(top, d)
			case *ast.GenDecl:
				n.addDecl(top, d)
			}
		}
	}
	return n
}

func (n names) addFunc(top map[string]bool, d *ast.FuncDecl) {
	if d.Recv != nil {
		n.addMember(typeName(d.Recv.List[0].Type), d.Name.Name)
		top[d.Name.Name] = true // director.Process is Director's
		return
	}
	top[d.Name.Name] = true
	n.tests[d.Name.Name] = true
}

func (n names) addDecl(top map[string]bool, d *ast.GenDecl) {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.ValueSpec:
			for _, id := range s.Names {
				top[id.Name] = true
			}
		case *ast.TypeSpec:
			top[s.Name.Name] = true
			n.addMember(s.Name.Name, "")
			ast.Inspect(s.Type, func(node ast.Node) bool {
				if f, ok := node.(*ast.Field); ok {
					for _, id := range f.Names {
						n.addMember(s.Name.Name, id.Name)
					}
					if len(f.Names) == 0 {
						n.addMember(s.Name.Name, typeName(f.Type))
					}
				}
				return true
			})
		}
	}
}

func (n names) addMember(of, member string) {
	if n.members[of] == nil {
		n.members[of] = map[string]bool{}
	}
	n.members[of][member] = true
}

// typeName returns the name of a type without its package, pointer and parameters.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.IndexListExpr:
		return typeName(e.X)
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return ""
}

var (
	testMention   = regexp.MustCompile(`\b(?:Test|Benchmark|Fuzz)[A-Z]\w*`)
	nameMention   = regexp.MustCompile(`(^|[^\w./-])([A-Za-z]\w*)\.([A-Za-z]\w*)(?:\.([A-Za-z]\w*))?`)
	folderMention = regexp.MustCompile(`(?:^|[\s(` + "`" + `"'])` +
		`((?:\./)?(?:bench|cmd|conntrack|ctl|dataplane|docs|fwd|sched)/[\w./-]*\w)`)
	fileMention = regexp.MustCompile(`[\w./-]*\w\.(?:go|md|py|pcap)\b|\buvs[\w-]*\.8\b`)
	urlMention  = regexp.MustCompile(`https?://\S+`)
)

// A test, a package's name or a path that a comment or a page mentions exists.
func TestMentionedNamesExist(t *testing.T) {
	r := readRepository(t)
	n := r.names()
	for _, p := range r.prose() {
		for i, line := range strings.Split(urlMention.ReplaceAllString(p.body, ""), "\n") {
			for _, bad := range append(n.unknown(line), r.missing(line)...) {
				t.Errorf("%s:%d: %s does not exist", p.path, p.line+i, bad)
			}
		}
	}
}

// unknown returns the tests and the names of packages and types in a line of
// prose that no file declares.
func (n names) unknown(line string) (bad []string) {
	for _, m := range testMention.FindAllString(line, -1) {
		if !n.tests[m] {
			bad = append(bad, m)
		}
	}
	for _, m := range nameMention.FindAllStringSubmatch(line, -1) {
		of, name, member := m[2], m[3], m[4]
		top, isPackage := n.packages[of]
		switch {
		case isPackage && unicode.IsUpper(rune(name[0])):
			if !top[name] {
				bad = append(bad, of+"."+name)
			} else if members, ok := n.members[name]; ok && member != "" && !members[member] {
				bad = append(bad, of+"."+name+"."+member)
			}
		case unicode.IsUpper(rune(of[0])):
			if members, ok := n.members[of]; ok && !members[name] {
				bad = append(bad, of+"."+name)
			}
		}
	}
	return bad
}

// missing returns the paths in a line of prose that are not in the repository.
func (r *repository) missing(line string) (bad []string) {
	for _, m := range folderMention.FindAllStringSubmatch(line, -1) {
		p := strings.TrimPrefix(m[1], "./")
		if ext := path.Ext(p); len(ext) > 1 && unicode.IsUpper(rune(ext[1])) {
			p = strings.TrimSuffix(p, ext) // package.Name
		}
		if p = strings.TrimSuffix(p, "/..."); !r.paths[p] && !r.tails[p] && !strings.Contains(p, "NNN") {
			bad = append(bad, p)
		}
	}
	for _, m := range fileMention.FindAllString(line, -1) {
		if m = path.Clean(m); !r.tails[m] && m[0] != '/' && !strings.HasPrefix(m, "../") {
			bad = append(bad, m)
		}
	}
	return bad
}
