package wire

import "bytes"

// SIPCallID finds the Call-ID of a SIP message (RFC 3261 section 8.1.1.4), which
// is the same in every message of a call. The header is read as the kernel's
// connection tracking reads it (nf_conntrack_sip.c, ct_sip_get_header):
//
//	Call-ID: f81d4fae-7dec-11d0-a765-00a0c91e6bf6@foo.bar.com
//	i: f81d4fae-7dec-11d0-a765-00a0c91e6bf6@foo.bar.com
//
// in any case, at the start of a line other than the first, with blanks and one
// continuation line allowed around the colon. One without a value is passed
// over. What follows the value must end its line, as in the kernel's IPVS
// (ip_vs_pe_sip.c, get_callid); ok is false if there is none such or it is
// longer than MaxSIPCallID. The Call-ID is a part of message.
func SIPCallID(message []byte) (id []byte, ok bool) {
	for at := 0; ; {
		value, found := nextCallID(message, at)
		if !found {
			return nil, false
		}
		n := callIDLen(message[value:])
		if n == 0 {
			at = value
			continue
		}
		end := value + n
		if n > MaxSIPCallID || end == len(message) || !lineEnd(message[end]) {
			return nil, false
		}
		return message[value:end], true
	}
}

// MaxSIPCallID is the longest Call-ID that is told from others: the kernel's
// IP_VS_PEDATA_MAXLEN.
const MaxSIPCallID = 255

// callIDNames are the header's names, long and compact (RFC 3261 section 7.3.3).
var callIDNames = [...][]byte{[]byte("call-id"), []byte("i")}

// nextCallID is where the value of the next Call-ID header after at starts.
func nextCallID(b []byte, at int) (value int, found bool) {
	for {
		i := bytes.IndexAny(b[at:], "\r\n")
		if i < 0 {
			return 0, false
		}
		at = lineStart(b, at+i)
		name := headerName(b[at:])
		if name == 0 {
			continue
		}
		at += name
		colon, ok := skipBlanks(b, at)
		if !ok || colon == len(b) || b[colon] != ':' {
			return 0, false
		}
		return skipBlanks(b, colon+1)
	}
}

// lineStart is the start of the line after the one that ends at i.
func lineStart(b []byte, i int) int {
	if b[i] == '\r' && i+1 < len(b) && b[i+1] == '\n' {
		i++
	}
	return i + 1
}

// headerName is how long the name of the Call-ID header is that b starts with;
// 0: it starts with something else. A compact name is one only if no letter
// follows.
func headerName(b []byte) int {
	for _, name := range callIDNames {
		n := len(name)
		if len(b) > n && bytes.EqualFold(b[:n], name) && (n > 1 || !letter(b[n])) {
			return n
		}
	}
	return 0
}

// skipBlanks is where blanks after at end, and perhaps one line end that blanks
// follow, which continues the line; ok is false if the line ends there.
func skipBlanks(b []byte, at int) (to int, ok bool) {
	at = pastBlanks(b, at)
	if at == len(b) || !lineEnd(b[at]) {
		return at, true
	}
	if at = lineStart(b, at); at == len(b) || !blank(b[at]) {
		return 0, false
	}
	return pastBlanks(b, at), true
}

func pastBlanks(b []byte, at int) int {
	for at < len(b) && blank(b[at]) {
		at++
	}
	return at
}

// callIDLen is the length of a Call-ID at the start of b: a word, or two with an
// @ between; 0: there is none.
func callIDLen(b []byte) int {
	n := wordLen(b)
	if n == 0 || n == len(b) || b[n] != '@' {
		return n
	}
	domain := wordLen(b[n+1:])
	if domain == 0 {
		return 0
	}
	return n + 1 + domain
}

func wordLen(b []byte) int {
	for i, c := range b {
		if !letter(c) && (c < '0' || c > '9') && bytes.IndexByte(wordMarks, c) < 0 {
			return i
		}
	}
	return len(b)
}

// wordMarks are what else than letters and digits is in a word (RFC 3261 section 25.1).
var wordMarks = []byte("-.!%*_+`'~()<>:\\\"/[]?{}")

func letter(c byte) bool  { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func blank(c byte) bool   { return c == ' ' || c == '\t' }
func lineEnd(c byte) bool { return c == '\r' || c == '\n' }
