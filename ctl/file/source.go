package file

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSize is the most bytes of a file with what it includes.
const MaxSize = 64 << 20

// source is one file's text.
type source struct {
	name string // as the operator knows it
	text []byte // UTF-8 without a byte order mark; lines end in \n
}

// newSource checks a file's text.
func newSource(name string, text []byte) (*source, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if bytes.IndexByte(text, '\r') >= 0 {
		text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
	}
	s := &source{name, text}
	if i := bytes.IndexByte(s.text, 0); i >= 0 {
		return nil, s.at(i).errorf("this is no text: it has a byte of value 0")
	}
	for i := 0; i < len(s.text); {
		r, size := utf8.DecodeRune(s.text[i:])
		if r == utf8.RuneError && size == 1 {
			return nil, s.at(i).errorf("this is not UTF-8: byte 0x%02x", s.text[i])
		}
		i += size
	}
	return s, nil
}

// at returns the place of a byte.
func (s *source) at(offset int) place {
	before := s.text[:min(offset, len(s.text))]
	line := bytes.LastIndexByte(before, '\n') + 1
	return place{
		in: s, line: int32(bytes.Count(before, []byte("\n")) + 1),
		column: int32(utf8.RuneCount(before[line:]) + 1),
	}
}

// line returns the text of a line, from 1.
func (s *source) line(n int32) string {
	rest := s.text
	for ; n > 1; n-- {
		_, rest, _ = bytes.Cut(rest, []byte("\n"))
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(line)
}

// Error is what is wrong with a file.
type Error struct {
	Name         string
	Line, Column int // from 1; 0: it concerns the whole file
	Message      string
	Text         string // of the line; of a long line, the part around Column
}

// Error returns FILE:LINE: MESSAGE and, on two more lines, the text of the line and a mark
// below its column.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Name + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d: %s\n%6d | %s\n       | %*s", e.Name, e.Line, e.Message, e.Line, e.Text, e.Column, "^")
}

// The most characters of a message, and of a line that is shown.
const (
	maxMessage = 400
	maxShown   = 100
)

// errorf makes an *Error about a place.
func (p place) errorf(format string, args ...any) error {
	e := &Error{Name: p.in.name, Line: int(p.line), Message: printable(fmt.Sprintf(format, args...))}
	if message := []rune(e.Message); len(message) > maxMessage {
		e.Message = string(message[:maxMessage/2]) + " … " + string(message[len(message)-maxMessage/2:])
	}
	if p.line == 0 {
		return e
	}
	line := []rune(printable(p.in.line(p.line)))
	e.Column = max(1, min(int(p.column), len(line)+1))
	if from := e.Column - maxShown/2; from > 0 && len(line) > maxShown {
		line = append([]rune("… "), line[from:]...)
		e.Column -= from - 2
	}
	if len(line) > maxShown {
		line = append(line[:maxShown:maxShown], []rune(" …")...)
	}
	e.Text = strings.TrimRight(string(line), " ")
	return e
}

// printable replaces what is not to be printed, such as escapes of terminals, character by character.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}

// String is FILE:LINE.
func (p place) String() string { return fmt.Sprintf("%s:%d", p.in.name, p.line) }
