package realserver

import (
	"encoding/binary"

	"uvs/dataplane/wire"
)

// decapFunc takes off what a kind of tunnel has between its outer and its inner IP
// header, and says the inner one's version. It refuses what it does not know
// whole: an option skipped may be one that matters.
type decapFunc func(b []byte) (inner []byte, version int, ok bool)

// IPIP has nothing, and the outer header says what is inside.
func decapIPv4(b []byte) ([]byte, int, bool) { return b, 4, true }
func decapIPv6(b []byte) ([]byte, int, bool) { return b, 6, true }

// decapGRE is RFC 2784 section 2: two bytes of flags, of which only the checksum's may
// be set here, and two of EtherType; then, if it is, the checksum of all that
// follows the outer IP header, and two bytes that are reserved.
func decapGRE(b []byte) (inner []byte, version int, ok bool) {
	const checksumPresent, plain, withChecksum = 0x8000, 4, 8
	if len(b) < plain {
		return nil, 0, false
	}
	n := plain
	switch binary.BigEndian.Uint16(b) {
	case 0:
	case checksumPresent:
		if n = withChecksum; len(b) < n || wire.Fold(wire.Sum(b, 0)) != 0xffff {
			return nil, 0, false
		}
	default:
		return nil, 0, false
	}
	switch binary.BigEndian.Uint16(b[2:]) {
	case wire.EtherTypeIPv4:
		return b[n:], 4, true
	case wire.EtherTypeIPv6:
		return b[n:], 6, true
	}
	return nil, 0, false
}

// decapGUE is draft-ietf-intarea-gue-09 section 3, behind the UDP header: version 0,
// no control message, no options (all in the first byte), an IP protocol number,
// and no flags in the last two bytes.
func decapGUE(b []byte) (inner []byte, version int, ok bool) {
	const length = 4
	if len(b) < length || b[0] != 0 || b[2] != 0 || b[3] != 0 {
		return nil, 0, false
	}
	switch b[1] {
	case wire.ProtoIPIP:
		return b[length:], 4, true
	case wire.ProtoIPv6:
		return b[length:], 6, true
	}
	return nil, 0, false
}
