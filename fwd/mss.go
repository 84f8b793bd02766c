package fwd

import (
	"encoding/binary"
	"math/bits"

	"uvs/dataplane/wire"
)

// ClampMSS lowers the MSS option of TCP segment p, a SYN, to mss, and updates the
// checksum. A SYN without the option stays as it is: its sender must not be sent more
// than 536 bytes (IPv6: 1220; RFC 9293 section 3.7.1).
func ClampMSS(f *wire.Frame, p *wire.Packet, mss uint16) {
	t := wire.TCP(f.From(p.L4))
	header := min(t.HeaderLen(), len(t))
	o := t[wire.TCPLen:header]
	for n := wire.OptionLen(o); n > 0; n = wire.OptionLen(o) {
		if o[0] == wire.OptionMSS && n == wire.OptionMSSLen {
			lowerMSS(f, p, t, header-len(o)+2, mss)
		}
		o = o[n:]
	}
}

// lowerMSS lowers the value at an offset of the segment. A partial checksum does not
// cover it yet.
func lowerMSS(f *wire.Frame, p *wire.Packet, t wire.TCP, at int, mss uint16) {
	old := binary.BigEndian.Uint16(t[at:])
	if old <= mss {
		return
	}
	binary.BigEndian.PutUint16(t[at:], mss)
	if f.ChecksumPartialOf(p) {
		return
	}
	if at%2 != 0 { // it straddles two words of the checksum, which see its bytes swapped (RFC 1071 section 2)
		old, mss = bits.ReverseBytes16(old), bits.ReverseBytes16(mss)
	}
	t.SetChecksum(wire.Update16(t.Checksum(), old, mss))
}
