package ctl

import (
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"uvs/dataplane/wire"
)

// Question is a packet of a client that somebody asks about: what would the
// director do with it?
type Question struct {
	Proto       uint8          `json:"proto"`
	Client      netip.AddrPort `json:"client"`
	Virtual     netip.AddrPort `json:"virtual"`
	InInterface string         `json:"in_interface,omitempty"` // "": the one the client is reached by
}

// protoNumbers are the protocols whose packets can belong to services.
var protoNumbers = map[string]uint8{"tcp": wire.ProtoTCP, "udp": wire.ProtoUDP, "sctp": wire.ProtoSCTP}

// Query is the question as the socket's request carries it.
func (q Question) Query() url.Values {
	v := url.Values{
		"proto":  {strings.ToLower(ProtoName(q.Proto))},
		"client": {q.Client.String()}, "virtual": {q.Virtual.String()},
	}
	if q.InInterface != "" {
		v.Set("in-interface", q.InInterface)
	}
	return v
}

// ParseQuestion reads what Query wrote, or people did.
func ParseQuestion(v url.Values) (q Question, err error) {
	known := []string{"proto", "client", "virtual", "in-interface"}
	for name := range v {
		if !slices.Contains(known, name) {
			return q, refuse(syscall.EINVAL, "a packet is not described by %q; by %s", name, strings.Join(known, ", "))
		}
	}
	var ok bool
	if q.Proto, ok = protoNumbers[strings.ToLower(v.Get("proto"))]; !ok {
		return q, refuse(syscall.EINVAL, "protocol %q is not one of %s", v.Get("proto"), strings.Join(slices.Sorted(maps.Keys(protoNumbers)), ", "))
	}
	if q.Client, err = parseHostPort("client", v.Get("client")); err != nil {
		return q, err
	}
	if q.Virtual, err = parseHostPort("virtual address", v.Get("virtual")); err != nil {
		return q, err
	}
	if q.Client.Addr().Is4() != q.Virtual.Addr().Is4() {
		return q, refuse(syscall.EINVAL, "client %s and virtual address %s are of different families", q.Client, q.Virtual)
	}
	q.InInterface = v.Get("in-interface")
	return q, nil
}

// parseHostPort reads one end of a packet: a unicast address and a port.
func parseHostPort(what, s string) (netip.AddrPort, error) {
	end, err := netip.ParseAddrPort(s)
	end = netip.AddrPortFrom(end.Addr().Unmap(), end.Port())
	switch {
	case err != nil:
		return end, refuse(syscall.EINVAL, "%s %q is not ADDRESS:PORT, as 198.51.100.7:4711 or [2001:db8::7]:4711", what, s)
	case !unicast(end.Addr()):
		return end, refuse(syscall.EINVAL, "%s %s is not unicast", what, end)
	case end.Port() == 0:
		return end, refuse(syscall.EINVAL, "%s %s: port 0 is no packet's", what, end)
	}
	return end, nil
}

// frame is the packet asked about, as it arrives on a port of the hardware
// address to: one that begins a connection or, if there is a conn, the next of
// it.
func (q Question) frame(port uint16, from, to wire.MAC, known bool) wire.Frame {
	segment := q.segment(known)
	header := wire.IPv4Len
	if q.Client.Addr().Is6() {
		header = wire.IPv6Len
	}
	length := wire.EthernetLen + header + len(segment)
	f := wire.Frame{Buf: make([]byte, wire.Headroom+length), Off: wire.Headroom, End: wire.Headroom + int32(length), In: port}
	b := f.Bytes()
	link := wire.Ethernet(b)
	link.SetDst(to)
	link.SetSrc(from)
	ip := b[wire.EthernetLen:]
	copy(ip[header:], segment)
	src, dst := wire.AddrFrom(q.Client.Addr()), wire.AddrFrom(q.Virtual.Addr())
	if header == wire.IPv4Len {
		link.SetType(wire.EtherTypeIPv4)
		h := wire.IPv4(ip)
		h.SetVersionIHL(header)
		h.SetTotalLen(uint16(len(ip)))
		h.SetTTL(questionTTL)
		h.SetProtocol(q.Proto)
		h.SetSrc(src)
		h.SetDst(dst)
		h.FillChecksum()
	} else {
		link.SetType(wire.EtherTypeIPv6)
		h := wire.IPv6(ip)
		h.SetVersionClassFlow(0, 0)
		h.SetPayloadLen(uint16(len(segment)))
		h.SetNextHeader(q.Proto)
		h.SetHopLimit(questionTTL)
		h.SetSrc(src)
		h.SetDst(dst)
	}
	var p wire.Packet
	wire.Parse(&f, &p)
	wire.FillChecksum(&f, &p)
	return f
}

// segment is its transport header, and for SCTP the first chunk (RFC 9260
// section 3.3.2: INIT, type 1; 3.3.1: DATA, type 0).
func (q Question) segment(known bool) []byte {
	switch q.Proto {
	case wire.ProtoTCP:
		h := wire.TCP(make([]byte, wire.TCPLen))
		h.SetSrcPort(q.Client.Port())
		h.SetDstPort(q.Virtual.Port())
		h.SetHeaderLen(wire.TCPLen)
		h.SetFlags(wire.TCPSyn)
		if known {
			h.SetFlags(wire.TCPAck)
		}
		return h
	case wire.ProtoUDP:
		h := wire.UDP(make([]byte, wire.UDPLen))
		h.SetSrcPort(q.Client.Port())
		h.SetDstPort(q.Virtual.Port())
		h.SetLen(wire.UDPLen)
		return h
	}
	const chunkLen = 16
	b := make([]byte, wire.SCTPLen+chunkLen)
	wire.UDP(b).SetSrcPort(q.Client.Port())
	wire.UDP(b).SetDstPort(q.Virtual.Port())
	chunk := b[wire.SCTPLen:]
	chunk[3] = chunkLen
	if !known {
		chunk[0] = 1
	}
	return b
}

// questionTTL is the TTL of packets asked about: most hosts' first.
const questionTTL = 64
