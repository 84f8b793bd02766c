package main

import (
	"bufio"
	"fmt"
	"regexp"

	"github.com/go-json-experiment/json/jsontext"
)

// yamlWriter writes JSON as YAML. It does not keep what it has written, because a list may
// have a million elements.
type yamlWriter struct {
	json    *jsontext.Decoder
	out     *bufio.Writer
	scalars map[string]string // how texts are written, of those that were written
}

// value writes the next value behind a key (':'), a dash ('-') or nothing (0), with its lines
// that far from the margin.
func (w yamlWriter) value(indent int, after byte) error {
	token, err := w.json.ReadToken()
	if err != nil {
		return err
	}
	kind, empty := token.Kind(), "[]"
	if kind == '{' {
		empty = "{}"
	} else if kind != '[' {
		w.scalar(token, after)
		return w.out.WriteByte('\n')
	}
	n := 0
	for ; w.json.PeekKind() != '}' && w.json.PeekKind() != ']'; n++ {
		switch {
		case n == 0 && after == '-':
			w.out.WriteByte(' ')
		case n == 0 && after == ':':
			w.out.WriteByte('\n')
			fallthrough
		default:
			pad(w.out, indent)
		}
		mark := byte('-')
		if kind == '{' {
			key, err := w.json.ReadToken()
			if err != nil {
				return err
			}
			w.scalar(key, 0)
			mark = ':'
		}
		w.out.WriteByte(mark)
		if err := w.value(indent+2, mark); err != nil {
			return err
		}
	}
	if n == 0 {
		fmt.Fprintf(w.out, " %s\n", empty)
	}
	_, err = w.json.ReadToken()
	return err
}

// plain are the words that YAML, of any version, takes for themselves.
var plain = regexp.MustCompile(`^([A-Za-z_][\w./-]*(:[\w./-]+)*|\d+(\.\d+){3}(:\d+|/\d+)?|\d+[a-z]+)$`)

// reserved are words that YAML takes for other values.
var reserved = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null|\d+e\d*)$`)

func (w yamlWriter) scalar(token jsontext.Token, after byte) {
	if after != 0 {
		w.out.WriteByte(' ')
	}
	text := token.String()
	if token.Kind() != '"' {
		w.out.WriteString(text)
		return
	}
	written, ok := w.scalars[text]
	if !ok {
		if written = text; !plain.MatchString(text) || reserved.MatchString(text) {
			quoted, _ := jsontext.AppendQuote(nil, text)
			written = string(quoted)
		}
		if len(w.scalars) < 1<<16 {
			w.scalars[text] = written
		}
	}
	w.out.WriteString(written)
}
