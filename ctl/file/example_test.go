package file

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"uvs/ctl/config"
)

const examplePath = "../../docs/example.yaml"

// TestExample: docs/example.yaml is a configuration, and has every name that one can have.
func TestExample(t *testing.T) {
	f, err := Read(examplePath, command)
	if err == nil {
		if _, err = f.Document.State(&config.State{}); err == nil {
			err = config.At(f.Document.Director.Check(), "director")
		}
		err = f.Locate(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.FieldsFunc(string(text), func(r rune) bool { return strings.ContainsRune(" \n{,-", r) })
	for _, name := range memberNames(reflect.TypeFor[config.Document](), nil) {
		if !slices.Contains(words, name+":") {
			t.Errorf("docs/example.yaml does not show %s", name)
		}
	}
}

// TestPages: the files that the README and docs/configuration.md show are right.
func TestPages(t *testing.T) {
	for path, marks := range map[string][2]string{
		"../../README.md": {"```yaml\n", "```\n"}, "../../docs/configuration.md": {"<<'END'\n", "    END\n"},
	} {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(page), marks[0])
		text, _, _ = strings.Cut(text, marks[1])
		f, err := readFiles(t, map[string]string{"x.yaml": text})
		if err == nil {
			_, err = f.Document.State(&config.State{})
		}
		if err != nil || len(f.Document.Services) != 1 || len(f.Document.Services[0].Servers) != 2 {
			t.Errorf("%s: %v, %q", path, err, text)
		}
	}
}

// memberNames returns the names of the members of a type and of what is in it.
func memberNames(t reflect.Type, seen []reflect.Type) (names []string) {
	if t.Implements(reflect.TypeFor[json.Marshaler]()) {
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return memberNames(t.Elem(), seen)
	case reflect.Struct:
	default:
		return nil
	}
	if slices.Contains(seen, t) {
		return nil
	}
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			names = append(append(names, name), memberNames(field.Type, append(seen, t))...)
		}
	}
	return names
}
