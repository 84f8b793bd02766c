package ring

import (
	"bytes"
	"testing"

	"uvs/dataplane/wire"
)

// TestOffload writes the header for a device over that of another frame, and reads it
// again.
func TestOffload(t *testing.T) {
	for _, row := range []struct {
		what           string
		received, sent wire.Offload
	}{
		{"a plain frame", wire.Offload{}, wire.Offload{}},
		{"a verified frame needs nothing", wire.Offload{Flags: wire.OffloadDataValid, HdrLen: 54}, wire.Offload{}},
		{
			"a partial checksum",
			wire.Offload{Flags: wire.OffloadNeedsCsum, CsumStart: 34, CsumOffset: 16},
			wire.Offload{Flags: wire.OffloadNeedsCsum, CsumStart: 34, CsumOffset: 16},
		},
		{
			"a GSO frame",
			wire.Offload{
				Flags: wire.OffloadNeedsCsum | wire.OffloadDataValid, GSOType: wire.GSOTCPv4 | wire.GSOECN,
				HdrLen: 54, GSOSize: 1448, CsumStart: 34, CsumOffset: 16,
			},
			wire.Offload{
				Flags: wire.OffloadNeedsCsum, GSOType: wire.GSOTCPv4 | wire.GSOECN, HdrLen: 54, GSOSize: 1448,
				CsumStart: 34, CsumOffset: 16,
			},
		},
	} {
		h := bytes.Repeat([]byte{0xdb}, vnetHdrLen)
		writeOffload(h, row.received)
		if got := readOffload(h); got != row.sent {
			t.Errorf("%s: sent %+v, want %+v", row.what, got, row.sent)
		}
	}
}
