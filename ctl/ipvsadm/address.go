package ipvsadm

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"

	"uvs/ctl/config"
)

// number parses a decimal number between low and high, as strtol does: spaces and a sign
// may come before it, and nothing after it.
func number(s string, low, high int64) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimLeft(s, " \t\n\v\f\r"), 10, 64)
	return n, err == nil && n >= low && n <= high
}

// endpoint is an address and perhaps a port.
type endpoint struct {
	addr    netip.Addr
	port    uint16 // 0 if !hasPort
	hasPort bool
}

// parseEndpoint parses host[:port], [v6]:port or v6. A host is an IPv4 address in any form
// that inet_aton takes, or a name, but not only digits. A port is a number or the name of a
// service of proto.
func parseEndpoint(s string, proto config.Proto, names names) (endpoint, bool) {
	var e endpoint
	if a, ok := parseIPv6(s); ok {
		e.addr = a
		return e, true
	}
	host, port := s, ""
	bracketed := strings.HasPrefix(s, "[")
	if bracketed {
		host, port, e.hasPort = strings.Cut(s[1:], "]:")
	} else {
		host, port, e.hasPort = strings.Cut(s, ":")
	}
	if bracketed && !e.hasPort || !e.hasPort && onlyOf(host, "0123456789") {
		return e, false
	}
	var ok bool
	if e.addr, ok = parseHost(host, bracketed, names); ok && e.hasPort {
		e.port, ok = parsePort(port, proto, names)
	}
	return e, ok
}

// parseHost parses an address of a family, or looks up a name. It never looks up what looks
// like a number.
func parseHost(host string, v6 bool, names names) (netip.Addr, bool) {
	if v6 {
		if a, ok := parseIPv6(host); ok {
			return a, true
		}
	} else if n, ok := parseIPv4(host); ok {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n))), true
	}
	if strings.ContainsAny(host, "[]:%/ ") || onlyOf(host, "0123456789.") {
		return netip.Addr{}, false
	}
	return names.addr(host, v6)
}

func parsePort(s string, proto config.Proto, names names) (uint16, bool) {
	if n, ok := number(s, 0, 65535); ok {
		return uint16(n), true
	}
	return names.port(s, proto)
}

// parseIPv6 parses an IPv6 address. It refuses zones, which mean nothing to a director, and
// IPv4-mapped addresses, which are in no packet.
func parseIPv6(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a, err == nil && a.Is6() && !a.Is4In6() && a.Zone() == ""
}

// parseIPv4 parses an address or mask as inet_aton does: one to four parts, decimal, octal
// or hexadecimal, of which the last fills the rest of the 32 bits. Spaces may follow.
func parseIPv4(s string) (uint32, bool) {
	parts := strings.Split(strings.TrimRight(s, " \t\n\v\f\r"), ".")
	if len(parts) > 4 {
		return 0, false
	}
	var addr uint64
	for i, part := range parts {
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (4 - i)
		}
		n, err := parsePart(part, bits)
		if err != nil {
			return 0, false
		}
		addr = addr<<bits | n
	}
	return uint32(addr), true
}

func parsePart(s string, bits int) (uint64, error) {
	if hex, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		return strconv.ParseUint(hex, 16, bits)
	}
	if len(s) > 1 && s[0] == '0' {
		return strconv.ParseUint(s[1:], 8, bits)
	}
	return strconv.ParseUint(s, 10, bits)
}

// onlyOf reports whether all bytes of s are in set.
func onlyOf(s, set string) bool { return strings.Trim(s, set) == "" }
