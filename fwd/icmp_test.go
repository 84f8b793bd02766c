package fwd_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd"
	"uvs/fwd/fwdtest"
)

// quotes are the lengths of what ICMP errors quote.
var quotes = []struct {
	name  string
	bytes int // of transport header and data; 8 is the least that is allowed
}{
	{"eight bytes", 8},
	{"a TCP header without its checksum", 15},
	{"a TCP header", 20},
	{"the whole packet", 1000},
}

// TestErrors: an ICMP error about a flow with NAT becomes the error about the packet as
// its sender knows it.
func TestErrors(t *testing.T) {
	routers := map[string]string{"IPv4": "203.0.113.1", "IPv6": "2001:db8:ffff::1"}
	for _, family := range fwdtest.Families {
		router := routers[family.Name]
		for _, proto := range []uint8{wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP} {
			for _, q := range quotes {
				if proto == wire.ProtoSCTP && q.bytes >= wire.SCTPLen && q.bytes < 100 {
					continue // without all bytes there is no CRC: TestErrorCutOff
				}
				data := wiretest.Packet{Proto: proto, TTL: 3, Payload: fwdtest.Chunk}
				name := fmt.Sprint(family.Name, "/", proto, "/", q.name)

				t.Run(name+"/a router tells the server that its reply was too big", func(t *testing.T) {
					sent, seen := data, data
					sent.Src, sent.Dst = family.Server, family.Client
					seen.Src, seen.Dst = family.VIP, family.Client
					f := fwdtest.ErrorAbout(seen, router, fwdtest.Host(family.VIP), q.bytes).Frame()
					p, in := fwdtest.Parse(t, &f), new(wire.Packet)
					if !wire.ParseQuoted(&f, p, in) {
						t.Fatal("the error quotes nothing")
					}
					server, port := fwdtest.Split(family.Server)
					fwd.ErrorToServer(&f, p, in, server, port)
					fwdtest.WantFrame(t, f, fwdtest.ErrorAbout(sent, router, fwdtest.Host(family.Server),
						q.bytes).Frame())
					wantParsed(t, f, p)
					wantInner(t, f, p, in)
				})
				t.Run(name+"/a router behind the VIP tells the client that its request was", func(t *testing.T) {
					sent, seen := data, data
					sent.Src, sent.Dst = family.Client, family.VIP
					seen.Src, seen.Dst = family.Client, family.Server
					f := fwdtest.ErrorAbout(seen, router, fwdtest.Host(family.Client), q.bytes).Frame()
					p, in := fwdtest.Parse(t, &f), new(wire.Packet)
					if !wire.ParseQuoted(&f, p, in) {
						t.Fatal("the error quotes nothing")
					}
					vip, port := fwdtest.Split(family.VIP)
					fwd.ErrorFromServer(&f, p, in, vip, port)
					fwdtest.WantFrame(t, f, fwdtest.ErrorAbout(sent, fwdtest.Host(family.VIP),
						fwdtest.Host(family.Client), q.bytes).Frame())
					wantParsed(t, f, p)
					wantInner(t, f, p, in)
				})
			}
		}
	}
}

func wantInner(t *testing.T, f wire.Frame, p, in *wire.Packet) {
	t.Helper()
	var fresh wire.Packet
	if wire.ParseQuoted(&f, p, &fresh); fresh != *in {
		t.Errorf("quoted packet after rewriting is %+v, want %+v", *in, fresh)
	}
}

// TestErrorCutOff: what needs the whole packet stays as it is: a UDP checksum that is not
// there, an SCTP CRC. The error's own checksum stays right.
func TestErrorCutOff(t *testing.T) {
	for _, family := range fwdtest.Families {
		for _, about := range []wiretest.Packet{
			{Proto: wire.ProtoUDP, NoChecksum: true, Payload: make([]byte, 100)},
			{Proto: wire.ProtoSCTP, Payload: fwdtest.Chunk},
		} {
			about.Src, about.Dst = family.VIP, family.Client
			f := fwdtest.ErrorAbout(about, fwdtest.Host(family.Client), fwdtest.Host(family.VIP), 16).Frame()
			p, in := fwdtest.Parse(t, &f), new(wire.Packet)
			wire.ParseQuoted(&f, p, in)
			before := binary.BigEndian.Uint32(f.From(in.L4)[4:])
			crc := binary.BigEndian.Uint32(f.From(in.L4)[8:])
			server, port := fwdtest.Split(family.Server)
			fwd.ErrorToServer(&f, p, in, server, port)
			wiretest.Check(t, f)
			t4 := f.From(in.L4)
			if binary.BigEndian.Uint32(t4[4:]) != before || binary.BigEndian.Uint32(t4[8:]) != crc {
				t.Errorf("%s: quoted protocol %d now %x", family.Name, about.Proto, t4)
			}
			if got := wire.UDP(t4).SrcPort(); got != port {
				t.Errorf("%s: quoted source port %d, want %d", family.Name, got, port)
			}
		}
	}
}

// TestErrorPartialChecksum: in an error whose checksum the device will finish, only
// the sum of the pseudo-header changes.
func TestErrorPartialChecksum(t *testing.T) {
	family := fwdtest.Families[1]
	seen := wiretest.Packet{Src: family.VIP, Dst: family.Client}
	sent := wiretest.Packet{Src: family.Server, Dst: family.Client}
	e := fwdtest.ErrorAbout(seen, fwdtest.Host(family.Client), fwdtest.Host(family.VIP), 8)
	e.PartialChecksum = true
	want := fwdtest.ErrorAbout(sent, fwdtest.Host(family.Client), fwdtest.Host(family.Server), 8)
	want.PartialChecksum = true
	f := e.Frame()
	p, in := fwdtest.Parse(t, &f), new(wire.Packet)
	wire.ParseQuoted(&f, p, in)
	server, port := fwdtest.Split(family.Server)
	fwd.ErrorToServer(&f, p, in, server, port)
	fwdtest.WantFrame(t, f, want.Frame())
}

// TestErrorOtherFamily: an error stays as it is if the address or the packet that it
// quotes is of the other family.
func TestErrorOtherFamily(t *testing.T) {
	for i, family := range fwdtest.Families {
		other := fwdtest.Families[1-i]
		same := fwdtest.ErrorAbout(wiretest.Packet{Src: family.VIP, Dst: family.Client}, fwdtest.Host(family.Client),
			fwdtest.Host(family.VIP), 20)
		mixed := same
		mixed.Payload = wiretest.Quote(wiretest.Packet{Src: other.VIP, Dst: other.Client}.Frame(), 60)
		for _, tt := range []struct {
			name   string
			in     wiretest.Packet
			server string
		}{{"server", same, other.Server}, {"quote", mixed, family.Server}} {
			f := tt.in.Frame()
			p, in := fwdtest.Parse(t, &f), new(wire.Packet)
			if !wire.ParseQuoted(&f, p, in) {
				continue // nothing to rewrite then
			}
			server, port := fwdtest.Split(tt.server)
			fwdtest.WantUntouched(t, f, func(f *wire.Frame) bool {
				fwd.ErrorToServer(f, p, in, server, port)
				fwd.ErrorFromServer(f, p, in, server, port)
				return false
			})
		}
	}
}
