package wiretest

import (
	"fmt"
	"testing"

	"uvs/dataplane/wire"
)

var chunk = []byte{3, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // SCTP SACK

// samples are frames of every kind that the builders make.
var samples = []struct {
	name  string
	frame wire.Frame
}{
	{"TCP over IPv4", Packet{Src: "10.0.0.1:1234", Dst: "10.0.0.2:80", Payload: []byte("odd")}.Frame()},
	{"TCP over IPv6", Packet{Src: "[2001:db8::1]:1234", Dst: "[2001:db8::2]:80", Payload: []byte("odd")}.Frame()},
	{"TCP with IP and TCP options", Packet{
		Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Options: []byte{1, 1, 1, 0},
		TCPOptions: []byte{2, 4, 5, 180},
	}.Frame()},
	{"tagged UDP", Packet{
		Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Proto: wire.ProtoUDP, VLANs: []uint16{7},
		Payload: []byte("x"),
	}.Frame()},
	{"QinQ UDP", Packet{Src: "[::1]:1", Dst: "[::2]:2", Proto: wire.ProtoUDP, VLANs: []uint16{7, 9}}.Frame()},
	{
		"UDP without checksum",
		Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Proto: wire.ProtoUDP, NoChecksum: true}.Frame(),
	},
	{
		"partial TCP",
		Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", PartialChecksum: true, Payload: []byte("abc")}.Frame(),
	},
	{"GSO frame", Packet{Src: "[::1]:1", Dst: "[::2]:2", GSOSize: 1000, Payload: make([]byte, 4000)}.Frame()},
	{"SCTP", Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Proto: wire.ProtoSCTP, Payload: chunk}.Frame()},
	{"ICMP echo", Packet{
		Src: "10.0.0.1", Dst: "10.0.0.2", Proto: wire.ProtoICMP, ICMPType: wire.ICMPEcho,
		Payload: []byte("ping"),
	}.Frame()},
	{"ICMPv6 echo", Packet{
		Src: "::1", Dst: "::2", Proto: wire.ProtoICMPv6, ICMPType: wire.ICMPv6Echo,
		Payload: []byte("ping"),
	}.Frame()},
	{"neighbour solicitation", Solicitation(ClientMAC, "fe80::1", "2001:db8::10")},
	{"first fragment", Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", MF: true, Payload: make([]byte, 100)}.Frame()},
	{"ARP request", ARP(wire.ARPRequest, ClientMAC, "10.0.0.1", wire.MAC{}, "10.0.0.2")},
}

// TestCheckAccepts: Check accepts the frames of the builders.
func TestCheckAccepts(t *testing.T) {
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) { Check(t, s.frame) })
	}
}

// recorder records whether a test would have failed.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Error(...any)          { r.failed = true }
func (r *recorder) Errorf(string, ...any) { r.failed = true }

// TestCheckRejects: Check detects one flipped bit in any checksum or length.
func TestCheckRejects(t *testing.T) {
	faults := []struct {
		name, sample string
		at           int
	}{
		{"IPv4 total length", "TCP over IPv4", 14 + 3},
		{"IPv4 checksum", "TCP over IPv4", 14 + 10},
		{"IPv6 payload length", "TCP over IPv6", 14 + 5},
		{"TCP checksum", "TCP over IPv6", 14 + 40 + 16},
		{"TCP payload", "TCP over IPv4", 14 + 40 + 2},
		{"UDP checksum", "tagged UDP", 18 + 20 + 6},
		{"UDP length", "tagged UDP", 18 + 20 + 5},
		{"partial checksum", "partial TCP", 14 + 20 + 17},
		{"SCTP CRC", "SCTP", 14 + 20 + 9},
		{"ICMP checksum", "ICMP echo", 14 + 20 + 3},
		{"ICMPv6 payload", "ICMPv6 echo", 14 + 40 + 9},
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			for _, s := range samples {
				if s.name != fault.sample {
					continue
				}
				f := Frame(s.frame.Bytes())
				f.Offload = s.frame.Offload
				f.Bytes()[fault.at] ^= 1
				r := &recorder{TB: t}
				Check(r, f)
				if !r.failed {
					t.Errorf("byte %d of %q changed, and Check did not detect it: %s", fault.at, s.name,
						fmt.Sprintf("%x", f.Bytes()))
				}
			}
		})
	}
}

// TestQuote: a quote begins at the IP header and has at most max bytes.
func TestQuote(t *testing.T) {
	f := Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", VLANs: []uint16{3}}.Frame()
	if got := Quote(f, 28); len(got) != 28 || got[0] != 0x45 {
		t.Errorf("quoted %x, want 28 bytes from the IP header on", got)
	}
	if got := Quote(f, 1000); len(got) != 40 {
		t.Errorf("quoted %d bytes, want all 40", len(got))
	}
}
