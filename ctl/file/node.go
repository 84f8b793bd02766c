package file

import (
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// node is a value of a file.
type node struct {
	place
	kind    kind
	text    string   // of a scalar, as JSON
	members []member // of an object
	items   []*node  // of a list
}

// kind is that of a value.
type kind uint8

const (
	scalar kind = iota
	object
	list
)

// member is a NAME: VALUE of an object.
type member struct {
	place // of the name
	name  string
	value *node
}

// place is where in a file something begins.
type place struct {
	in           *source
	line, column int32 // from 1, in characters
}

func (n *node) isNull() bool { return n.kind == scalar && n.text == "null" }

// member returns the member of a name, or nil.
func (n *node) member(name string) *member {
	if i := slices.IndexFunc(n.members, func(m member) bool { return m.name == name }); i >= 0 {
		return &n.members[i]
	}
	return nil
}

// list returns the items of a member, if there is one.
func (n *node) list(name string) []*node {
	if m := n.member(name); m != nil {
		return m.value.items
	}
	return nil
}

// find returns the place of the value that a pointer leads to or, if there is none, of the
// last on the way. That of a member is the place of its name.
func (n *node) find(p jsontext.Pointer) place {
	at := n.place
	for name := range p.Tokens() {
		if i, err := strconv.Atoi(name); n.kind == list && err == nil && i < len(n.items) {
			n = n.items[i]
			at = n.place
			continue
		}
		m := n.member(name)
		if m == nil {
			break
		}
		n, at = m.value, m.place
	}
	return at
}

// The most bytes of a configuration as JSON and the most values in it, after its aliases
// (*NAME) are replaced, and the most bytes of a name.
const (
	maxJSON   = MaxSize
	maxValues = 2 << 20
	maxName   = 32
)

const noValue = "%s has no value; leave it out, or write [] for an empty list"

// encoder writes values as JSON.
type encoder struct {
	text   []byte
	values int
}

// append appends a value. root: it is the whole file, where NAME without a value is an
// empty section.
func (e *encoder) append(n *node, root bool) error {
	if e.values++; len(e.text) > maxJSON || e.values > maxValues {
		return n.errorf("the configuration is longer than %d bytes or %d values", maxJSON, maxValues)
	}
	switch n.kind {
	case list:
		return e.appendList(n)
	case object:
		return e.appendObject(n, root)
	}
	e.text = append(e.text, n.text...)
	return nil
}

func (e *encoder) appendList(n *node) error {
	e.text = append(e.text, '[')
	for i, item := range n.items {
		if i > 0 {
			e.text = append(e.text, ',')
		}
		if item.isNull() {
			return item.errorf("this item has no value")
		}
		if err := e.append(item, false); err != nil {
			return err
		}
	}
	e.text = append(e.text, ']')
	return nil
}

func (e *encoder) appendObject(n *node, root bool) (err error) {
	e.text = append(e.text, '{')
	first := true
	for _, m := range n.members {
		switch {
		case m.value.isNull() && root:
			continue
		case m.value.isNull():
			return m.errorf(noValue, m.name)
		case len(m.name) > maxName:
			return m.errorf("a name of %d bytes is not known", len(m.name))
		case !first:
			e.text = append(e.text, ',')
		}
		first = false
		if e.text, err = jsontext.AppendQuote(e.text, m.name); err != nil {
			return m.errorf("%v", err)
		}
		e.text = append(e.text, ':')
		if err := e.append(m.value, false); err != nil {
			return err
		}
	}
	e.text = append(e.text, '}')
	return nil
}
