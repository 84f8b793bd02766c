package file

import (
	"bytes"
	"errors"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// parseJSON returns the value of a file of JSON. Only an *Error is for people; another one
// means that the file is not JSON.
func parseJSON(in *source) (*node, error) {
	p := jsonParser{Decoder: jsontext.NewDecoder(bytes.NewReader(in.text)), place: in.at(0)}
	n, err := p.value()
	if err == nil && len(bytes.TrimSpace(in.text[p.InputOffset():])) > 0 {
		err = errors.New("text follows the value")
	}
	return n, err
}

// jsonParser makes nodes of the tokens of JSON.
type jsonParser struct {
	*jsontext.Decoder
	place        // of the byte at offset
	offset int64 // of a token that was read
	values int
}

// move moves to the token that was read last, which has this many bytes.
func (p *jsonParser) move(length int) place {
	begin := p.InputOffset() - int64(length)
	for text := range bytes.Lines(p.in.text[p.offset:begin]) {
		p.column += int32(utf8.RuneCount(text))
		if text[len(text)-1] == '\n' {
			p.line, p.column = p.line+1, 1
		}
	}
	p.offset = begin
	return p.place
}

func (p *jsonParser) value() (*node, error) {
	switch p.values++; {
	case p.StackDepth() > maxDepth:
		return nil, p.errorf("values are nested deeper than %d here", maxDepth)
	case p.values > maxValues:
		return nil, p.errorf("the file has more than %d values", maxValues)
	}
	switch p.PeekKind() {
	case '{', '[':
		begin, err := p.ReadToken()
		if err != nil {
			return nil, err
		}
		n := &node{place: p.move(1), kind: list}
		if begin.Kind() == '[' {
			err = p.items(n)
		} else {
			n.kind = object
			err = p.members(n)
		}
		return n, err
	}
	text, err := p.ReadValue()
	if err != nil {
		return nil, err
	}
	return &node{place: p.move(len(text)), text: string(text)}, nil
}

// items reads the rest of a list.
func (p *jsonParser) items(n *node) error {
	for p.PeekKind() != ']' {
		item, err := p.value()
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
	_, err := p.ReadToken()
	return err
}

// members reads the rest of an object.
func (p *jsonParser) members(n *node) error {
	for p.PeekKind() != '}' {
		raw, err := p.ReadValue()
		if err != nil {
			return err
		}
		at := p.move(len(raw))
		name, err := jsontext.AppendUnquote(nil, raw)
		if err != nil {
			return err
		}
		value, err := p.value()
		if err != nil {
			return err
		}
		n.members = append(n.members, member{at, string(name), value})
	}
	_, err := p.ReadToken()
	return err
}
