package file

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"uvs/ctl/config"
)

// parse reads a text, and checks what it describes.
func parse(text []byte) (*File, error) {
	in, err := newSource("x.yaml", text)
	if err != nil {
		return nil, err
	}
	r := reader{command: command}
	root, err := r.parse(in)
	if err != nil {
		return nil, err
	}
	f, err := newFile(root)
	if err != nil {
		return nil, err
	}
	_, err = f.Document.State(&config.State{})
	return f, f.Locate(err)
}

// mutants are values that are put in place of others.
var mutants = append(strings.Fields(`
	-1 0 99999999999999999999999999 1e400 0x1F 010 0o17 1_000 -0 .5 +3 ~ null true *a &a * & !x %YAML --- ... ? | >- '
	" "\ud800" "\x00" [ ] { } [] {} , : - # é :: fe80::1%eth0 2001:db8::1 10.0.0.256 ::ffff:10.0.0.1 255.255.255.255`),
	"", "&a 1", "<<: *a", "!!str 1", "? a", "|\n a", ": ", "- ", "- - - -", " #", "\t", "\x00", "\ufeff", "\r\n", "\n",
	"\r", "\u2028", "\xff", strings.Repeat("a", 100_000), strings.Repeat("1", 10_000), strings.Repeat("[", 10_000),
	strings.Repeat("- ", 10_000), strings.Repeat("{a: ", 10_000), strings.Repeat("&a ", 1000),
	strings.Repeat("? ", 1000), strings.Repeat("a: 1\n", 1000), strings.Repeat("\n", 10_000),
	strings.Repeat(" ", 10_000), strings.Repeat("'", 1000), "["+strings.Repeat("*a, ", 1000)+"]",
)

// mutate changes a text at random places.
func mutate(rng *rand.Rand, text []byte) []byte {
	for range 1 + rng.IntN(3) {
		lines := bytes.SplitAfter(text, []byte("\n"))
		i, j := rng.IntN(len(lines)), rng.IntN(len(lines))
		at := rng.IntN(len(text) + 1)
		mutant := []byte(mutants[rng.IntN(len(mutants))])
		switch rng.IntN(9) {
		case 0: // a byte
			text = bytes.Join([][]byte{text[:at], {byte(rng.IntN(256))}, text[min(at+rng.IntN(2), len(text)):]}, nil)
			continue
		case 1: // some bytes less
			text = bytes.Join([][]byte{text[:at], text[min(at+rng.IntN(20), len(text)):]}, nil)
			continue
		case 2: // something between
			text = bytes.Join([][]byte{text[:at], mutant, text[at:]}, nil)
			continue
		case 3: // other words
			words := bytes.FieldsFunc(lines[i], func(r rune) bool { return strings.ContainsRune(" ,{}[]:\n\"", r) })
			if len(words) > 0 {
				lines[i] = bytes.Replace(lines[i], words[rng.IntN(len(words))], mutant, 1)
			}
		case 4:
			lines[i], lines[j] = lines[j], lines[i]
		case 5:
			lines[i] = append(bytes.Clone(lines[j]), lines[i]...)
		case 6:
			lines[i] = nil
		case 7: // indentation
			blank := []byte(" \t"[rng.IntN(8)/7:])[:1]
			lines[i] = append(bytes.Repeat(blank, rng.IntN(6)), bytes.TrimLeft(lines[i], " ")...)
		case 8: // a word of another line
			a, b := bytes.Fields(lines[i]), bytes.Fields(lines[j])
			if len(a) > 0 && len(b) > 0 {
				lines[i] = bytes.Replace(lines[i], a[rng.IntN(len(a))], b[rng.IntN(len(b))], 1)
			}
		}
		text = bytes.Join(lines, nil)
	}
	return text
}

// TestMutations: a mutated file is read, and then written and read again, or it is refused
// with its name, a line and a short message. It takes a bounded amount of memory.
func TestMutations(t *testing.T) {
	mutations := 5000
	example, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	example = bytes.ReplaceAll(example, []byte("\ninclude:"), []byte("\n#"))
	f, err := parse(example)
	if err != nil {
		t.Fatal(err)
	}
	block, err := Marshal(&f.Document)
	if err != nil {
		t.Fatal(err)
	}
	if testing.Short() {
		mutations = 1000
	}
	seeds := [][]byte{example, block, jsonText(t, &f.Document), []byte(anchors)}
	read := 0
	for seed := range mutations {
		rng := rand.New(rand.NewPCG(1, uint64(seed)))
		text := mutate(rng, seeds[seed%len(seeds)])
		if isCommands(text) {
			continue
		}
		if checkMutant(t, fmt.Sprint("seed ", seed), text) {
			read++
		}
	}
	t.Logf("%d of %d were read", read, mutations)
}

const anchors = `settings: {timeout_udp: &time 300s}
services:
  - &web {address: 10.9.0.1, port: 80, protocol: tcp,
      servers: &servers [{address: 10.0.0.1, weight: 3}, {address: 10.0.0.2}]}
  - <<: *web
    port: 443
    persistent: *time
  - address: "2001:db8::1"
    port: 53
    protocol: 'udp'
    servers:
    - address: 2001:db8::2
      method: >-
        tunnel
`

const syntaxes = `a:
  - b: 1
    c: [x, {d: 2}]
  - - e
    - f g
  -
    h: |
      text
      more
    i: "q\n"
    j: 'it''s' # it is
k: {l: [], m: {}, o: &p 0x10, p: *p}
q: &r
  - s: >-
      t
      u
v: *r
`

// checkMutant reports whether a text is read.
func checkMutant(t *testing.T, name string, text []byte) bool {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := parse(text)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%s: %d bytes allocated for %.2000q", name, n, text)
	}
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		lines := 1 + bytes.Count(text, []byte("\n")) + bytes.Count(text, []byte("\r"))
		if !ok || e.Name != "x.yaml" || e.Line < 1 || e.Line > lines || e.Message == "" ||
			len(err.Error()) > 2000 || strings.Count(err.Error(), "\n") != 2 {
			t.Errorf("%s: %.2000q gives the error %v", name, text, err)
		}
		return false
	}
	written, err := Marshal(&f.Document)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parse(written)
	if err != nil || !bytes.Equal(jsonText(t, &again.Document), jsonText(t, &f.Document)) {
		t.Errorf("%s: %.2000q is read and written as %s, %v", name, text, written, err)
	}
	return true
}

// TestAliasBomb: aliases of aliases cannot fill the memory.
func TestAliasBomb(t *testing.T) {
	var text strings.Builder
	text.WriteString("a: &a [x, x, x, x, x, x, x, x, x]\n")
	for c := 'b'; c < 'j'; c++ {
		text.WriteString(string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+", ", 9) + "]\n")
	}
	if _, err := parse([]byte(text.String())); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Error(err)
	}
}

// TestBigFiles: files that take goccy/go-yaml's parser minutes and gigabytes are refused before that.
func TestBigFiles(t *testing.T) {
	var names strings.Builder
	for i := range 1 << 16 {
		fmt.Fprintf(&names, "k%d: 1\n", i)
	}
	commas := strings.ReplaceAll(names.String(), "\n", ", ")
	for sentence, text := range map[string]string{
		"an object":     names.String(),
		"names":         "{" + commas + "}",
		"merges":        "a: &a {" + commas[:997] + "}\nb: {<<: [" + strings.Repeat("*a,", 1<<18) + "]}",
		"brackets":      strings.Repeat("[", 1<<19),
		"dashes":        strings.Repeat("- ", 1<<19),
		"lines":         strings.Repeat("\n", maxTokens+1),
		"a long file":   strings.Repeat(" ", maxYAML+1),
		"JSON":          strings.Repeat(`{"a":`, 1<<19),
		"values":        `{"services": [` + strings.Repeat("1,", maxValues) + "1]}",
		"one long line": `{"services": [` + strings.Repeat(`{"address": "10.0.0.1"}, `, 1<<15) + "1]}",
		"one long name": "services: [{" + strings.Repeat("a", 1<<20) + ": 1}]",
		"one long text": "services: [{scheduler: " + strings.Repeat("a", 1<<20) + "}]",
		"zeros":         string(make([]byte, 1<<20)),
	} {
		if _, err := parse([]byte(text)); err == nil || len(err.Error()) > 2000 {
			t.Errorf("%s: %.2000v", sentence, err)
		}
	}
}

// TestErrorLines: a value of another kind is an error of its line, wherever it stands.
func TestErrorLines(t *testing.T) {
	example, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(example), "\n")
	tried := 0
	for i, line := range lines {
		name, value, ok := strings.Cut(line, ": ")
		word := strings.TrimLeft(name, " -")
		if !ok || strings.ContainsAny(word, "# {") || word == includeName || strings.ContainsAny(value[:1], "#&") {
			continue
		}
		tried++
		mutated := slices.Clone(lines)
		mutated[i] = name + ": [{}, [{}]]\n"
		_, err := parse([]byte(strings.ReplaceAll(strings.Join(mutated, ""), "\ninclude:", "\n#")))
		if e, ok := errors.AsType[*Error](err); !ok || e.Line != i+1 {
			t.Errorf("line %d, %s gives %v", i+1, mutated[i], err)
		}
	}
	if tried < 40 {
		t.Errorf("only %d lines have a value", tried)
	}
}

// FuzzRead: no text makes reading panic, and an error is one of the file.
func FuzzRead(f *testing.F) {
	f.Add([]byte(anchors))
	f.Add([]byte(syntaxes))
	f.Add([]byte("a: |\n  b\n? c\n: d\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if !isCommands(text) {
			checkMutant(t, "fuzz", text)
		}
	})
}
