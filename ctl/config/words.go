package config

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
	"uvs/sched"
)

// The types of this file are numbers inside and words in JSON and in files.

// Proto is the number of an IP protocol. Services are of TCP, UDP and SCTP; 0 in a mark rule
// is all three.
type Proto uint8

var protoNames = map[Proto]string{
	0: "IP", wire.ProtoTCP: "TCP", wire.ProtoUDP: "UDP", wire.ProtoSCTP: "SCTP",
	wire.ProtoESP: "ESP", wire.ProtoAH: "AH",
}

// Served reports whether services can have the protocol.
func (p Proto) Served() bool { return p == wire.ProtoTCP || p == wire.ProtoUDP || p == wire.ProtoSCTP }

// String returns the protocol's name in ipvsadm's listings, or its number.
func (p Proto) String() string {
	if name, ok := protoNames[p]; ok {
		return name
	}
	return strconv.Itoa(int(p))
}

// Word returns the protocol's name in lower case, or its number.
func (p Proto) Word() string { return strings.ToLower(p.String()) }

// MarshalText returns Word.
func (p Proto) MarshalText() ([]byte, error) { return []byte(p.Word()), nil }

// UnmarshalText is ParseProto.
func (p *Proto) UnmarshalText(text []byte) (err error) {
	*p, err = ParseProto(string(text))
	return err
}

// ParseProto parses the name or number of a protocol; "all" is 0.
func ParseProto(s string) (Proto, error) {
	for p, name := range protoNames {
		if strings.EqualFold(s, name) {
			return p, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil && !strings.EqualFold(s, "all") {
		return 0, Errorf(syscall.EINVAL, "protocol %q is not known; services are of tcp, udp and sctp", s)
	}
	return Proto(n), nil
}

// Method is how packets reach a server: "nat", "dr" (direct routing) or "tunnel".
type Method uint8

// The methods, as IPVS numbers them.
const (
	MethodNAT    = Method(conntrack.MethodNAT)
	MethodTunnel = Method(conntrack.MethodTunnel)
	MethodDR     = Method(conntrack.MethodDR)
)

var methodNames = map[Method]string{MethodNAT: "nat", MethodTunnel: "tunnel", MethodDR: "dr"}

func (m Method) String() string {
	if name, ok := methodNames[m]; ok {
		return name
	}
	return fmt.Sprintf("method %d", uint8(m))
}

// MarshalText returns the method's name.
func (m Method) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText parses the method's name, or ipvsadm's word for it: masq, route.
func (m *Method) UnmarshalText(text []byte) error {
	for method, name := range methodNames {
		if s := string(text); s == name || strings.EqualFold(s, conntrack.Method(method).String()) {
			*m = method
			return nil
		}
	}
	return Errorf(syscall.EINVAL, "forwarding method %q is not nat, dr or tunnel", text)
}

// Seconds are written with their unit: 300s, 5m.
type Seconds uint32

func (s Seconds) String() string { return fmt.Sprintf("%ds", uint32(s)) }

// MarshalText returns the seconds with their unit.
func (s Seconds) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText parses a duration of whole seconds.
func (s *Seconds) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	switch n := d / time.Second; {
	case err != nil:
		return Errorf(syscall.EINVAL, "%s is not a time with its unit, such as 300s or 5m", text)
	case d%time.Second != 0 || n < 0 || n > math.MaxUint32:
		return Errorf(syscall.EINVAL, "%s is not a number of whole seconds, 0s to %s", text, Seconds(math.MaxUint32))
	default:
		*s = Seconds(n)
		return nil
	}
}

// UnmarshalJSON is UnmarshalText; a number has no unit.
func (s *Seconds) UnmarshalJSON(text []byte) error { return s.UnmarshalText(bytes.Trim(text, `"`)) }

// Netmask is the part of a client's address that decides on its template: a mask for IPv4,
// which may have gaps, and a prefix length for IPv6. The zero value is the whole address.
type Netmask struct {
	version uint8 // of IP; 0: none
	bits    uint32
}

// Mask4 returns a mask for IPv4, in host order.
func Mask4(mask uint32) Netmask {
	if mask == math.MaxUint32 {
		return Netmask{}
	}
	return Netmask{4, mask}
}

// PrefixLen6 returns a prefix length for IPv6.
func PrefixLen6(bits uint32) Netmask {
	if bits == 128 {
		return Netmask{}
	}
	return Netmask{6, bits}
}

// String returns the mask as ipvsadm's -M takes it; "" for the whole address.
func (m Netmask) String() string {
	switch m.version {
	case 4:
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, m.bits))).String()
	case 6:
		return strconv.Itoa(int(m.bits))
	}
	return ""
}

// Bits returns the bits of an address that the mask keeps, with IPv4 addresses mapped into IPv6.
func (m Netmask) Bits() (mask wire.Addr) {
	length := 128
	switch m.version {
	case 4:
		binary.BigEndian.PutUint32(mask[12:], m.bits)
		length = 96 // the IPv4-mapped prefix
	case 6:
		length = int(m.bits)
	}
	for i := range length {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}

// MarshalText returns String.
func (m Netmask) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// MarshalBinary returns String, for encoding/gob.
func (m Netmask) MarshalBinary() ([]byte, error) { return m.MarshalText() }

// UnmarshalBinary parses what MarshalBinary returns.
func (m *Netmask) UnmarshalBinary(text []byte) error {
	if *m = (Netmask{}); len(text) == 0 {
		return nil
	}
	return m.UnmarshalJSON(text)
}

// UnmarshalJSON parses what String returns; a prefix length may be a number.
func (m *Netmask) UnmarshalJSON(text []byte) error {
	word := strings.Trim(string(text), `"`)
	if n, err := strconv.ParseUint(word, 10, 8); err == nil && 1 <= n && n <= 128 {
		*m = PrefixLen6(uint32(n))
		return nil
	}
	a, err := netip.ParseAddr(word)
	if err != nil || !a.Is4() {
		return Errorf(syscall.EINVAL, "netmask %s is neither a mask for IPv4 such as 255.255.255.0 nor a prefix "+
			"length for IPv6, 1 to 128", word)
	}
	*m = Mask4(binary.BigEndian.Uint32(a.AsSlice()))
	return nil
}

// SchedFlags are the flags of a scheduler (sched.Flags), as a list of words: "fallback" and
// "port" of sh and mh, which other schedulers call "flag-1" and "flag-2", and "flag-3".
type SchedFlags sched.Flags

var flagNames = []struct {
	flag sched.Flags
	name string
}{{sched.Flag1, "fallback"}, {sched.Flag2, "port"}, {sched.Flag3, "flag-3"}}

// MarshalJSON returns the list of words.
func (f SchedFlags) MarshalJSON() ([]byte, error) {
	words := []string{}
	for _, n := range flagNames {
		if sched.Flags(f)&n.flag != 0 {
			words = append(words, n.name)
		}
	}
	return json.Marshal(words)
}

// UnmarshalJSON parses a list of words, of ipvsadm's -b too.
func (f *SchedFlags) UnmarshalJSON(text []byte) error {
	var words []string
	if err := json.Unmarshal(text, &words); err != nil {
		return Errorf(syscall.EINVAL, "scheduler flags %s are no list of words, such as [fallback, port]", text)
	}
	*f = 0
	for _, word := range words {
		flag, ok := sched.Flag(word)
		for _, n := range flagNames {
			if n.name == word {
				flag.Flag, ok = n.flag, true
			}
		}
		if !ok {
			return Errorf(syscall.EINVAL, "scheduler flag %q is not fallback, port or flag-3", word)
		}
		*f |= SchedFlags(flag.Flag)
	}
	return nil
}

// Checksum is that of a tunnel: "none", "csum" or "remcsum" (remote checksum offload). The
// values are those of fwd/tunnel.
type Checksum uint16

// ChecksumNames are the words for Checksum.
var ChecksumNames = []string{tunnel.NoCsum: "none", tunnel.Csum: "csum", tunnel.RemCsum: "remcsum"}

func (c Checksum) String() string {
	if int(c) < len(ChecksumNames) {
		return ChecksumNames[c]
	}
	return strconv.Itoa(int(c))
}

// MarshalText returns String.
func (c Checksum) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText parses what String returns.
func (c *Checksum) UnmarshalText(text []byte) error {
	i, err := indexOf("tunnel checksum", ChecksumNames, text)
	*c = Checksum(i)
	return err
}

// indexOf returns the index of a word among the words that a kind of value has.
func indexOf(kind string, words []string, text []byte) (int, error) {
	i := slices.Index(words, string(text))
	if i < 0 {
		return 0, Errorf(syscall.EINVAL, "%s %q is not %s", kind, text, OneOf(words))
	}
	return i, nil
}

// OneOf writes a list of words: a, b or c.
func OneOf(words []string) string {
	if last := len(words) - 1; last > 0 {
		return strings.Join(words[:last], ", ") + " or " + words[last]
	}
	return strings.Join(words, "")
}

// Ports are ranges of ports: a list of numbers and of ranges such as "8000:8100".
type Ports []PortRange

// MarshalJSON returns the list.
func (l Ports) MarshalJSON() ([]byte, error) {
	words := make([]any, len(l))
	for i, p := range l {
		if words[i] = any(p.First); p.First != p.Last {
			words[i] = p.String()
		}
	}
	return json.Marshal(words)
}

// UnmarshalJSON parses the list, or one of its elements.
func (l *Ports) UnmarshalJSON(text []byte) error {
	var list []json.RawMessage
	if json.Unmarshal(text, &list) != nil {
		list = []json.RawMessage{text}
	}
	*l = nil
	for _, word := range list {
		ranges, err := ParsePorts(strings.Trim(string(word), `"`))
		if err != nil {
			return err
		}
		*l = append(*l, ranges...)
	}
	return nil
}
