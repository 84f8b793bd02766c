package wire_test

import (
	"strings"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// TestParseFlaws: Parse names the flaw of an unsound frame, and does not truncate it.
func TestParseFlaws(t *testing.T) {
	none := func(p wiretest.Packet) wiretest.Packet { p.Payload = nil; return p }
	arp := wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.0.0.1", wire.MAC{}, "10.0.0.2")
	editARP := func(at int) wire.Frame {
		f := wiretest.Frame(arp.Bytes())
		f.Bytes()[at]++
		return f
	}
	for _, row := range []struct {
		name string
		f    wire.Frame
		want wire.Flaw
	}{
		{"an empty frame", truncate(none(tcp4).Frame(), 54), wire.FlawRunt},
		{"one byte less than an Ethernet header", truncate(none(tcp4).Frame(), 41), wire.FlawRunt},
		{
			"a truncated tag", truncate(change(tcp4, func(p *wiretest.Packet) { p.VLANs = []uint16{5} }), 43),
			wire.FlawRunt,
		},
		{
			"a truncated second tag", truncate(change(tcp4, func(p *wiretest.Packet) { p.VLANs = []uint16{5, 6} }), 43),
			wire.FlawRunt,
		},
		{"one byte less than an ARP message", truncate(arp, 1), wire.FlawARP},
		{"ARP for another hardware", editARP(15), wire.FlawARP},
		{"ARP for another protocol", editARP(16), wire.FlawARP},
		{"ARP with longer hardware addresses", editARP(18), wire.FlawARP},
		{"ARP with longer protocol addresses", editARP(19), wire.FlawARP},
		{"one byte less than an IPv4 header", truncate(none(tcp4).Frame(), 21), wire.FlawIPLength},
		{"one byte less than an IPv6 header", truncate(none(tcp6).Frame(), 21), wire.FlawIPLength},
		{"version 6 in an IPv4 frame", editHeader(tcp4, func(b []byte) { b[14] = 0x65 }), wire.FlawIPHeader},
		{"version 4 in an IPv6 frame", editBytes(tcp6, func(b []byte) { b[14] = 0x40 }), wire.FlawIPHeader},
		{"a header length of four words", editHeader(tcp4, func(b []byte) { b[14] = 0x44 }), wire.FlawIPHeader},
		{"a header longer than the frame", editBytes(none(echo4), func(b []byte) { b[14] = 0x4f }), wire.FlawIPLength},
		{
			"a header longer than the total length", editHeader(tcp4, func(b []byte) { b[14], b[17] = 0x4f, 59 }),
			wire.FlawIPLength,
		},
		{"a total length less than the header", editHeader(tcp4, func(b []byte) { b[17] = 19 }), wire.FlawIPLength},
		{"a total length one more than the frame has", truncate(tcp4.Frame(), 1), wire.FlawIPLength},
		{"a total length of 0 in an ordinary frame", editHeader(tcp4, func(b []byte) { b[17] = 0 }), wire.FlawIPLength},
		{
			"an IPv4-mapped source in an IPv6 header", editBytes(tcp6, func(b []byte) { copy(b[22:], mapped[:]) }),
			wire.FlawMappedAddress,
		},
		{
			"an IPv4-mapped destination in an IPv6 header", editBytes(tcp6, func(b []byte) { copy(b[38:], mapped[:]) }),
			wire.FlawMappedAddress,
		},
		{"a payload length one more than the frame has", truncate(udp6.Frame(), 1), wire.FlawIPLength},
		{"an IPv4 header checksum one bit wrong", editBytes(tcp4, func(b []byte) { b[24] ^= 1 }), wire.FlawIPChecksum},
		{
			"an option changed under its checksum",
			editBytes(wiretest.Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Options: []byte{1, 1, 1, 1}},
				func(b []byte) { b[35] = 0 }), wire.FlawIPChecksum,
		},
		{
			"a loose source route", change(udp4, func(p *wiretest.Packet) { p.Options = []byte{131, 3, 4, 0} }),
			wire.FlawSourceRoute,
		},
		{
			"a strict source route behind another option",
			change(udp4, func(p *wiretest.Packet) { p.Options = []byte{148, 4, 0, 0, 1, 137, 3, 4} }),
			wire.FlawSourceRoute,
		},
		{
			"an option of length 1", change(udp4, func(p *wiretest.Packet) { p.Options = []byte{7, 1, 0, 0} }),
			wire.FlawIPOption,
		},
		{
			"an option one byte longer than the header",
			change(udp4, func(p *wiretest.Packet) { p.Options = []byte{7, 5, 0, 0} }), wire.FlawIPOption,
		},
		{
			"an option with a truncated length",
			change(udp4, func(p *wiretest.Packet) { p.Options = []byte{1, 1, 1, 7} }),
			wire.FlawIPOption,
		},
		{
			"a routing header with segments left",
			withExtensions(43, "11 02 0001 00000000 00000000000000000000000000000000"), wire.FlawSourceRoute,
		},
		{
			"a routing header before a later fragment", withExtensions(43, "2c 00 0401 00000000 1100000900000007"),
			wire.FlawSourceRoute,
		},
		{
			"IPv6 without payload, though its next header is TCP", editBytes(none(tcp6), func(b []byte) { b[19] = 0 }),
			wire.FlawTransport,
		},
		{"an extension header longer than the packet", withExtensions(0, "11 02 0000 00000000"), wire.FlawExtension},
		{
			"an extension header without its length", editBytes(none(udp6), func(b []byte) { b[20], b[19] = 60, 7 }),
			wire.FlawExtension,
		},
		{
			"an extension header of one byte", editBytes(none(udp6), func(b []byte) { b[20], b[19] = 60, 1 }),
			wire.FlawExtension,
		},
		{
			"a fragment header of one byte", editBytes(none(udp6), func(b []byte) { b[20], b[19] = 44, 1 }),
			wire.FlawExtension,
		},
		{"a fragment of a fragment", withExtensions(44, "2c 00 0001 00000007 11 00 0008 00000008"), wire.FlawExtension},
		{
			"a truncated fragment header", editBytes(none(udp6), func(b []byte) { b[20], b[19] = 44, 7 }),
			wire.FlawExtension,
		},
		{
			"nine extension headers", withExtensions(60, strings.Repeat("3c00000000000000", 8)+"1100000000000000"),
			wire.FlawManyExtensions,
		},
		{"a TCP header one byte short", editHeader(none(tcp4), func(b []byte) { b[17]-- }), wire.FlawTransport},
		{"a TCP data offset of four words", editBytes(tcp4, func(b []byte) { b[46] = 0x40 }), wire.FlawTransportLength},
		{
			"a TCP data offset behind the packet's end", editBytes(tcp4, func(b []byte) { b[46] = 0x60 }),
			wire.FlawTransportLength,
		},
		{
			"a first fragment that cuts the TCP header",
			editHeader(none(tcp4), func(b []byte) { b[17], b[20] = 36, 0x20 }), wire.FlawTransport,
		},
		{"a UDP header one byte short", editHeader(none(udp4), func(b []byte) { b[17]-- }), wire.FlawTransport},
		{"a UDP length of seven", editBytes(udp4, func(b []byte) { b[39] = 7 }), wire.FlawTransportLength},
		{
			"a UDP length one more than the packet has", editBytes(udp4, func(b []byte) { b[39]++ }),
			wire.FlawTransportLength,
		},
		{"a UDP length of 0", editBytes(udp4, func(b []byte) { b[39] = 0 }), wire.FlawTransportLength},
		{"an SCTP header one byte short", editHeader(none(sctp4), func(b []byte) { b[17]-- }), wire.FlawTransport},
		{"an ICMP header one byte short", editHeader(none(echo4), func(b []byte) { b[17]-- }), wire.FlawTransport},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := row.f.End
			var got wire.Packet
			wire.Parse(&row.f, &got)
			if got.Kind != wire.KindBad || got.Flaw != row.want || row.f.End != before {
				t.Errorf("parsed %x: kind %d, flaw %d, end %d; want kind %d, flaw %d, end %d",
					row.f.Bytes(), got.Kind, got.Flaw, row.f.End, wire.KindBad, row.want, before)
			}
		})
	}
}
