package answer_test

import (
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd"
	"uvs/fwd/answer"
	"uvs/fwd/fwdtest"
)

// TestKeepAlive: a keep-alive is a valid ACK in both families, whatever was in the buffer.
func TestKeepAlive(t *testing.T) {
	for _, ends := range [][2]string{{"10.9.0.1", "10.1.0.2"}, {"fd00:9::1", "fd00:1::2"}} {
		f := wire.Frame{
			Buf: make([]byte, answer.KeepAliveLen), MTU: 7, TunnelLen: 20,
			Offload: wire.Offload{Flags: wire.OffloadNeedsCsum},
		}
		for i := range f.Buf {
			f.Buf[i] = 0xee
		}
		src, dst := fwdtest.Addr(ends[0]), fwdtest.Addr(ends[1])
		answer.KeepAlive(&f, &fwd.LinkHeader{Port: 3, Dst: wiretest.ClientMAC, Src: wiretest.DirectorMAC}, src, dst, 80,
			5000)
		wiretest.Check(t, f)
		var p wire.Packet
		wire.Parse(&f, &p)
		if p.Src != src || p.Dst != dst || p.SrcPort != 80 || p.DstPort != 5000 || p.TCPFlags != wire.TCPAck ||
			f.Out != 3 || f.MTU != 0 || f.TunnelLen != 0 {
			t.Errorf("made %+v, frame %+v", p, f)
		}
	}
}
