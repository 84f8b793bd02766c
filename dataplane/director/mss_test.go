package director

import (
	"encoding/binary"
	"testing"

	"github.com/google/gopacket/layers"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// mss_clamp lowers the MSS of a SYN to the setting or, if that is automatic, to what
// the paths in both directions take. It does so in SYNs of clients by every method, and
// in those of servers that pass here; nothing else is changed.
func TestClampMSS(t *testing.T) {
	const off, auto = 0, AutoMSS
	for _, r := range []struct {
		sentence  string
		method    conntrack.Method
		v6        bool
		mss       uint16
		learned   int
		back      int // MTU of the way to the client
		says      uint16
		in, reply uint16
	}{
		{"off", conntrack.MethodNAT, false, off, 1300, 1500, 8960, 8960, 8960},
		{"a number", conntrack.MethodNAT, false, 1200, 0, 1500, 1460, 1200, 1200},
		{"a number, IPv6", conntrack.MethodNAT, true, 1200, 0, 1500, 1440, 1200, 1200},
		{"a number above", conntrack.MethodNAT, false, 1460, 0, 1500, 1400, 1400, 1400},
		{"automatic: the link's", conntrack.MethodNAT, false, auto, 0, 1500, 8960, 1460, 1460},
		{"automatic, IPv6", conntrack.MethodNAT, true, auto, 0, 1500, 8960, 1440, 1440},
		{"automatic: a path that was learned", conntrack.MethodNAT, false, auto, 1400, 1500, 1460, 1360, 1360},
		{"automatic: the way to the client", conntrack.MethodNAT, false, auto, 0, 1280, 1460, 1240, 1240},
		{"automatic, DR", conntrack.MethodDR, false, auto, 0, 1500, 8960, 1460, 1460},
		{"automatic, in the tunnel", conntrack.MethodTunnel, false, auto, 0, 1500, 1460, 1440, 1440},
		{"automatic, in the tunnel, IPv6", conntrack.MethodTunnel, true, auto, 1400, 1500, 1440, 1300, 1300},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			w := newTestbed(t, r.method)
			h := testHostNet()
			h.Ports[0].MTU = r.back
			w.table.FIB = NewFIB(h)
			for i := range w.lastID {
				s := w.table.server(i + 1)
				s.MSS = r.mss
				if r.learned > 0 {
					s.Path.learn(w.now, r.learned, 1500, r.v6, addr("10.2.0.254"))
				}
			}
			ends, server := ends4, "10.2.0.11:8080"
			if r.v6 {
				ends, server = ends6, "[fd00:2::11]:8080"
			}
			if r.method != conntrack.MethodNAT {
				server = ends[1]
			}
			options := []byte{4, 2, 1, 2, 4, byte(r.says >> 8), byte(r.says), 0}
			syn := wiretest.Packet{Src: ends[0], Dst: ends[1], TCPFlags: wire.TCPSyn, TCPOptions: options}
			synAck := wiretest.Packet{
				Src: server, Dst: ends[0], TCPFlags: wire.TCPSyn | wire.TCPAck, TCPOptions: options,
				PartialChecksum: true,
			}
			data := wiretest.Packet{Src: ends[0], Dst: ends[1], TCPFlags: wire.TCPAck, TCPOptions: options}
			for _, s := range []struct {
				port   uint16
				packet wiretest.Packet
				want   uint16
			}{{0, syn, r.in}, {1, synAck, r.reply}, {0, data, r.says}} {
				f := in(s.port, s.packet)
				if v := w.process(&f); v.Dropped() {
					t.Fatalf("flags %d: %s", s.packet.TCPFlags, v)
				}
				wiretest.Check(t, f)
				tcp := wiretest.Decode(t, f).Layer(layers.LayerTypeTCP).(*layers.TCP)
				for _, o := range tcp.Options {
					if o.OptionType == layers.TCPOptionKindMSS && binary.BigEndian.Uint16(o.OptionData) != s.want {
						t.Errorf("flags %d: MSS %x, want %d", s.packet.TCPFlags, o.OptionData, s.want)
					}
				}
			}
		})
	}
}
