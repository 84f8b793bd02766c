package answer_test

import (
	"testing"

	"github.com/google/gopacket/layers"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/answer"
	"uvs/fwd/fwdtest"
)

// TestAcknowledge: a segment becomes an ACK with the given numbers to its sender, by the
// port and to the machine it came from, in both families.
func TestAcknowledge(t *testing.T) {
	for _, family := range fwdtest.Families {
		for _, a := range []answer.TCPAck{
			{Seq: 7, Ack: 9, Window: 300},
			{Seq: 7, Ack: 9, Window: 300, Stamped: true, Stamp: 0xa0b0c0d0, Echo: 5},
		} {
			f := wiretest.Packet{
				Src: family.Client, Dst: family.VIP, TCPFlags: wire.TCPAck | wire.TCPPsh,
				Payload: []byte("twelve bytes"), PartialChecksum: true,
			}.Frame()
			f.In = 3
			if !answer.Acknowledge(&f, fwdtest.Parse(t, &f), &a) {
				t.Fatalf("%s: refused", family.Name)
			}
			wiretest.Check(t, f)
			d := wiretest.Decode(t, f)
			link, tcp := d.LinkLayer().(*layers.Ethernet), d.TransportLayer().(*layers.TCP)
			src, _ := fwdtest.Split(family.VIP)
			if p := fwdtest.Parse(t, &f); p.Src != src || int(p.SrcPort) != int(tcp.SrcPort) || f.Out != 3 ||
				f.ChecksumPartial() ||
				wire.MAC(link.DstMAC) != wiretest.ClientMAC || wire.MAC(link.SrcMAC) != wiretest.DirectorMAC {
				t.Errorf("%s: from %v, out %d, to %v: %s", family.Name, p.Src, f.Out, link.DstMAC, fwdtest.Dump(f))
			}
			if tcp.Seq != 7 || tcp.Ack != 9 || tcp.Window != 300 || !tcp.ACK || tcp.PSH || len(tcp.Payload) != 0 {
				t.Errorf("%s: %+v", family.Name, tcp)
			}
			stamps := tcp.Options
			if a.Stamped && (len(stamps) != 3 || string(stamps[2].OptionData) != "\xa0\xb0\xc0\xd0\x00\x00\x00\x05") ||
				!a.Stamped && len(stamps) > 0 {
				t.Errorf("%s: options %v", family.Name, stamps)
			}
		}
	}
}

// TestAcknowledgeRefuses: fragments, groups, other protocols and frames without
// room for the header stay as they are.
func TestAcknowledgeRefuses(t *testing.T) {
	for name, p := range map[string]wiretest.Packet{
		"fragment":  {Src: "198.51.100.7:1", Dst: "10.9.0.1:2", MF: true, Payload: make([]byte, 64)},
		"multicast": {Src: "198.51.100.7:1", Dst: "224.0.0.1:2", Payload: make([]byte, 64)},
		"UDP":       {Src: "198.51.100.7:1", Dst: "10.9.0.1:2", Proto: wire.ProtoUDP, Payload: make([]byte, 64)},
		"no room":   {Src: "198.51.100.7:1", Dst: "10.9.0.1:2"},
	} {
		f := p.Frame()
		before := fwdtest.Dump(f)
		if answer.Acknowledge(&f, fwdtest.Parse(t, &f), &answer.TCPAck{Stamped: true}) || fwdtest.Dump(f) != before {
			t.Errorf("%s: was not refused, or changed", name)
		}
	}
}
