package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// banned are words of an older language of this code, each of which meant several
// things. docs/glossary.md has the words to use.
var banned = []string{
	"rim", "door", "party", "turn", "turns", "stray", "tally", "reunion", "rehearse", "rehearsal", "question",
	"speaker",
	"speakers", "claim", "claims", "bury", "knob", "knobs", "shim", "anew", "mail", "tunable", "ways", "way",
	"greeted", "hush", "scrap", "hold", "super", "bell", "doorbell", "embryonic", "reals", "terms",
}

// allowed are identifiers that contain a banned word rightly.
var allowed = map[string]bool{
	"FragmentHold":       true, // the setting fragment_hold
	"FragmentHoldSource": true,
}

// No identifier and no file has one of the banned words in its name.
func TestIdentifiersSpeakTheFieldsLanguage(t *testing.T) {
	for _, f := range readRepository(t).files {
		for _, w := range words(strings.TrimSuffix(path.Base(f.path), ".go")) {
			if slices.Contains(banned, w) {
				t.Errorf("%s has %q; see docs/glossary.md", f.path, w)
			}
		}
		seen := map[string]bool{}
		for _, id := range declared(f.syntax) {
			if seen[id.Name] || allowed[id.Name] {
				continue
			}
			seen[id.Name] = true
			for _, w := range words(id.Name) {
				if slices.Contains(banned, w) {
					t.Errorf("%s: %s has %q; see docs/glossary.md", f.fset.Position(id.Pos()), id.Name, w)
				}
			}
		}
	}
}

// declared returns the names that a file gives to things.
func declared(file *ast.File) (all []*ast.Ident) {
	add := func(exprs ...ast.Expr) {
		for _, e := range exprs {
			if id, ok := e.(*ast.Ident); ok && id.Name != "_" {
				all = append(all, id)
			}
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch d := node.(type) {
		case *ast.FuncDecl:
			add(d.Name)
		case *ast.TypeSpec:
			add(d.Name)
		case *ast.ValueSpec:
			for _, id := range d.Names {
				add(id)
			}
		case *ast.Field:
			for _, id := range d.Names {
				add(id)
			}
		case *ast.AssignStmt:
			if d.Tok == token.DEFINE {
				add(d.Lhs...)
			}
		case *ast.RangeStmt:
			if d.Tok == token.DEFINE {
				add(d.Key, d.Value)
			}
		}
		return true
	})
	return all
}

// words splits an identifier in camel case, or a file's name, into its words:
// a capital after a small letter begins one, and the last of several capitals
// if a small letter follows, but for the s of VIPs.
func words(name string) (list []string) {
	rs, from := []rune(name), 0
	end := func(to int) {
		if w := strings.ToLower(strings.Trim(string(rs[from:to]), "_-0123456789")); w != "" {
			list = append(list, w)
		}
		from = to
	}
	for i := 1; i < len(rs); i++ {
		upper, before := unicode.IsUpper(rs[i]), unicode.IsLower(rs[i-1])
		acronym := i+1 < len(rs) && unicode.IsUpper(rs[i-1]) && unicode.IsLower(rs[i+1]) &&
			!(rs[i+1] == 's' && (i+2 == len(rs) || unicode.IsUpper(rs[i+2])))
		separated := !unicode.IsLetter(rs[i-1]) && !unicode.IsDigit(rs[i-1])
		if separated || upper && (before || acronym || unicode.IsDigit(rs[i-1])) {
			end(i)
		}
	}
	end(len(rs))
	return list
}

// No line is longer than 120 columns, a tab being four, unless a raw string makes it so.
func TestLinesAreAtMost120ColumnsLong(t *testing.T) {
	for _, f := range readRepository(t).files {
		raw := map[int]bool{} // lines with a part of a raw string
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			if s, ok := node.(*ast.BasicLit); ok && s.Value[0] == '`' {
				for l := f.fset.Position(s.Pos()).Line; l <= f.fset.Position(s.End()).Line; l++ {
					raw[l] = true
				}
			}
			return true
		})
		for i, line := range f.lines {
			if n := len([]rune(strings.ReplaceAll(line, "\t", "    "))); n > 120 && !raw[i+1] {
				t.Errorf("%s:%d: %d columns", f.path, i+1, n)
			}
		}
	}
}

// stilted are turns of phrase for which there are plain ones, and citations of
// documents that a reader cannot open.
var stilted = regexp.MustCompile(`(?i)\b(anew|likewise|to be had|says whether|what lost|nobody|told from|in hand|` +
	`reference [0-9])\b`)

// Comments and pages are in plain English.
func TestPlainEnglish(t *testing.T) {
	for _, p := range readRepository(t).prose() {
		if p.path == "docs/glossary.md" || p.path == "cmd/uvs/language_test.go" {
			continue
		}
		for i, line := range strings.Split(p.body, "\n") {
			if m := stilted.FindString(line); m != "" {
				t.Errorf("%s:%d: %q; see docs/glossary.md", p.path, p.line+i, m)
			}
		}
	}
}

// Identifiers are split where a reader would.
func TestWords(t *testing.T) {
	for name, want := range map[string]string{
		"toVIPHold": "to vip hold", "holdMS": "hold ms", "NATICMPSend": "naticmp send", "VIPsHeld": "vips held",
		"frag_queue_test": "frag queue test", "vip4Ends": "vip ends", "turn": "turn", "Turn": "turn", "X": "x",
	} {
		if got := fmt.Sprint(words(name)); got != "["+want+"]" {
			t.Errorf("words of %s: %s, want %s", name, got, want)
		}
	}
}
