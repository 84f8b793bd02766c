package tunnel

import (
	"encoding/binary"

	"uvs/dataplane/wire"
	"uvs/fwd"
)

// GRE is RFC 2784 section 2, the second row only if C is set:
//
//	+-+-----------------------+-----+-------------------------------+
//	|C|     Reserved (0)      | Ver |          EtherType            | 0
//	+-+-----------------------+-----+-------------------------------+
//	|           Checksum            |          Reserved             | 4
//	+-------------------------------+-------------------------------+
//
// The checksum covers all bytes from the header on.
const GRE Type = 2

const (
	greLen             = 4
	greChecksumLen     = 4
	greChecksumPresent = 0x8000 // C, of the first word
	greChecksum        = 4      // offset
)

var gre = Encapsulation{
	Name: "gre", MaxFlags: Csum, ChecksumOffset: greChecksum,
	proto: wire.ProtoGRE, headerLen: greLen, checksumLen: greChecksumLen,
	Put: putGRE, Strip: stripGRE, QuotedLen: quotedGRELen,
}

func putGRE(b []byte, inner uint8, checksum bool) {
	flags := uint32(0)
	if checksum {
		flags = greChecksumPresent
		binary.BigEndian.PutUint32(b[greChecksum:], 0)
	}
	binary.BigEndian.PutUint32(b, flags<<16|uint32(fwd.EtherType(inner == wire.ProtoIPv6)))
}

func stripGRE(_ uint8, b []byte) (n int, inner uint8, ok bool) {
	if len(b) < greLen {
		return 0, 0, false
	}
	flags := binary.BigEndian.Uint16(b)
	n = quotedGRELen(b)
	switch {
	case flags != 0 && flags != greChecksumPresent, len(b) < n,
		flags != 0 && wire.Fold(wire.Sum(b, 0)) != 0xffff:
		return 0, 0, false
	}
	switch binary.BigEndian.Uint16(b[2:]) {
	case wire.EtherTypeIPv4:
		return n, wire.ProtoIPIP, true
	case wire.EtherTypeIPv6:
		return n, wire.ProtoIPv6, true
	}
	return 0, 0, false
}

func quotedGRELen(b []byte) int {
	if len(b) > 0 && b[0]&(greChecksumPresent>>8) != 0 {
		return greLen + greChecksumLen
	}
	return greLen
}
