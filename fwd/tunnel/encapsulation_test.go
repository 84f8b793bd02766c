package tunnel_test

import (
	"slices"
	"testing"

	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// TestEncapsulations: the answers of every row of the table agree with each other, and
// its headers fit into the headroom of a frame.
func TestEncapsulations(t *testing.T) {
	names := tunnel.Names(tunnel.Every)
	if slices.Sort(names); len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("names are not unique: %v", names)
	}
	for typ, e := range tunnel.All() {
		if got, err := tunnel.ParseType(typ.String()); got != typ || err != nil {
			t.Errorf("%s is parsed as %s: %v", typ, got, err)
		}
		for _, inner := range []uint8{wire.ProtoIPIP, wire.ProtoIPv6} {
			proto, udp := e.Proto(inner), 0
			if proto == wire.ProtoUDP {
				udp = wire.UDPLen
			}
			if (e.Port != 0) != (udp != 0) {
				t.Errorf("%s: protocol %d, port %d", typ, proto, e.Port)
			}
			for _, checksum := range []bool{false, e.MaxFlags > 0} {
				n := e.Len(checksum) - udp
				if link := wire.EthernetLen; n < 0 || link+wire.IPv6Len+e.Len(checksum) > wire.Headroom {
					t.Errorf("%s: a header of %d bytes", typ, n)
				}
				b := make([]byte, n+100)
				e.Put(b, inner, checksum)
				if at := int(e.ChecksumOffset); checksum && udp == 0 {
					sum := ^wire.Fold(wire.Sum(b, 0))
					b[at], b[at+1] = byte(sum>>8), byte(sum)
				} else if checksum && at == 0 {
					t.Errorf("%s: no place for a checksum", typ)
				}
				if got, in, ok := e.Strip(proto, b); got != n || in != inner || !ok {
					t.Errorf("%s of %d: stripped %d bytes of %d, %v, want %d", typ, inner, got, in, ok, n)
				}
				if got := e.QuotedLen(b); got != n {
					t.Errorf("%s: quoted with %d bytes, want %d", typ, got, n)
				}
			}
		}
	}
}
