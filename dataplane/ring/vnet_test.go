package ring

import (
	"bytes"
	"testing"

	"uvs/dataplane/wire"
)

// TestOffload writes what a device is told over the remains of another frame's
// header and reads it again.
func TestOffload(t *testing.T) {
	for _, row := range []struct {
		what       string
		came, told wire.Offload
	}{
		{"a plain frame", wire.Offload{}, wire.Offload{}},
		{"a verified frame needs nothing", wire.Offload{Flags: wire.OffloadDataValid, HdrLen: 54}, wire.Offload{}},
		{
			"a half-made checksum",
			wire.Offload{Flags: wire.OffloadNeedsCsum, CsumStart: 34, CsumOffset: 16},
			wire.Offload{Flags: wire.OffloadNeedsCsum, CsumStart: 34, CsumOffset: 16},
		},
		{
			"a super-frame",
			wire.Offload{Flags: wire.OffloadNeedsCsum | wire.OffloadDataValid, GSOType: wire.GSOTCPv4 | wire.GSOECN, HdrLen: 54, GSOSize: 1448, CsumStart: 34, CsumOffset: 16},
			wire.Offload{Flags: wire.OffloadNeedsCsum, GSOType: wire.GSOTCPv4 | wire.GSOECN, HdrLen: 54, GSOSize: 1448, CsumStart: 34, CsumOffset: 16},
		},
	} {
		h := bytes.Repeat([]byte{0xdb}, vnetHdrLen)
		writeOffload(h, row.came)
		if got := readOffload(h); got != row.told {
			t.Errorf("%s: told %+v, want %+v", row.what, got, row.told)
		}
	}
}
