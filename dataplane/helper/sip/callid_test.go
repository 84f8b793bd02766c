package sip

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

// Which part of a message is its Call-ID.
func TestCallID(t *testing.T) {
	const first = "INVITE sip:bob@example.com SIP/2.0\r\n"
	long := strings.Repeat("x", MaxCallID)
	for _, r := range []struct{ name, message, id string }{
		{"a header", first + "Call-ID: a84b4c76e66710@pc33.example.com\r\n\r\n", "a84b4c76e66710@pc33.example.com"},
		{"after others", first + "Via: SIP/2.0/UDP pc33;branch=z9hG4bK776\r\nMax-Forwards: 70\r\nCall-ID: 1@2\r\n" +
			"CSeq: 1 INVITE\r\n\r\n", "1@2"},
		{"the compact name", first + "i: 1@2\r\n", "1@2"},
		{"in capitals", first + "I: 1@2\r\nCALL-ID: 3\r\n", "1@2"},
		{"a name that only begins like the compact one", first + "Identity: 9\r\nCall-ID: 1\r\n", "1"},
		{"no blank after the colon", first + "Call-ID:1\r\n", "1"},
		{"blanks around the colon", first + "Call-ID \t : \t1\r\n", "1"},
		{"the value on a continuation line", first + "Call-ID:\r\n 1\r\n", "1"},
		{"lines that end with LF", "INVITE\nCall-ID: 1\n", "1"},
		{"lines that end with CR", "INVITE\rCall-ID: 1\r", "1"},
		{
			"every mark of a word", first + "Call-ID: -.!%*_+`'~()<>:\\\"/[]?{}@[::1]\r\n",
			"-.!%*_+`'~()<>:\\\"/[]?{}@[::1]",
		},
		{"as long as may be", first + "Call-ID: " + long + "\r\n", long},
		{"longer", first + "Call-ID: " + long + "x\r\n", ""},
		{"one without a value is passed over", first + "Call-ID: ;\r\ni: 1\r\n", "1"},
		{"so is one without a domain after its @", first + "Call-ID: 1@\r\ni: 2\r\n", "2"},
		{"but not one whose line ends before its value", first + "Call-ID:\r\ni: 1\r\n", ""},
		{"in the first line it is none", "Call-ID: 1\r\n", ""},
		{"in a continuation line it is none", first + "Subject: x\r\n Call-ID: 1\r\n", ""},
		{"in the middle of a line it is none", first + "X-Call-ID: 1\r\n", ""},
		{"without a colon", first + "Call-ID 1\r\n", ""},
		{"followed by something", first + "Call-ID: 1 2\r\n", ""},
		{"at the end of the message", first + "Call-ID: 1", ""},
		{"the name at the end", first + "Call-ID", ""},
		{"the compact name at the end", first + "i", ""},
		{"the colon at the end", first + "i:", ""},
		{"a blank at the end", first + "i: ", ""},
		{"an empty message", "", ""},
		{"line ends only", "\r\n\r\n\n\r", ""},
	} {
		id, ok := CallID([]byte(r.message))
		if string(id) != r.id || ok != (r.id != "") {
			t.Errorf("%s: %q %v, want %q", r.name, id, ok, r.id)
		}
	}
}

// callIDs describes a Call-ID header by a regular expression.
var callIDs = func() *regexp.Regexp {
	const end, word = `(?:\r\n|\n|\r)`, `[-0-9a-z.!%*_+` + "`" + `'~()<>:\\"/\[\]?{}]+`
	const blanks = `[ \t]*(?:` + end + `[ \t]+)?`
	return regexp.MustCompile(`(?i)` + end + `(?:call-id|i)` + blanks + `:` + blanks + `(` + word + `(?:@` + word +
		`)?)[\r\n]`)
}()

// FuzzCallID: any bytes are read without harm, and the regular expression finds the
// same header.
func FuzzCallID(f *testing.F) {
	for _, s := range []string{
		"X\r\nCall-ID: 1@2\r\n", "X\ni:\n 1\n", "X\r\ni: ;\r\nCall-ID: 1@\r\nI : 3\r\n",
		"X\r\ni", "X\r\ni:", "X\r\nCall-ID:\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		id, ok := CallID(message)
		if !ok {
			return
		}
		for rest := message; ; {
			m := callIDs.FindSubmatchIndex(rest)
			if m == nil {
				t.Fatalf("%q is no Call-ID of %q", id, message)
			}
			if bytes.Equal(rest[m[2]:m[3]], id) {
				return
			}
			rest = rest[m[0]+1:]
		}
	})
}
