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
	return root.yaml(), nil
}

func toNode(v any) (*node, error) {
	text, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	return parseJSON(&source{"", text})
}

func (n *node) yaml() []byte {
	if n.isSimple() {
		return append(n.appendFlow(nil), '\n')
	}
	return n.appendBlock(nil, 0, true)
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
	if s, err := jsontext.AppendUnquote(nil, n.text); err == nil {
		return appendPlain(text, string(s))
	}
	return append(text, n.text...)
}

// plainBytes are those of texts that need no quotes; such a text begins with one of the first
// plainFirst of them.
const (
	plainBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_.:@+-"
	plainFirst = 63
)

// isPlain reports whether YAML 1.1 and 1.2 read a text without quotes as that text.
func isPlain(s string) bool {
	switch strings.ToLower(s) {
	case "", "y", "n", "yes", "no", "on", "off":
		return false
	}
	isAddr := strings.Count(s, ".") == 3 || strings.Contains(s, "::")
	isNumber := strings.Trim(s, "0123456789.:+-") == "" && !isAddr // 1.1 reads 12:30 as 750
	return strings.Trim(s, plainBytes) == "" && strings.IndexByte(plainBytes[:plainFirst], s[0]) >= 0 &&
		!strings.HasSuffix(s, ":") && !isNumber && token.New(s, s, nil).Type == token.StringType
}

// appendPlain appends a text, in quotes if it needs them.
func appendPlain(text []byte, s string) []byte {
	if isPlain(s) {
		return append(text, s...)
	}
	text, _ = jsontext.AppendQuote(text, s)
	return text
}
