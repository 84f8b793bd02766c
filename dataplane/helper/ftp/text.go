package ftp

import (
	"bytes"
	"strconv"

	"uvs/dataplane/wire"
)

// lineLen returns the length of the line at the start of text, with its end. whole
// reports whether the end is there.
func lineLen(text []byte) (n int, whole bool) {
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return i + 1, true
	}
	return len(text), false
}

// number reads a decimal number of at most limit at the start of b, and returns what
// follows it.
func number(b []byte, limit int) (v int, rest []byte, ok bool) {
	i := 0
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		if v = 10*v + int(b[i]-'0'); v > limit {
			return 0, b, false
		}
	}
	return v, b[i:], i > 0
}

// hostPort reads h1,h2,h3,h4,p1,p2 (RFC 959 section 4.1.2, HOST-PORT) at the start of
// b, and returns what follows it. Some servers write blanks around the commas, which
// clients skip.
func hostPort(b []byte) (addr wire.Addr, port uint16, rest []byte, ok bool) {
	var n [6]byte
	rest, ok = byteList(b, ',', n[:])
	return wire.AddrFrom4(n[:4]), uint16(n[4])<<8 | uint16(n[5]), rest, ok
}

// byteList fills list with decimal numbers, with a separator between them, at the start
// of b, and returns what follows them. Blanks may stand around commas.
func byteList(b []byte, separator byte, list []byte) (rest []byte, ok bool) {
	for i := range list {
		if i > 0 {
			if separator == ',' {
				b = bytes.TrimLeft(b, blanks)
			}
			if len(b) == 0 || b[0] != separator {
				return b, false
			}
			if b = b[1:]; separator == ',' {
				b = bytes.TrimLeft(b, blanks)
			}
		}
		v, after, ok := number(b, 255)
		if !ok || separator == '.' && b[0] == '0' && len(b)-len(after) > 1 {
			return b, false
		}
		list[i], b = byte(v), after
	}
	return b, true
}

// findHostPort finds the six numbers of a 227: after "(" or, if they are not there, the
// first six in the line. They are line[from:to].
func findHostPort(line []byte) (from, to int, addr wire.Addr, port uint16, ok bool) {
	try := func(at int) bool {
		var rest []byte
		addr, port, rest, ok = hostPort(line[at:])
		from, to = at, len(line)-len(rest)
		return ok
	}
	if i := bytes.IndexByte(line, '('); i >= 0 && try(i+1) {
		return
	}
	for i := codeLen; i < len(line); i++ {
		if line[i]-'0' <= 9 && line[i-1]-'0' > 9 && try(i) {
			return
		}
	}
	return 0, 0, addr, 0, false
}

// extendedPort reads <d>…<d>…<d>port<d> (RFC 2428 section 3) at the start of b. <d> is
// any character from 33 to 126 except a digit. The fields before the port, which a
// server must leave empty, are not read. n is the length.
func extendedPort(b []byte) (n int, port uint16, ok bool) {
	if len(b) == 0 || b[0] < 33 || b[0] > 126 || b[0]-'0' <= 9 {
		return 0, 0, false
	}
	d, at := b[0], 1
	for range 2 {
		i := bytes.IndexByte(b[at:], d)
		if i < 0 {
			return 0, 0, false
		}
		at += i + 1
	}
	v, rest, ok := number(b[at:], 0xffff)
	if !ok || v == 0 || len(rest) == 0 || rest[0] != d {
		return 0, 0, false
	}
	return len(b) - len(rest) + 1, uint16(v), true
}

// findExtendedPort finds the port of a 229: after "(" or, if it is not there, where the
// line has a delimiter three times in a row. Delimiters and port are line[from:to].
func findExtendedPort(line []byte) (from, to int, port uint16, ok bool) {
	if i := bytes.IndexByte(line, '(') + 1; i > 0 {
		if n, port, ok := extendedPort(line[i:]); ok {
			return i, i + n, port, true
		}
	}
	for i := codeLen; i+2 < len(line); i++ {
		if line[i] == line[i+1] && line[i] == line[i+2] {
			if n, port, ok := extendedPort(line[i:]); ok {
				return i, i + n, port, true
			}
		}
	}
	return 0, 0, 0, false
}

// extendedHostPort reads all of b as <d>family<d>address<d>port<d>, the argument of
// EPRT (RFC 2428 section 2).
func extendedHostPort(b []byte) (addr wire.Addr, port uint16, ok bool) {
	n, port, ok := extendedPort(b)
	if !ok || n != len(b) {
		return addr, 0, false
	}
	family, rest, _ := bytes.Cut(b[1:], b[:1])
	host, _, _ := bytes.Cut(rest, b[:1])
	switch string(family) {
	case "1":
		addr, ok = parseIPv4(host)
	case "2":
		addr, ok = parseIPv6(host)
		ok = ok && !addr.Is4() // an IPv4-mapped address never appears on the wire
	default:
		ok = false
	}
	return addr, port, ok
}

// parseIPv4 reads all of b as a dotted address. It rejects leading zeros, because some
// parsers take such numbers for octal.
func parseIPv4(b []byte) (addr wire.Addr, ok bool) {
	var n [4]byte
	rest, ok := byteList(b, '.', n[:])
	return wire.AddrFrom4(n[:]), ok && len(rest) == 0
}

// parseIPv6 reads all of b as an address (RFC 4291 section 2.2). net/netip would
// allocate.
func parseIPv6(b []byte) (addr wire.Addr, ok bool) {
	n, gap := 0, -1 // bytes of addr so far, and the position of "::" among them
	if len(b) >= 2 && b[0] == ':' && b[1] == ':' {
		gap, b = 0, b[2:]
	}
	for len(b) > 0 {
		if n == len(addr) {
			return addr, false
		}
		if bytes.IndexByte(b, ':') < 0 && bytes.IndexByte(b, '.') >= 0 { // the last 32 bits
			last, ok := parseIPv4(b)
			if !ok || n+4 > len(addr) {
				return addr, false
			}
			n += copy(addr[n:], last[12:])
			break
		}
		v, rest, ok := hex(b)
		if !ok {
			return addr, false
		}
		addr[n], addr[n+1], b = byte(v>>8), byte(v), rest
		n += 2
		if len(b) == 0 {
			break
		}
		if b[0] != ':' || len(b) == 1 {
			return addr, false
		}
		if b = b[1:]; b[0] == ':' {
			if gap >= 0 {
				return addr, false
			}
			gap, b = n, b[1:]
		}
	}
	if gap < 0 || n == len(addr) {
		return addr, gap < 0 && n == len(addr)
	}
	moved := copy(addr[len(addr)-(n-gap):], addr[gap:n])
	clear(addr[gap : len(addr)-moved])
	return addr, true
}

// hex reads one to four hexadecimal digits at the start of b, and returns what follows.
func hex(b []byte) (v int, rest []byte, ok bool) {
	i := 0
	for ; i < len(b); i++ {
		c := b[i]
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return v, b[i:], i > 0
		}
		if i == 4 {
			return 0, b, false
		}
		v = v<<4 | int(c)
	}
	return v, b[i:], i > 0
}

// appendHostPort appends h1,h2,h3,h4,p1,p2.
func appendHostPort(b []byte, addr wire.Addr, port uint16) []byte {
	for _, n := range addr.As4() {
		b = append(strconv.AppendUint(b, uint64(n), 10), ',')
	}
	b = append(strconv.AppendUint(b, uint64(port>>8), 10), ',')
	return strconv.AppendUint(b, uint64(port&0xff), 10)
}
