package rest

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"uvs/ctl/config"
)

// Section describes an object of configuration files. Path is where it stands, as
// services.servers, or all places, with commas; that of the whole file is "". About begins with
// a verb.
type Section struct {
	Path, About string
	Members     []Member
}

// Member describes a member of an object: the values that it can have, and the one that is
// assumed without it, or "".
type Member struct{ Name, Values, Default, About string }

// Reference describes all that a configuration file can have, from the same types and comments
// as Schema.
func Reference() (sections []Section) {
	ref, r := fileSchemas()
	sectionOf := map[reflect.Type]int{}
	var add func(path string, t reflect.Type)
	add = func(path string, t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		s := r.schemas[t.Name()]
		if r.types[t.Name()] != t {
			return
		}
		if i, ok := sectionOf[t]; ok {
			sections[i].Path += ", " + path
			return
		}
		sectionOf[t] = len(sections)
		section := Section{Path: path, About: strings.TrimPrefix(s.Description, t.Name()+" ")}
		if r.prefix+t.Name() == ref {
			section.Members = append(section.Members, describe("include", s.Properties["include"]))
		}
		members := jsonMembers(t)
		for _, m := range members {
			section.Members = append(section.Members, describe(m.name, s.Properties[m.name]))
		}
		sections = append(sections, section)
		for _, m := range members {
			add(strings.TrimPrefix(path+"."+m.name, "."), m.field.Type)
		}
	}
	add("", reflect.TypeFor[config.Document]())
	return sections
}

func describe(name string, s *huma.Schema) Member {
	m := Member{Name: name, Values: valuesOf(s), About: s.Description}
	if s.Default != nil {
		m.Default = fmt.Sprint(s.Default)
	}
	return m
}

// patternTexts describe the texts that fit a pattern.
var patternTexts = map[string]string{
	addr: "an address", prefix: "a net or an address", duration: "a time with its unit, such as 300s or 5m",
	portsPattern: `a range such as "8000:8100"`,
}

// valuesOf describes the values that fit a schema. It leaves out other spellings of them.
func valuesOf(s *huma.Schema) string {
	var forms []string
	for _, part := range append([]*huma.Schema{s}, s.AnyOf...) {
		text := patternTexts[part.Pattern]
		switch {
		case part.Ref != "" || part.Type == huma.TypeObject:
			text = "an object"
		case part.Type == huma.TypeArray:
			items := valuesOf(part.Items)
			if _, word, ok := strings.Cut(items, " "); ok && !strings.Contains(word, " ") {
				text = "a list of " + word + "s"
			} else {
				text = "a list of: " + items
			}
		case part.Type == huma.TypeBoolean:
			text = "true or false"
		case part.Type == huma.TypeInteger && part.Minimum != nil:
			text = fmt.Sprintf("%.0f to %.0f", *part.Minimum, *part.Maximum)
		case part.Type == huma.TypeInteger && part.Enum == nil:
			text = "a number"
		case part.Type == huma.TypeString && part.Enum != nil:
			var words []string
			for _, word := range part.Enum {
				words = append(words, fmt.Sprint(word))
			}
			text = config.OneOf(words)
		case part.Type == huma.TypeString && part.Pattern == "":
			text = "a text"
		}
		if text != "" && !strings.Contains(strings.Join(forms, ""), text) {
			forms = append(forms, text)
		}
	}
	return strings.Join(forms, "; or ")
}
