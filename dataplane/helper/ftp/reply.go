package ftp

import (
	"bytes"
	"strconv"

	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
)

// codeLen is the length of a reply's code. After a hyphen more lines follow, up to one
// with the same code and a blank (RFC 959 section 4.2).
const codeLen = 3

// The replies that are read.
const (
	codePassive  = 227 // RFC 959
	codeExtended = 229 // RFC 2428
	codeAuth     = 234 // RFC 4217
)

// replies are the replies that are read. waiting counts the commands that wait for one.
var replies = [...]struct {
	code    uint16
	digits  string
	waiting func(*State) *uint8
	judge   func(h *Helper, line []byte, whole bool) stream.Judgement
}{
	{codePassive, "227", func(s *State) *uint8 { return &s.pendingPassive }, (*Helper).passiveReply},
	{codeExtended, "229", func(s *State) *uint8 { return &s.pendingPassive }, (*Helper).extendedReply},
	{codeAuth, "234", func(s *State) *uint8 { return &s.pendingAUTH }, (*Helper).authReply},
}

// The reply that refuses a data connection (RFC 959 section 4.2.2).
const (
	deniedCode = "425"
	deniedText = "Can't open data connection.\r\n"
)

// reply judges the server's text at the start of a line.
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
			*a.waiting(h.State)--
		}
	}
	j.N = n
	h.setRest(conntrack.DirOut, whole, rest)
	h.trackReply(line, whole)
	return j
}

// findAwaited returns the index in replies of a line that a command waits for, or -1.
// open reports whether the line is one, or could become one with more text.
func (h *Helper) findAwaited(line []byte) (which int, open bool) {
	for i := range replies {
		a := &replies[i]
		if *a.waiting(h.State) == 0 || h.multiline != 0 && h.multiline != a.code {
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

// endsCode reports whether c can follow a code.
func endsCode(c byte) bool { return c == ' ' || c == '-' || c == '\r' || c == '\n' }

// isLastLine reports whether a line that begins with a code ends its reply.
func isLastLine(line []byte) bool { return line[codeLen] != '-' }

// trackReply follows the server's lines to know which of them are replies. text is the
// next part of a line, and its end if whole is set.
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

// authReply handles the reply after which the connection is encrypted.
func (h *Helper) authReply(line []byte, _ bool) stream.Judgement {
	if !isLastLine(line) {
		return stream.Judgement{}
	}
	h.events |= EventTLS
	return stream.Judgement{Do: stream.Leave}
}

// passiveReply handles 227: its address and port become the VIP and its port.
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
	if !h.context.LeaveAddress && h.context.VIP.Is4() {
		addr = h.context.VIP
	}
	var b [len("255,255,255,255,255,255")]byte
	return h.substitute(line, from, to, appendHostPort(b[:0], addr, vport))
}

// listener returns who listens at the address of a 227. It is the server, if the
// address is the server's, the VIP, or 0.0.0.0.
func (h *Helper) listener(addr wire.Addr) (server wire.Addr, ok bool) {
	none := wire.AddrFrom4([]byte{0, 0, 0, 0})
	t := h.context
	if addr == t.Server || addr == t.VIP || addr == none || t.LeaveAddress {
		return t.Server, true
	}
	return addr, t.Bounce && t.Server.Is4()
}

// extendedReply handles 229, which has only a port: it becomes the VIP's.
func (h *Helper) extendedReply(line []byte, whole bool) stream.Judgement {
	from, to, port, ok := findExtendedPort(line)
	if !ok {
		return h.unreadable(line, whole)
	}
	vport, ok := h.announce(h.context.Server, port)
	if !ok {
		return h.deny(line)
	}
	var b [len("|||65535|")]byte
	d := line[from]
	text := strconv.AppendUint(append(b[:0], d, d, d), uint64(vport), 10)
	return h.substitute(line, from, to, append(text, d))
}

// announce asks for a data connection to the server. The lines of one reply may repeat
// the port.
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

// unreadable handles a line without a readable address. Another line of the reply may
// have one. If this line may yet get one, or the reply was denied, it must not pass.
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

// deny replaces a line by one that refuses the data connection. If the reply has begun
// with another code, that code stays.
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
