package ftp

import (
	"bytes"
	"strings"

	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
)

// verbLen is the length of every command that is read.
const verbLen = 4

// verbs are the commands that are read. LPRT and LPSV (RFC 1639) are refused: clients
// that know them also know others.
var verbs = [...]string{"PORT", "EPRT", "PASV", "EPSV", "AUTH", "LPRT", "LPSV"}

// commandStarts are the bytes with which a line can begin that has one of verbs. Most
// lines fail this cheap test.
var commandStarts = func() (is [256]bool) {
	for _, v := range verbs {
		is[v[0]], is[v[0]|0x20] = true, true
	}
	for _, c := range []byte(blanks + "\r\x00\xff") {
		is[c] = true
	}
	return is
}()

// The replacement of a client's command: a data port that every server refuses.
const (
	noPort  = "PORT 0,0,0,0,0,0\r\n"
	noEPRT4 = "EPRT |1|0.0.0.0|0|\r\n"
	noEPRT6 = "EPRT |2|::|0|\r\n"
)

// tlsHandshake is the first byte of a TLS record with a handshake message (RFC 8446
// section 5.1). No command begins with it.
const tlsHandshake = 22

// command judges the client's text at the start of a line.
func (h *Helper) command(text []byte, last bool) stream.Judgement {
	if !h.clientSpoke {
		h.clientSpoke = true
		if text[0] == tlsHandshake {
			h.events |= EventTLS
			return stream.Judgement{Do: stream.Leave}
		}
	}
	n, whole := lineLen(text)
	verb, arg, open := h.parse(text[:n])
	switch {
	case verb == "" && !(open && !whole):
	case !whole && !last:
		return stream.Judgement{Do: stream.More}
	case verb == "PORT":
		addr, port, rest, ok := hostPort(arg)
		if !h.allowActive(addr, port, ok && len(rest) == 0) {
			return h.replace(noPort, n, whole)
		}
	case verb == "EPRT":
		addr, port, ok := extendedHostPort(arg)
		if !h.allowActive(addr, port, ok) {
			return h.replace(wire.ByFamily(!h.context.Client.Is4(), noEPRT4, noEPRT6), n, whole)
		}
	case verb == "PASV", verb == "EPSV" && !bytes.EqualFold(arg, []byte("ALL")): // that one has no 229
		increment(&h.pendingPassive)
	case verb == "EPSV":
	case verb == "AUTH":
		increment(&h.pendingAUTH)
	case verb == "LPRT" || verb == "LPSV" || verb == "" && open && len(text) == stream.MaxUnit:
		h.events |= EventUnreadable
		return h.replace(noPort, n, whole)
	}
	h.setRest(conntrack.DirIn, whole, passRest)
	return stream.Judgement{Do: stream.Pass, N: n}
}

// increment adds one to a count of waiting commands, which saturates.
func increment(n *uint8) {
	if *n != ^uint8(0) {
		*n++
	}
}

// allowActive decides about a data connection to a client at addr and port. readable is
// false if the command had none.
func (h *Helper) allowActive(addr wire.Addr, port uint16, readable bool) bool {
	switch {
	case !readable || port == 0:
		h.events |= EventUnreadable
	case addr != h.context.Client && (!h.context.Bounce || addr.Is4() != h.context.Client.Is4()):
		h.events |= EventBounce
	case !h.expect.ExpectActive(addr, port):
		h.events |= EventRefused
	default:
		h.events |= EventActive
		return true
	}
	return false
}

// replace puts a command in place of n bytes: a line if whole is set, else the start of
// a line, whose rest is removed.
func (h *Helper) replace(command string, n int, whole bool) stream.Judgement {
	h.setRest(conntrack.DirIn, whole, dropRest)
	return stream.Judgement{Do: stream.Replace, N: n, New: h.text[:copy(h.text[:], command)]}
}

// Telnet commands (RFC 854): IAC and one byte, or two from WILL to DONT.
const (
	telnetSE   = 240 // the lowest of them
	telnetWill = 251
	telnetDont = 254
	telnetIAC  = 255
)

// strip returns the line without the bytes that some servers skip: blanks at its start,
// and CR, NUL and telnet commands anywhere. Clients send telnet commands before ABOR;
// the second byte of an urgent one is not in the stream.
func (h *Helper) strip(line []byte) []byte {
	bare := h.bare[:0]
	for i := 0; i < len(line) && len(bare) < len(h.bare); i++ {
		switch c := line[i]; {
		case c == telnetIAC && i+1 < len(line) && line[i+1] >= telnetWill && line[i+1] <= telnetDont:
			i += 2
		case c == telnetIAC && i+1 < len(line) && line[i+1] >= telnetSE:
			i++
		case c == telnetIAC || c == '\r' || c == '\n' || c == 0:
		case blank(c) && len(bare) == 0:
		default:
			bare = append(bare, c)
		}
	}
	return bytes.TrimRight(bare, blanks)
}

// blanks separate words, as isspace in the C locale defines them.
const blanks = " \t\v\f"

func blank(c byte) bool { return strings.IndexByte(blanks, c) >= 0 }

// parse takes a command apart. verb is "" if it is none of verbs. open reports whether
// it is one, or could become one with more text.
func (h *Helper) parse(line []byte) (verb string, arg []byte, open bool) {
	if !commandStarts[line[0]] {
		return "", nil, false
	}
	line = h.strip(line)
	if len(line) > verbLen && !blank(line[verbLen]) {
		return "", nil, false
	}
	for _, v := range verbs {
		switch {
		case len(line) < verbLen:
			open = open || bytes.EqualFold(line, []byte(v[:len(line)]))
		case bytes.EqualFold(line[:verbLen], []byte(v)):
			return v, bytes.TrimLeft(line[verbLen:], blanks), true
		}
	}
	return "", nil, open
}
