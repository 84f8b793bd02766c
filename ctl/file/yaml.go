package file

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxDepth is how deep values nest. The others are of YAML: the most bytes of a file, about
// its most tokens, which take up to 800 bytes each, and the most members of an object, which
// take quadratic time.
const (
	maxDepth   = 10
	maxYAML    = 16 << 20
	maxTokens  = 5 << 18
	maxMembers = 128
)

// parseYAML returns the value of a file; nil: it is empty.
func parseYAML(in *source) (n *node, err error) {
	defer func() { // a fault of the parser must not end a director that reloads
		if fault := recover(); fault != nil {
			err = place{in: in}.errorf("cannot be read as YAML: %v", fault)
		}
	}()
	tokens, err := in.scan()
	if err != nil {
		return nil, err
	}
	c := checker{source: in}
	if err := c.check(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if wrong, ok := errors.AsType[yaml.Error](err); ok {
		return nil, in.placeOf(wrong.GetToken()).errorf("%s", wrong.GetMessage())
	} else if err != nil {
		return nil, place{in: in}.errorf("%v", err)
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, nil
	}
	w := walker{in: in, anchors: map[string]*node{}}
	return w.node(file.Docs[0].Body)
}

// scan returns the tokens without comments.
func (s *source) scan() (tokens token.Tokens, err error) {
	n := 0
	for _, c := range s.text {
		if strings.IndexByte("-?:,[]{}#&*!|>'\"\n", c) >= 0 {
			n++
		}
	}
	if n <= maxTokens && len(s.text) <= maxYAML {
		tokens = lexer.Tokenize(string(s.text))
	}
	if n > maxTokens || len(s.text) > maxYAML || len(tokens) > maxTokens {
		return nil, place{in: s}.errorf("the file is too long for YAML; write JSON, or divide it and include the parts")
	}
	if t := tokens.InvalidToken(); t != nil {
		return nil, s.placeOf(t).errorf("%s", t.Error)
	}
	return slices.DeleteFunc(tokens, func(t *token.Token) bool { return t.Type == token.CommentType }), nil
}

func (s *source) placeOf(t *token.Token) place {
	return place{s, int32(t.Position.Line), int32(t.Position.Column)}
}

// checker refuses what takes the parser of goccy too long or too deep, and what it takes
// though it is not YAML.
type checker struct {
	*source
	brackets []bracket    // that a token is in
	blocks   []block      // that a token is in, outside brackets
	anchored *token.Token // the NAME of the last &NAME
}

type bracket struct {
	*token.Token
	named bool // NAME: was read
}

// block is a list or an object without brackets.
type block struct{ column, members int }

func (c *checker) check(tokens []*token.Token) error {
	for i, t := range tokens {
		before, next := tokens[max(i-1, 0)], tokens[min(i+1, len(tokens)-1)]
		if err := c.token(before, t, next); err != nil {
			return err
		}
		if len(c.blocks)+len(c.brackets) > maxDepth {
			return c.placeOf(t).errorf("values are nested deeper than %d here", maxDepth)
		}
	}
	if n := len(c.brackets); n > 0 {
		return c.placeOf(c.brackets[n-1].Token).errorf("this %s has no end", c.brackets[n-1].Value)
	}
	return nil
}

// token checks a token, with those before and after it; the first and the last are their own.
func (c *checker) token(before, t, next *token.Token) error {
	at := c.placeOf(t)
	if ended := before.Type == token.DocumentEndType && t.Type != token.DocumentEndType; before != t &&
		(ended || t.Type == token.DocumentHeaderType) {
		return at.errorf("a second document begins here; a file has one")
	}
	switch t.Type {
	case token.TagType, token.DirectiveType, token.MappingKeyType:
		return at.errorf("%s: tags, directives and complex keys are not taken here", t.Value)
	case token.AnchorType, token.AliasType:
		if next == t || next.Position.Line != t.Position.Line {
			return at.errorf("%s is followed by a name", t.Value)
		}
		if t.Type == token.AnchorType && c.anchored == before {
			return at.errorf("a value has one anchor")
		}
		c.anchored = next
	case token.MappingStartType, token.SequenceStartType:
		c.brackets = append(c.brackets, bracket{Token: t})
	case token.MappingEndType, token.SequenceEndType, token.CollectEntryType:
		return c.end(before, t)
	case token.SequenceEntryType:
		if len(c.brackets) > 0 {
			return at.errorf("a list in brackets has no dashes")
		}
		if next.Position.Line > t.Position.Line && next.Position.Column <= t.Position.Column {
			return at.errorf("this item has no value")
		}
		_, err := c.block(t)
		return err
	case token.MappingValueType:
		return c.name(before, t, next)
	}
	return nil
}

// end checks a comma or the end of brackets.
func (c *checker) end(before, t *token.Token) error {
	in := &bracket{Token: t}
	if n := len(c.brackets) - 1; n >= 0 {
		in = &c.brackets[n]
	}
	isComma := t.Type == token.CollectEntryType
	isEmpty := before.Type == token.MappingStartType || before.Type == token.CollectEntryType
	switch {
	case !isComma && in.Type != t.Type-1:
		return c.placeOf(t).errorf("this %s has no beginning", t.Value)
	case in.Type == token.MappingStartType && !in.named && (isComma || !isEmpty):
		return c.placeOf(before).errorf("%s is not NAME: VALUE", strconv.Quote(before.Value))
	case !isComma:
		c.brackets = c.brackets[:len(c.brackets)-1]
	}
	in.named = false
	return nil
}

// name checks a name before a colon.
func (c *checker) name(name, colon, next *token.Token) error {
	at := c.placeOf(name)
	isEmpty := next.Type == token.CollectEntryType || next.Type == token.MappingEndType
	if n := len(c.brackets) - 1; n >= 0 {
		in := &c.brackets[n]
		if in.named || in.Type != token.MappingStartType {
			return at.errorf("%s cannot begin here", strconv.Quote(name.Value))
		}
		in.named = true
	} else {
		b, err := c.block(name)
		if err != nil {
			return err
		}
		if b.members++; b.members > maxMembers {
			return at.errorf(tooMany, maxMembers)
		}
		isEmpty = len(c.blocks) > 1 && next.Position.Line > colon.Position.Line && (next.Position.Column < b.column ||
			next.Position.Column == b.column && next.Type != token.SequenceEntryType)
	}
	switch {
	case len(name.Value) > maxName:
		return at.errorf("a name of %d bytes is not known", len(name.Value))
	case isEmpty:
		return at.errorf(noValue, name.Value)
	}
	return nil
}

const tooMany = "an object has more than %d names"

// block returns the innermost block of a name or a dash.
func (c *checker) block(t *token.Token) (*block, error) {
	margin := t.Origin[:len(t.Origin)-len(strings.TrimLeft(t.Origin, " \t\n"))]
	if strings.Contains(margin[strings.LastIndexByte(margin, '\n')+1:], "\t") {
		return nil, c.placeOf(t).errorf("a tab does not indent; write spaces")
	}
	column := t.Position.Column
	for len(c.blocks) > 0 && c.blocks[len(c.blocks)-1].column > column {
		c.blocks = c.blocks[:len(c.blocks)-1]
	}
	if len(c.blocks) == 0 || c.blocks[len(c.blocks)-1].column < column {
		c.blocks = append(c.blocks, block{column: column})
	}
	return &c.blocks[len(c.blocks)-1], nil
}

// walker makes nodes of those of goccy.
type walker struct {
	in      *source
	anchors map[string]*node
	merged  int // members
}

func (w *walker) node(from ast.Node) (*node, error) {
	n := &node{place: w.in.placeOf(from.GetToken())}
	switch from := from.(type) {
	case *ast.MappingNode:
		return w.object(from)
	case *ast.SequenceNode:
		n.kind = list
		for _, v := range from.Values {
			item, err := w.node(v)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
		return n, nil
	case *ast.AnchorNode:
		n, err := w.node(from.Value)
		w.anchors[from.Name.GetToken().Value] = n // from here on, so it cannot contain itself
		return n, err
	case *ast.AliasNode:
		name := from.Value.GetToken().Value
		if n := w.anchors[name]; n != nil {
			return n, nil
		}
		return nil, n.errorf("there is no &%s before this *%s", name, name)
	case *ast.LiteralNode:
		return n.quote(from.Value.Value)
	}
	return n, n.scalar(from.GetToken())
}

func (w *walker) object(from *ast.MappingNode) (*node, error) {
	n := &node{place: w.in.placeOf(from.Start), kind: object}
	if !from.IsFlowStyle {
		n.place = w.in.placeOf(from.Values[0].Key.GetToken())
	}
	if len(from.Values) > maxMembers {
		return nil, n.errorf(tooMany, maxMembers)
	}
	var merges []*node // of <<, in order
	for _, v := range from.Values {
		name := v.Key.GetToken()
		switch name.Type {
		case token.AnchorType, token.AliasType, token.LiteralType, token.FoldedType:
			return nil, w.in.placeOf(name).errorf("%s is not a name", name.Value)
		}
		m := member{place: w.in.placeOf(name), name: name.Value}
		var err error
		if m.value, err = w.node(v.Value); err != nil {
			return nil, err
		}
		first := n.member(m.name)
		switch {
		case v.Key.IsMergeKey():
			merge := []*node{m.value}
			if m.value.kind == list {
				merge = m.value.items
			}
			if slices.ContainsFunc(merge, func(n *node) bool { return n.kind != object }) {
				return nil, m.errorf("<< takes the *NAME of an object")
			}
			merges = append(merges, merge...)
		case first != nil:
			return nil, m.errorf("%s is given twice; first in line %d", m.name, first.line)
		default:
			n.members = append(n.members, m)
		}
	}
	for _, from := range merges {
		if w.merged += len(from.members); w.merged > maxValues || len(n.members) > maxMembers {
			return nil, n.errorf("%d members are too many to merge", max(w.merged, len(n.members)))
		}
		for _, m := range from.members {
			if n.member(m.name) == nil {
				n.members = append(n.members, m)
			}
		}
	}
	return n, nil
}

// scalar sets the text of a text, a number or a word such as true.
func (n *node) scalar(t *token.Token) error {
	switch t.Type {
	case token.BoolType:
		n.text = strings.ToLower(t.Value)
	case token.NullType, token.ImplicitNullType:
		n.text = "null"
	case token.StringType, token.SingleQuoteType, token.DoubleQuoteType:
		_, err := n.quote(t.Value)
		return err
	case token.IntegerType, token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType, token.FloatType:
		if t.Type == token.OctetIntegerType && !strings.Contains(t.Value, "0o") {
			return n.errorf("%s can be read as octal or as decimal; write it without the 0, or with 0o", t.Value)
		}
		if n.text = t.Value; t.Type != token.FloatType || !jsontext.Value(n.text).IsValid() {
			n.text = fmt.Sprint(token.ToNumber(t.Value).Value)
		}
	default:
		return n.errorf("%s cannot stand here; write a text, a number, true or false", t.Value)
	}
	return nil
}

// quote sets the text of a text.
func (n *node) quote(text string) (*node, error) {
	quoted, err := jsontext.AppendQuote(nil, text)
	if n.text = string(quoted); err != nil {
		return nil, n.errorf("this is not UTF-8")
	}
	return n, nil
}
