package file

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml/token"

	"uvs/ctl/config"
)

// Marshal returns a configuration as YAML that people would write: members in the order of the
// fields of config.Document, and small objects, such as servers, in one line. Equal
// configurations give equal texts.
func Marshal(d *config.Document) ([]byte, error) {
	root, err := toNode(d)
	if err != nil {
		return nil, err
	}
	for _, s := range root.list("services") {
		servers := s.list("servers")
		if sorry := s.member("sorry"); sorry != nil {
			servers = append(servers, sorry.value)
		}
		for _, v := range servers {
			isUp := func(m member) bool { return m.name == "admin" && m.value.text == `"up"` }
			v.members = slices.DeleteFunc(v.members, isUp)
		}
	}
	return root.yaml(""), nil
}

// YAML returns the YAML of a value in JSON. begin is "- " if it is an item of a list.
func YAML(value jsontext.Value, begin string) ([]byte, error) {
	n, err := parseJSON(&source{"", value})
	if err != nil {
		return nil, err
	}
	return n.yaml(begin), nil
}

func toNode(v any) (*node, error) {
	text, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	return parseJSON(&source{"", text})
}

func (n *node) yaml(begin string) []byte {
	if n.isSimple() {
		return append(n.appendFlow([]byte(begin)), '\n')
	}
	return n.appendBlock([]byte(begin), len(begin), true)
}

// maxLine is the most columns of an object or a list in one line.
const maxLine = 100

// appendBlock appends an object or a list, each member and item on lines of its own. The
// first begins where text ends.
func (n *node) appendBlock(text []byte, indent int, root bool) []byte {
	margin := strings.Repeat(" ", indent)
	for i, m := range n.members {
		if i > 0 {
			text = append(text, margin...)
		}
		text = append(appendPlain(text, m.name), ':')
		if v := m.value; v.isSimple() || !root && v.isSmall(indent+len(m.name)+2) {
			text = append(v.appendFlow(append(text, ' ')), '\n')
		} else {
			text = append(append(text, '\n'), margin+"  "...)
			text = v.appendBlock(text, indent+2, false)
		}
	}
	small := !slices.ContainsFunc(n.items, func(v *node) bool { return !v.isSmall(indent + 2) })
	for i, item := range n.items {
		if i > 0 {
			text = append(text, margin...)
		}
		if text = append(text, "- "...); small || item.isSimple() {
			text = append(item.appendFlow(text), '\n')
		} else {
			text = item.appendBlock(text, indent+2, false)
		}
	}
	return text
}

// isSimple reports whether the value is a scalar, or a list or object of nothing or a list of
// scalars.
func (n *node) isSimple() bool {
	return len(n.members) == 0 && !slices.ContainsFunc(n.items, func(v *node) bool { return v.kind != scalar })
}

// isSmall reports whether an object has neither lists nor objects of objects, and fits on a
// line after a column.
func (n *node) isSmall(column int) bool {
	for _, m := range n.members {
		nested := func(m member) bool { return m.value.kind != scalar }
		if m.value.kind == list || slices.ContainsFunc(m.value.members, nested) {
			return false
		}
	}
	return n.kind != list && column+len(n.appendFlow(nil)) <= maxLine
}

// appendFlow appends a value in one line.
func (n *node) appendFlow(text []byte) []byte {
	switch n.kind {
	case object:
		text = append(text, '{')
		for i, m := range n.members {
			if i > 0 {
				text = append(text, ", "...)
			}
			text = m.value.appendFlow(append(appendPlain(text, m.name), ": "...))
		}
		return append(text, '}')
	case list:
		text = append(text, '[')
		for i, item := range n.items {
			if i > 0 {
				text = append(text, ", "...)
			}
			text = item.appendFlow(text)
		}
		return append(text, ']')
	}
	if last := len(n.text) - 1; n.text[0] == '"' && isPlain(n.text[1:last]) {
		return append(text, n.text[1:last]...)
	}
	return append(text, n.text...) // YAML reads JSON
}

// isPlain reports whether YAML 1.1 and 1.2 read a text without quotes as that text.
func isPlain(s string) bool {
	switch strings.ToLower(s) {
	case "", "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return false
	}
	numeric := 0 // bytes of a number or, in 1.1, of 12:30
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', i > 0 && strings.IndexByte(".:+-", c) >= 0:
			numeric++
		case 'a' <= c|0x20 && c|0x20 <= 'z', c == '/', i > 0 && (c == '_' || c == '@'):
		default:
			return false
		}
	}
	isAddr := strings.Count(s, ".") == 3 || strings.Contains(s, "::")
	return s[len(s)-1] != ':' && (numeric < len(s) || isAddr) &&
		(s[0] > '9' || token.New(s, s, nil).Type == token.StringType)
}

// appendPlain appends a text, in quotes if it needs them.
func appendPlain(text []byte, s string) []byte {
	if isPlain(s) {
		return append(text, s...)
	}
	text, _ = jsontext.AppendQuote(text, s)
	return text
}
