package answer_test

import (
	"fmt"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/answer"
	"uvs/fwd/fwdtest"
)

// TestReset: the numbers of RFC 9293 section 3.10.7.1, CLOSED state. The RST takes its
// sequence number from an ACK, and acknowledges any other segment.
func TestReset(t *testing.T) {
	segments := []struct {
		name     string
		flags    uint8
		data     int
		seq, ack uint32
		want     uint8
	}{
		{"SYN", wire.TCPSyn, 0, 0, 1001, wire.TCPRst | wire.TCPAck},
		{"SYN with data", wire.TCPSyn, 10, 0, 1011, wire.TCPRst | wire.TCPAck},
		{"FIN with data", wire.TCPFin, 10, 0, 1011, wire.TCPRst | wire.TCPAck},
		{"no flags", 0, 5, 0, 1005, wire.TCPRst | wire.TCPAck},
		{"ACK", wire.TCPAck, 0, 5000, 0, wire.TCPRst},
		{"SYN ACK", wire.TCPSyn | wire.TCPAck, 0, 5000, 0, wire.TCPRst},
		{"data", wire.TCPAck | wire.TCPPsh, 700, 5000, 0, wire.TCPRst},
	}
	for _, s := range segments {
		for i, family := range fwdtest.Families {
			for _, e := range fwdtest.Envelopes {
				for _, kind := range []wiretest.Packet{
					{},
					{PartialChecksum: true},
					{GSOSize: 100},
					{TCPOptions: make([]byte, 8)},
				} {
					in := kind
					in.Src, in.Dst, in.TCPFlags, in.Seq, in.Ack = family.Client, family.VIP, s.flags, 1000, 5000
					in.Payload = make([]byte, s.data)
					e.Wrap(&in, i == 1)
					want := replyTo(wiretest.Packet{
						Src: family.VIP, Dst: family.Client, DF: true, TCPFlags: s.want, Seq: s.seq, Ack: s.ack,
					}, in.VLANs)
					t.Run(fmt.Sprint(s.name, "/", family.Name, "/", e.Name), func(t *testing.T) {
						f := in.Frame()
						f.In = 1
						if !answer.Reset(&f, fwdtest.Parse(t, &f)) {
							t.Fatal("refused")
						}
						w := want.Frame()
						tcp := wire.TCP(w.From(fwdtest.Parse(t, &w).L4))
						tcp.SetWindow(0)
						wire.FillChecksum(&w, fwdtest.Parse(t, &w))
						wantReply(t, f, w)
					})
				}
			}
		}
	}
}

// TestResetNever: no RST for a RST, a fragment, a wrong checksum or a group.
func TestResetNever(t *testing.T) {
	segment := wiretest.Packet{
		Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP, TCPFlags: wire.TCPAck,
		Payload: []byte("abcdefgh"),
	}
	tests := []struct {
		name   string
		change func(*wiretest.Packet)
	}{
		{"RST", func(p *wiretest.Packet) { p.TCPFlags |= wire.TCPRst }},
		{"first fragment", func(p *wiretest.Packet) { p.MF = true }},
		{"wrong checksum", func(p *wiretest.Packet) { p.NoChecksum = true }},
		{"broadcast", func(p *wiretest.Packet) { p.DstMAC = wire.MAC{255, 255, 255, 255, 255, 255} }},
		{"from a group", func(p *wiretest.Packet) { p.Src = "224.0.0.1:80" }},
		{"UDP", func(p *wiretest.Packet) { p.Proto = wire.ProtoUDP }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := segment
			tt.change(&in)
			f := in.Frame()
			p := fwdtest.Parse(t, &f)
			fwdtest.WantUntouched(t, f, func(f *wire.Frame) bool { return answer.Reset(f, p) })
		})
	}
}
