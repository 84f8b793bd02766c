package ftp

import (
	"bytes"
	"strconv"

	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
)

// codeLen is the length of a reply's code. A hyphen behind it says that lines
// follow, up to one with the same code and a blank (RFC 959 section 4.2).
const codeLen = 3

// The replies that are read.
const (
	codePassive  = 227 // RFC 959
	codeExtended = 229 // RFC 2428
	codeAuth     = 234 // RFC 4217
)

// replies are they, with how many wait for them.
var replies = [...]struct {
	code   uint16
	digits string
	by     func(*State) *uint8
	judge  func(h *Helper, line []byte, whole bool) stream.Judgement
}{
	{codePassive, "227", func(s *State) *uint8 { return &s.pendingPASV }, (*Helper).passiveReply},
	{codeExtended, "229", func(s *State) *uint8 { return &s.pendingEPSV }, (*Helper).extendedReply},
	{codeAuth, "234", func(s *State) *uint8 { return &s.pendingAUTH }, (*Helper).authReply},
}

// deniedCode and deniedText are a reply in place of one that cannot be had, RFC
// 959 section 4.2.2.
const (
	deniedCode = "425"
	deniedText = "Can't open data connection.\r\n"
)

// reply judges the server's text at the head of a line.
func (h *Helper) reply(text []byte, last bool) stream.Judgement {
	n, whole := lineLen(text)
	line := text[:n]
	which, open := h.findAwaited(line)
	if open && !whole && !last {
		return stream.Judgement{Do: stream.More}
	}
	j, rest := stream.Judgement{}, passRest
	if which >= 0 {
		a := &replies[which]
		if j = a.judge(h, line, whole); h.denied {
			rest = dropRest
		}
		if h.isAwaited = true; isLastLine(line) {
			*a.by(h.State)--
		}
	}
	j.N = n
	h.setRest(conntrack.DirOut, whole, rest)
	h.trackReply(line, whole)
	return j
}

// findAwaited finds the reply in awaited that line is, and that somebody waits for;
// -1 if it is none. open: it is one, or could become one if more came.
func (h *Helper) findAwaited(line []byte) (which int, open bool) {
	for i := range replies {
		a := &replies[i]
		if *a.by(h.State) == 0 || h.multiline != 0 && h.multiline != a.code {
			continue
		}
		switch n := min(len(line), codeLen); {
		case string(line[:n]) != a.digits[:n]:
		case n < codeLen || len(line) == codeLen:
			open = true
		case endsCode(line[codeLen]):
			return i, true
		}
	}
	return -1, open
}

// endsCode says whether c can stand behind a code.
func endsCode(c byte) bool { return c == ' ' || c == '-' || c == '\r' || c == '\n' }

// isLastLine says whether a line that begins with a code ends its reply.
func isLastLine(line []byte) bool { return line[codeLen] != '-' }

// trackReply follows the server's lines to know which of them are replies: text is
// the next part of one, its end if whole.
func (h *Helper) trackReply(text []byte, whole bool) {
	h.replyHeadLen += uint8(copy(h.replyHead[h.replyHeadLen:], text))
	if !whole {
		return
	}
	head, mine := h.replyHead[:h.replyHeadLen], h.isAwaited
	h.replyHeadLen, h.isAwaited = 0, false
	code, sep, ok := number(head, 999)
	if !ok || len(head)-len(sep) != codeLen || len(sep) == 0 || !endsCode(sep[0]) {
		return
	}
	switch {
	case h.multiline != 0 && int(h.multiline) != code:
	case !isLastLine(head):
		h.multiline = uint16(code)
	default:
		h.multiline, h.denied, h.announcedPort = 0, false, 0
		if !mine && (code == codePassive || code == codeExtended) {
			h.events |= EventUnasked
		}
	}
}

// authReply treats the reply after which the connection is encrypted.
func (h *Helper) authReply(line []byte, _ bool) stream.Judgement {
	if !isLastLine(line) {
		return stream.Judgement{}
	}
	h.events |= EventTLS
	return stream.Judgement{Do: stream.Leave}
}

// passiveReply treats 227: the address and port become the VIP and its port.
func (h *Helper) passiveReply(line []byte, whole bool) stream.Judgement {
	from, to, addr, port, ok := findHostPort(line)
	if !ok || port == 0 {
		return h.unreadable(line, whole)
	}
	server, ok := h.listener(addr)
	if !ok {
		h.events |= EventForeign
		return h.deny(line)
	}
	vport, ok := h.announce(server, port)
	if !ok {
		return h.deny(line)
	}
	if !h.terms.LeaveAddress && h.terms.VIP.Is4() {
		addr = h.terms.VIP
	}
	var b [len("255,255,255,255,255,255")]byte
	return h.substitute(line, from, to, appendHostPort(b[:0], addr, vport))
}

// listener is who listens at the address of a 227: the server, if it is its own
// address, the VIP or none.
func (h *Helper) listener(addr wire.Addr) (server wire.Addr, ok bool) {
	none := wire.AddrFrom4([]byte{0, 0, 0, 0})
	t := h.terms
	if addr == t.Server || addr == t.VIP || addr == none || t.LeaveAddress {
		return t.Server, true
	}
	return addr, t.ThirdParty && t.Server.Is4()
}

// extendedReply treats 229, in which only a port stands: it becomes the VIP's.
func (h *Helper) extendedReply(line []byte, whole bool) stream.Judgement {
	from, to, port, ok := findExtendedPort(line)
	if !ok {
		return h.unreadable(line, whole)
	}
	vport, ok := h.announce(h.terms.Server, port)
	if !ok {
		return h.deny(line)
	}
	var b [len("|||65535|")]byte
	d := line[from]
	text := strconv.AppendUint(append(b[:0], d, d, d), uint64(vport), 10)
	return h.substitute(line, from, to, append(text, d))
}

// announce has a data connection to the server expected. The lines of one reply
// may say the same more than once.
func (h *Helper) announce(server wire.Addr, port uint16) (vport uint16, ok bool) {
	if h.multiline != 0 && h.announcedPort == port && !h.denied {
		return h.announcedVPort, true
	}
	if vport, ok = h.expect.ExpectPassive(server, port); !ok {
		h.events |= EventRefused
		return 0, false
	}
	h.events |= EventPassive
	h.announcedPort, h.announcedVPort = port, vport
	return vport, true
}

// substitute replaces line[from:to].
func (h *Helper) substitute(line []byte, from, to int, text []byte) stream.Judgement {
	if bytes.Equal(line[from:to], text) {
		return stream.Judgement{}
	}
	if len(line)-(to-from)+len(text) > len(h.text) {
		return h.deny(line)
	}
	b := append(h.text[:0], line[:from]...)
	b = append(b, text...)
	return stream.Judgement{Do: stream.Replace, New: append(b, line[to:]...)}
}

// unreadable treats a line without an address that can be read. There may be one
// in another line of the reply; but where one may yet come in this one, or was
// denied, it must not go on.
func (h *Helper) unreadable(line []byte, whole bool) stream.Judgement {
	if !whole || h.denied {
		h.events |= EventUnreadable
		return h.deny(line)
	}
	if isLastLine(line) && h.multiline == 0 {
		h.events |= EventUnreadable
	}
	return stream.Judgement{}
}

// deny replaces a line by one that says there is no data connection. If the
// reply has begun with another code, that is kept.
func (h *Helper) deny(line []byte) stream.Judgement {
	code := deniedCode
	if h.multiline != 0 && !h.denied {
		code = string(line[:codeLen])
	}
	h.denied = true
	b := append(h.text[:0], code...)
	if isLastLine(line) {
		b = append(b, ' ')
	} else {
		b = append(b, '-')
	}
	return stream.Judgement{Do: stream.Replace, New: append(b, deniedText...)}
}
