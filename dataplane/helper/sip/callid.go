// Package sip reads Call-IDs, by which a persistent service with the SIP engine
// (ipvsadm --pe sip) sends every message of a call to the same server.
package sip

import "bytes"

// MaxCallID is the longest Call-ID that is read, in bytes: IP_VS_PEDATA_MAXLEN
// (include/uapi/linux/ip_vs.h).
const MaxCallID = 255

// CallID finds the Call-ID of a SIP message (RFC 3261 section 8.1.1.4), which is
// the same in every message of a call. It reads the header as the kernel does
// (net/netfilter/nf_conntrack_sip.c, ct_sip_get_header):
//
//	Call-ID: f81d4fae-7dec-11d0-a765-00a0c91e6bf6@foo.bar.com
//	i: f81d4fae-7dec-11d0-a765-00a0c91e6bf6@foo.bar.com
//
// The name may have any case and starts a line other than the first. Blanks and one
// continuation line may stand around the colon. A header without a value is skipped.
// A line end must follow the value (net/netfilter/ipvs/ip_vs_pe_sip.c,
// get_callid). ok is false if there is no such header, or its value is longer than
// MaxCallID. The returned id is a part of message.
func CallID(message []byte) (id []byte, ok bool) {
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
		if n > MaxCallID || end == len(message) || !isLineEnd(message[end]) {
			return nil, false
		}
		return message[value:end], true
	}
}

// callIDNames are the header's long and compact names (RFC 3261 section 7.3.3).
var callIDNames = [...][]byte{[]byte("call-id"), []byte("i")}

// nextCallID returns where the value of the next Call-ID header after at starts.
func nextCallID(b []byte, at int) (value int, found bool) {
	for {
		i := bytes.IndexAny(b[at:], "\r\n")
		if i < 0 {
			return 0, false
		}
		at = nextLine(b, at+i)
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

// nextLine returns the start of the line after the one that ends at i.
func nextLine(b []byte, i int) int {
	if b[i] == '\r' && i+1 < len(b) && b[i+1] == '\n' {
		i++
	}
	return i + 1
}

// headerName returns the length of the Call-ID header's name at the start of b, or
// 0 if b starts with something else. No letter may follow the compact name.
func headerName(b []byte) int {
	for _, name := range callIDNames {
		n := len(name)
		if len(b) > n && bytes.EqualFold(b[:n], name) && (n > 1 || !isLetter(b[n])) {
			return n
		}
	}
	return 0
}

// skipBlanks skips blanks after at, and one line end if blanks follow it, which
// continue the line. ok is false if the line ends there.
func skipBlanks(b []byte, at int) (to int, ok bool) {
	at = pastBlanks(b, at)
	if at == len(b) || !isLineEnd(b[at]) {
		return at, true
	}
	if at = nextLine(b, at); at == len(b) || !isBlank(b[at]) {
		return 0, false
	}
	return pastBlanks(b, at), true
}

func pastBlanks(b []byte, at int) int {
	for at < len(b) && isBlank(b[at]) {
		at++
	}
	return at
}

// callIDLen returns the length of the Call-ID at the start of b, which is one word
// or two with an @ between them. It returns 0 if there is none.
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
		if !isLetter(c) && (c < '0' || c > '9') && bytes.IndexByte(wordMarks, c) < 0 {
			return i
		}
	}
	return len(b)
}

// wordMarks may stand in a word besides letters and digits (RFC 3261 section 25.1).
var wordMarks = []byte("-.!%*_+`'~()<>:\\\"/[]?{}")

func isLetter(c byte) bool  { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isBlank(c byte) bool   { return c == ' ' || c == '\t' }
func isLineEnd(c byte) bool { return c == '\r' || c == '\n' }
