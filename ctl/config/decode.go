package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DecodeError is why a JSON text does not describe what it should. Message names the value
// and what would be right.
type DecodeError struct {
	Pointer jsontext.Pointer // RFC 6901, to the value
	Message string
}

// Error returns the path to the value, such as services[3].port, and the message.
func (e *DecodeError) Error() string {
	if path := Path(e.Pointer); path != "" {
		return path + ": " + e.Message
	}
	return e.Message
}

// Path writes a pointer as people do: services[3].port.
func Path(p jsontext.Pointer) string {
	var b strings.Builder
	for name := range p.Tokens() {
		switch _, err := strconv.Atoi(name); {
		case err == nil:
			fmt.Fprintf(&b, "[%s]", name)
		case b.Len() > 0:
			b.WriteString("." + name)
		default:
			b.WriteString(name)
		}
	}
	return b.String()
}

// Decode decodes a JSON text into v. It refuses names that v does not have or that come
// twice. The error is a *DecodeError.
func Decode(text []byte, v any) error {
	err := json.Unmarshal(text, v, json.RejectUnknownMembers(true), withDefaults)
	if err == nil {
		return nil
	}
	if s, ok := errors.AsType[*json.SemanticError](err); ok {
		if refused, ok := errors.AsType[*Error](s.Err); ok {
			return &DecodeError{s.JSONPointer + refused.Pointer, refused.Message}
		}
		return &DecodeError{s.JSONPointer, explain(s, text)}
	}
	if s, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return &DecodeError{s.JSONPointer, s.JSONPointer.LastToken() + " is given twice"}
		}
		return &DecodeError{s.JSONPointer, fmt.Sprintf("this is not JSON: byte %d: %v", s.ByteOffset, s.Err)}
	}
	return &DecodeError{Message: err.Error()}
}

// withDefaults decodes objects that have defaults other than zero values, and nets, which may be
// single addresses.
var withDefaults = json.WithUnmarshalers(json.JoinUnmarshalers(
	json.UnmarshalFromFunc(func(dec *jsontext.Decoder, s *Service) error {
		type plain Service
		p := plain{Scheduler: "wlc"}
		err := json.UnmarshalDecode(dec, &p)
		*s = Service(p)
		s.Sorry.TakePort(s.ServiceKey)
		for i := range s.Servers {
			s.Servers[i].TakePort(s.ServiceKey)
		}
		return err
	}),
	json.UnmarshalFromFunc(func(dec *jsontext.Decoder, r *Run) error {
		type plain Run
		*r = DefaultRun()
		return json.UnmarshalDecode(dec, (*plain)(r))
	}),
	json.UnmarshalFromFunc(func(dec *jsontext.Decoder, op *Op) error {
		type plain Op
		err := json.UnmarshalDecode(dec, (*plain)(op))
		if op.Service != nil {
			op.Server.TakePort(op.Service.ServiceKey)
		}
		return err
	}),
	json.UnmarshalFromFunc(func(dec *jsontext.Decoder, s *Server) error {
		type plain Server
		p := struct {
			plain
			Port   *uint16 `json:"port"`
			Weight *int32  `json:"weight"`
		}{}
		err := json.UnmarshalDecode(dec, &p)
		*s = Server(p.plain)
		if s.Weight = 1; p.Weight != nil {
			s.Weight = *p.Weight
		}
		if s.withoutPort = p.Port == nil; p.Port != nil {
			s.Port = *p.Port
		}
		return err
	}),
	json.UnmarshalFromFunc(func(dec *jsontext.Decoder, p *netip.Prefix) (err error) {
		var text string
		if err = json.UnmarshalDecode(dec, &text); err == nil {
			*p, err = ParseNet(text)
		}
		return err
	}),
))

// explain returns what is wrong with a value in a text.
func explain(s *json.SemanticError, text []byte) string {
	value := valueAt(text, s.JSONPointer)
	switch {
	case errors.Is(s.Err, json.ErrUnknownName):
		return unknownName(s.JSONPointer.LastToken(), memberNames(s.GoType))
	case s.GoType == reflect.TypeFor[netip.Addr]():
		return value + " is not an IP address"
	case s.Err != nil && strings.HasPrefix(value, `"`) && isText(s.GoType):
		return s.Err.Error()
	}
	return fmt.Sprintf("%s is not %s", value, wanted(s.GoType))
}

// valueAt returns the value of a text that a pointer leads to, unless it is long.
func valueAt(text []byte, p jsontext.Pointer) string {
	v := jsontext.Value(text)
	for name := range p.Tokens() {
		if v.Kind() == '[' {
			var list []jsontext.Value
			i, err := strconv.Atoi(name)
			if json.Unmarshal(v, &list) == nil && err == nil && i < len(list) {
				v = list[i]
			}
			continue
		}
		var object map[string]jsontext.Value
		if json.Unmarshal(v, &object) == nil {
			v = object[name]
		}
	}
	switch v.Kind() {
	case '[':
		return "a list"
	case '{':
		return "an object"
	}
	return string(v)
}

// isText reports whether values of a type are texts.
func isText(t reflect.Type) bool {
	return t.Kind() == reflect.String ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// wanted describes the values that a type takes.
func wanted(t reflect.Type) string {
	switch k := t.Kind(); {
	case isText(t):
		return "a text"
	case k == reflect.Pointer:
		return wanted(t.Elem())
	case k == reflect.Bool:
		return "true or false"
	case k == reflect.Slice, k == reflect.Array:
		return "a list"
	case k == reflect.Struct, k == reflect.Map:
		return "an object (NAME: VALUE)"
	}
	return numbersOf(t)
}

// numbersOf describes the numbers of an integer type.
func numbersOf(t reflect.Type) string {
	unused := 64 - uint(t.Bits())
	if unused == 0 {
		return "a whole number"
	}
	if k := t.Kind(); reflect.Int <= k && k <= reflect.Int64 {
		least, most := int64(math.MinInt64)>>unused, int64(math.MaxInt64)>>unused
		return fmt.Sprintf("a whole number from %d to %d", least, most)
	}
	return fmt.Sprintf("a whole number from 0 to %d", uint64(math.MaxUint64)>>unused)
}

// memberNames returns the names that an object for a struct can have.
func memberNames(t reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// unknownName says that a name is not among known ones, and which one may be meant.
func unknownName(name string, known []string) string {
	if near := Nearest(name, known); near != "" {
		return fmt.Sprintf("%s is not known here; did you mean %s?", name, near)
	}
	return fmt.Sprintf("%s is not known here; there are %s", name, strings.Join(known, ", "))
}

// Nearest returns the one of known names that a wrong name may mean, or "".
func Nearest(name string, known []string) (near string) {
	best := 1 + max(1, len(name)/3)
	for _, k := range known {
		d := distance(name, k)
		if d > 1 && strings.HasPrefix(k, name) && name != "" {
			d = 1
		}
		if d < best {
			near, best = k, d
		}
	}
	return near
}

// distance returns the number of letters to insert, delete or replace, or of neighbours to
// exchange, that turn a into b.
func distance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			changed := row[j]
			if a[i] != b[j] {
				changed++
			}
			next[j+1] = min(changed, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
