package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"
)

// maxDepth is how deep values nest. maxYAML is the most bytes of a file of YAML, and maxTokens
// about its most tokens: the scanner takes 30 bytes for each byte and 300 for each token.
const (
	maxDepth  = 32
	maxYAML   = 16 << 20
	maxTokens = 2 << 20
)

// parser makes nodes of the tokens of YAML.
type parser struct {
	in      *source
	tokens  []*token.Token // without comments
	tabbed  map[int]bool   // lines indented by tabs
	anchors map[string]*node
	depth   int
}

// parseYAML returns the value of a file; nil: it is empty.
func parseYAML(in *source) (*node, error) {
	p := parser{in: in, tabbed: map[int]bool{}, anchors: map[string]*node{}}
	if err := p.scan(); err != nil {
		return nil, err
	}
	if p.is(token.DocumentHeaderType) {
		p.next()
	}
	if p.peek() == nil {
		return nil, nil
	}
	n, err := p.block(0, false)
	if err != nil {
		return nil, err
	}
	for p.is(token.DocumentEndType) {
		p.next()
	}
	switch t := p.peek(); {
	case t == nil:
		return n, nil
	case t.Type == token.DocumentHeaderType:
		return nil, p.at(t).errorf("a second document begins here; a file has one")
	default:
		return nil, p.unexpected(t)
	}
}

// scan scans the tokens.
func (p *parser) scan() error {
	n, line := 0, 0
	for text := range bytes.Lines(p.in.text) {
		line++
		if rest := bytes.TrimLeft(text, " "); len(rest) > 0 && rest[0] == '\t' {
			p.tabbed[line] = true
		}
		for _, c := range text {
			if strings.IndexByte("-?:,[]{}#&*!|>'\"\n", c) >= 0 {
				n++
			}
		}
	}
	if n > maxTokens || len(p.in.text) > maxYAML {
		return place{in: p.in}.errorf("the file is too long for YAML; write JSON, or divide it and include the parts")
	}
	var s scanner.Scanner
	s.Init(string(p.in.text))
	for {
		tokens, err := s.Scan()
		if errors.Is(err, io.EOF) {
			return nil
		}
		for _, t := range tokens {
			switch t.Type {
			case token.InvalidType:
				return p.at(t).errorf("%s", t.Error)
			case token.CommentType, token.SpaceType:
			default:
				p.tokens = append(p.tokens, t)
			}
		}
		if err != nil {
			return place{in: p.in}.errorf("%v", err)
		}
	}
}

// peek returns the next token, or nil.
func (p *parser) peek() *token.Token { return p.peekAt(0) }

func (p *parser) peekAt(i int) *token.Token {
	if i < len(p.tokens) {
		return p.tokens[i]
	}
	return nil
}

// is reports whether the next token is of a type.
func (p *parser) is(t token.Type) bool { return len(p.tokens) > 0 && p.tokens[0].Type == t }

func (p *parser) next() *token.Token {
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t
}

func (p *parser) at(t *token.Token) place {
	return place{p.in, int32(t.Position.Line), int32(t.Position.Column)}
}

func (p *parser) unexpected(t *token.Token) error {
	switch t.Type {
	case token.TagType, token.DirectiveType, token.MappingKeyType:
		return p.at(t).errorf("%s: tags, directives and complex keys are not taken here", t.Value)
	case token.MappingValueType:
		return p.at(t).errorf("there is no name before this colon")
	}
	return p.at(t).errorf("%s does not fit here: look at the indentation, brackets and quotes before it",
		strconv.Quote(t.Value))
}

// enter begins a value in a value; leave ends it.
func (p *parser) enter(t *token.Token) error {
	if p.depth++; p.depth > maxDepth {
		return p.at(t).errorf("values are nested deeper than %d here", maxDepth)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// isName reports whether the next token is the name of a member.
func (p *parser) isName() bool {
	colon := p.peekAt(1)
	return colon != nil && colon.Type == token.MappingValueType && (isScalar(p.peek()) || p.is(token.MergeKeyType))
}

// block parses a value that is not within brackets. A list or an object begins right of the
// column indent; after a name it begins on another line.
func (p *parser) block(indent int, afterName bool) (*node, error) {
	t := p.peek()
	if err := p.enter(t); err != nil {
		return nil, err
	}
	defer p.leave()
	switch starts := p.is(token.SequenceEntryType) || p.isName(); {
	case starts && p.tabbed[t.Position.Line]:
		return nil, p.at(t).errorf("a tab does not indent; write spaces")
	case starts && afterName:
		return nil, p.at(t).errorf("%s cannot begin on the line of a name; write it on a line below",
			strconv.Quote(t.Value))
	case starts && t.Position.Column <= indent:
		return nil, p.unexpected(t)
	case p.is(token.SequenceEntryType):
		return p.blockList()
	case p.isName():
		return p.blockObject()
	case t.Type == token.AnchorType:
		return p.anchor(func() (*node, error) { return p.after(t, indent, true) })
	}
	return p.flow()
}

// after parses the value of what the token begins: the next one, if it is on the same line or
// right of the column indent, else null.
func (p *parser) after(begin *token.Token, indent int, afterName bool) (*node, error) {
	switch t := p.peek(); {
	case t != nil && t.Position.Line == begin.Position.Line:
		return p.block(indent, afterName)
	case t != nil && t.Position.Column > indent && t.Type != token.DocumentHeaderType &&
		t.Type != token.DocumentEndType:
		return p.block(indent, false)
	}
	return &node{place: p.at(begin), text: "null"}, nil
}

func (p *parser) blockList() (*node, error) {
	first := p.peek()
	n := &node{place: p.at(first), kind: list}
	for p.is(token.SequenceEntryType) && p.peek().Position.Column == first.Position.Column {
		item, err := p.after(p.next(), first.Position.Column, false)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, item)
	}
	return n, nil
}

func (p *parser) blockObject() (*node, error) {
	column := p.peek().Position.Column
	o := p.newObject(p.peek())
	for p.peek() != nil && p.peek().Position.Column == column && p.isName() {
		name, colon := p.next(), p.next()
		if colon.Position.Line != name.Position.Line {
			return nil, p.at(name).errorf("a name and its colon stand on one line")
		}
		indent := column
		if t := p.peek(); t != nil && t.Type == token.SequenceEntryType && t.Position.Line != colon.Position.Line {
			indent-- // the dashes of a list may stand below the name
		}
		value, err := p.after(colon, indent, true)
		if err == nil {
			err = o.add(name, value)
		}
		if err != nil {
			return nil, err
		}
	}
	return o.merged(), nil
}

// flow parses a scalar, an alias or what stands in brackets.
func (p *parser) flow() (*node, error) {
	t := p.peek()
	if err := p.enter(t); err != nil {
		return nil, err
	}
	defer p.leave()
	switch t.Type {
	case token.SequenceStartType:
		return p.flowList()
	case token.MappingStartType:
		return p.flowObject()
	case token.AnchorType:
		return p.anchor(func() (*node, error) {
			if p.peek() == nil {
				return nil, p.unexpected(t)
			}
			return p.flow()
		})
	case token.AliasType:
		p.next()
		name, err := p.label(t)
		if err != nil {
			return nil, err
		}
		if n := p.anchors[name]; n != nil {
			return n, nil
		}
		return nil, p.at(t).errorf("there is no &%s before this *%s", name, name)
	case token.LiteralType, token.FoldedType:
		p.next()
		text := ""
		if p.is(token.StringType) {
			text = p.next().Value
		}
		return p.text(t, text)
	}
	if !isScalar(t) {
		return nil, p.unexpected(t)
	}
	return p.scalar(p.next())
}

// label returns the NAME of &NAME or *NAME.
func (p *parser) label(t *token.Token) (string, error) {
	name := p.peek()
	if name == nil || name.Position.Line != t.Position.Line || !isScalar(name) || name.Value == "" {
		return "", p.at(t).errorf("%s is followed by a name", t.Value)
	}
	return p.next().Value, nil
}

// anchor parses &NAME and its value.
func (p *parser) anchor(value func() (*node, error)) (*node, error) {
	name, err := p.label(p.next())
	if err == nil && p.is(token.AnchorType) {
		err = p.unexpected(p.peek())
	}
	if err != nil {
		return nil, err
	}
	n, err := value()
	p.anchors[name] = n // from here on, so it cannot contain itself
	return n, err
}

// flowList parses [VALUE, ...].
func (p *parser) flowList() (*node, error) {
	begin := p.next()
	n := &node{place: p.at(begin), kind: list}
	for {
		if end, err := p.ends(begin, token.SequenceEndType); end || err != nil {
			return n, err
		}
		item, err := p.flow()
		if err == nil {
			err = p.comma(token.SequenceEndType)
		}
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, item)
	}
}

// flowObject parses {NAME: VALUE, ...}.
func (p *parser) flowObject() (*node, error) {
	begin := p.next()
	o := p.newObject(begin)
	for {
		if end, err := p.ends(begin, token.MappingEndType); end || err != nil {
			return o.merged(), err
		}
		if !p.isName() {
			return nil, p.at(p.peek()).errorf("%s is not NAME: VALUE", strconv.Quote(p.peek().Value))
		}
		name, colon := p.next(), p.next()
		value := &node{place: p.at(colon), text: "null"}
		if p.peek() != nil && !p.is(token.CollectEntryType) && !p.is(token.MappingEndType) {
			var err error
			if value, err = p.flow(); err != nil {
				return nil, err
			}
		}
		err := o.add(name, value)
		if err == nil {
			err = p.comma(token.MappingEndType)
		}
		if err != nil {
			return nil, err
		}
	}
}

// ends reports whether the next token ends brackets, and takes it if so.
func (p *parser) ends(begin *token.Token, end token.Type) (bool, error) {
	switch {
	case p.peek() == nil:
		return false, p.at(begin).errorf("this %s has no end", begin.Value)
	case p.is(end):
		p.next()
		return true, nil
	}
	return false, nil
}

// comma parses the comma after a value in brackets, unless they end.
func (p *parser) comma(end token.Type) error {
	switch {
	case p.is(token.CollectEntryType):
		p.next()
	case p.peek() != nil && !p.is(end):
		return p.unexpected(p.peek())
	}
	return nil
}

// objectParser collects the members of an object.
type objectParser struct {
	*parser
	*node
	names  map[string]place
	merges []*node // of <<, in order
}

func (p *parser) newObject(t *token.Token) objectParser {
	return objectParser{p, &node{place: p.at(t), kind: object}, map[string]place{}, nil}
}

// add adds a member.
func (o *objectParser) add(name *token.Token, value *node) error {
	if name.Type == token.MergeKeyType {
		return o.merge(name, value)
	}
	at := o.parser.at(name)
	if first, ok := o.names[name.Value]; ok {
		return at.errorf("%s is given twice; first in line %d", name.Value, first.line)
	}
	o.names[name.Value] = at
	o.members = append(o.members, member{at, name.Value, value})
	return nil
}

// merge parses the value of <<, an object or a list of them.
func (o *objectParser) merge(name *token.Token, value *node) error {
	from := []*node{value}
	if value.kind == list {
		from = value.items
	}
	if slices.ContainsFunc(from, func(n *node) bool { return n.kind != object }) {
		return o.parser.at(name).errorf("<< takes the *NAME of an object")
	}
	o.merges = append(o.merges, from...)
	return nil
}

// merged returns the object with the members that it merges and has not itself.
func (o *objectParser) merged() *node {
	for _, from := range o.merges {
		for _, m := range from.members {
			if _, ok := o.names[m.name]; !ok {
				o.names[m.name] = m.place
				o.members = append(o.members, m)
			}
		}
	}
	return o.node
}

// isScalar reports whether a token is a text, a number or a word such as true.
func isScalar(t *token.Token) bool {
	switch t.Type {
	case token.StringType, token.SingleQuoteType, token.DoubleQuoteType, token.BoolType, token.NullType,
		token.IntegerType, token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType, token.FloatType,
		token.InfinityType, token.NanType:
		return true
	}
	return false
}

func (p *parser) scalar(t *token.Token) (*node, error) {
	n := &node{place: p.at(t)}
	switch t.Type {
	case token.BoolType, token.NullType:
		if n.text = strings.ToLower(t.Value); n.text == "~" {
			n.text = "null"
		}
		return n, nil
	case token.InfinityType, token.NanType:
		return nil, n.errorf("%s cannot stand here; write a text, a number, true or false", t.Value)
	case token.StringType, token.SingleQuoteType, token.DoubleQuoteType:
		return p.text(t, t.Value)
	case token.OctetIntegerType:
		if !strings.Contains(t.Value, "0o") {
			return nil, n.errorf("%s can be read as octal or as decimal; write it without the 0, or with 0o", t.Value)
		}
	}
	if n.text = t.Value; t.Type != token.FloatType || !jsontext.Value(n.text).IsValid() {
		n.text = fmt.Sprint(token.ToNumber(t.Value).Value)
	}
	return n, nil
}

// text makes a node of a text.
func (p *parser) text(t *token.Token, text string) (*node, error) {
	n := &node{place: p.at(t)}
	quoted, err := jsontext.AppendQuote(nil, text)
	if n.text = string(quoted); err != nil {
		return nil, n.errorf("this is not UTF-8")
	}
	return n, nil
}
