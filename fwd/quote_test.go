package fwd

import (
	"encoding/binary"
	"fmt"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// quotes are how much of a packet ICMP errors quote.
var quotes = []struct {
	name  string
	bytes int // of transport header and data; 8 is the least there may be
}{
	{"eight bytes", 8},
	{"a TCP header without its checksum", 15},
	{"a TCP header", 20},
	{"the whole packet", 1000},
}

// errorAbout describes the ICMP error that from sends to about's source.
func errorAbout(about wiretest.Packet, from, to string, quoted int) wiretest.Packet {
	header := wire.IPv4Len
	e := wiretest.Packet{
		Src: from, Dst: to, Proto: wire.ProtoICMP, VLANs: []uint16{5},
		ICMPType: wire.ICMPUnreachable, ICMPCode: wire.ICMPCodeTooBig, ICMPRest: 1400,
	}
	if !addr(from).Is4() {
		header = wire.IPv6Len
		e.Proto, e.ICMPType, e.ICMPCode = wire.ProtoICMPv6, wire.ICMPv6TooBig, 0
	}
	e.Payload = wiretest.Quote(about.Frame(), header+quoted)
	return e
}

// TestErrors: an ICMP error about a masqueraded flow becomes the one that would
// have been sent about the packet as its sender knows it.
func TestErrors(t *testing.T) {
	routers := map[string]string{"IPv4": "203.0.113.1", "IPv6": "2001:db8:ffff::1"}
	for _, family := range families {
		router := routers[family.name]
		for _, proto := range []uint8{wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP} {
			for _, q := range quotes {
				if proto == wire.ProtoSCTP && q.bytes >= wire.SCTPLen && q.bytes < 100 {
					continue // its CRC cannot be made: TestErrorCutOff
				}
				data := wiretest.Packet{Proto: proto, TTL: 3, Payload: chunk}
				name := fmt.Sprint(family.name, "/", proto, "/", q.name)

				t.Run(name+"/a router tells the server that its reply was too big", func(t *testing.T) {
					sent, seen := data, data
					sent.Src, sent.Dst = family.server, family.client
					seen.Src, seen.Dst = family.vip, family.client
					f := errorAbout(seen, router, host(family.vip), q.bytes).Frame()
					p, in := parse(t, &f), new(wire.Packet)
					if !wire.ParseQuoted(&f, p, in) {
						t.Fatal("the error quotes nothing")
					}
					server, port := split(family.server)
					ErrorToServer(&f, p, in, server, port)
					wantFrame(t, f, errorAbout(sent, router, host(family.server), q.bytes).Frame())
					wantTrue(t, f, p)
					wantInner(t, f, p, in)
				})
				t.Run(name+"/a router behind the VIP tells the client that its request was", func(t *testing.T) {
					sent, seen := data, data
					sent.Src, sent.Dst = family.client, family.vip
					seen.Src, seen.Dst = family.client, family.server
					f := errorAbout(seen, router, host(family.client), q.bytes).Frame()
					p, in := parse(t, &f), new(wire.Packet)
					if !wire.ParseQuoted(&f, p, in) {
						t.Fatal("the error quotes nothing")
					}
					vip, port := split(family.vip)
					ErrorFromServer(&f, p, in, vip, port)
					wantFrame(t, f, errorAbout(sent, host(family.vip), host(family.client), q.bytes).Frame())
					wantTrue(t, f, p)
					wantInner(t, f, p, in)
				})
			}
		}
	}
}

// host is an end without its port.
func host(end string) string {
	a, _ := split(end)
	return a.String()
}

func wantInner(t *testing.T, f wire.Frame, p, in *wire.Packet) {
	t.Helper()
	var fresh wire.Packet
	if wire.ParseQuoted(&f, p, &fresh); fresh != *in {
		t.Errorf("quoted packet after rewriting is %+v, want %+v", *in, fresh)
	}
}

// TestErrorCutOff: what only the whole of a packet could tell is not invented: a
// UDP checksum where there was none, an SCTP CRC. The error's own stays right.
func TestErrorCutOff(t *testing.T) {
	for _, family := range families {
		for _, about := range []wiretest.Packet{
			{Proto: wire.ProtoUDP, NoChecksum: true, Payload: make([]byte, 100)},
			{Proto: wire.ProtoSCTP, Payload: chunk},
		} {
			about.Src, about.Dst = family.vip, family.client
			f := errorAbout(about, host(family.client), host(family.vip), 16).Frame()
			p, in := parse(t, &f), new(wire.Packet)
			wire.ParseQuoted(&f, p, in)
			before := binary.BigEndian.Uint32(f.From(in.L4)[4:])
			crc := binary.BigEndian.Uint32(f.From(in.L4)[8:])
			server, port := split(family.server)
			ErrorToServer(&f, p, in, server, port)
			wiretest.Check(t, f)
			t4 := f.From(in.L4)
			if binary.BigEndian.Uint32(t4[4:]) != before || binary.BigEndian.Uint32(t4[8:]) != crc {
				t.Errorf("%s: quoted protocol %d now %x", family.name, about.Proto, t4)
			}
			if got := wire.UDP(t4).SrcPort(); got != port {
				t.Errorf("%s: quoted source port %d, want %d", family.name, got, port)
			}
		}
	}
}

// TestErrorHalfMade: of an error whose checksum the device will finish only the
// pseudo-header's share changes.
func TestErrorHalfMade(t *testing.T) {
	family := families[1]
	seen := wiretest.Packet{Src: family.vip, Dst: family.client}
	sent := wiretest.Packet{Src: family.server, Dst: family.client}
	e := errorAbout(seen, host(family.client), host(family.vip), 8)
	e.PartialChecksum = true
	want := errorAbout(sent, host(family.client), host(family.server), 8)
	want.PartialChecksum = true
	f := e.Frame()
	p, in := parse(t, &f), new(wire.Packet)
	wire.ParseQuoted(&f, p, in)
	server, port := split(family.server)
	ErrorToServer(&f, p, in, server, port)
	wantFrame(t, f, want.Frame())
}

// TestErrorOtherFamily: neither an address of the other family nor a quoted
// packet of the other family is put together with the error: it stays as it was.
func TestErrorOtherFamily(t *testing.T) {
	for i, family := range families {
		other := families[1-i]
		same := errorAbout(wiretest.Packet{Src: family.vip, Dst: family.client}, host(family.client), host(family.vip), 20)
		mixed := same
		mixed.Payload = wiretest.Quote(wiretest.Packet{Src: other.vip, Dst: other.client}.Frame(), 60)
		for _, tt := range []struct {
			name   string
			in     wiretest.Packet
			server string
		}{{"server", same, other.server}, {"quote", mixed, family.server}} {
			f := tt.in.Frame()
			p, in := parse(t, &f), new(wire.Packet)
			if !wire.ParseQuoted(&f, p, in) {
				continue // nothing to rewrite then
			}
			server, port := split(tt.server)
			wantUntouched(t, f, func(f *wire.Frame) bool {
				ErrorToServer(f, p, in, server, port)
				ErrorFromServer(f, p, in, server, port)
				return false
			})
		}
	}
}
