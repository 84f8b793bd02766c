package answer

import (
	"encoding/binary"

	"uvs/dataplane/wire"
	"uvs/fwd"
)

// reflected is the flag T of an ABORT or SHUTDOWN COMPLETE: the verification tag is that
// of the packet which it answers.
const reflected = 1

// Abort turns an SCTP packet of no known association into what answers it: an ABORT, or
// a SHUTDOWN COMPLETE for a SHUTDOWN ACK. RFC 9260 section 8.4; where that allows for
// more, as the kernel (net/sctp/input.c, sctp_rcv_ootb; sm_statefuns.c, sctp_sf_ootb).
// False for packets that are never answered, for fragments, for a wrong CRC32c, and if
// either address is not that of one host.
func Abort(f *wire.Frame, p *wire.Packet) bool {
	if p.Proto != wire.ProtoSCTP || p.Fragment != wire.FragmentNone ||
		!answerable(f, p) || !wire.VerifyChecksum(f, p) {
		return false
	}
	t := f.From(p.L4)[:p.Len-uint32(p.L4-p.L3)]
	kind, flags, tag, ok := abortFor(t)
	if !ok {
		return false
	}
	leaveBack(f)
	f.End = f.Off + int32(p.L3) + int32(fwd.IPLen(p.Src)+wire.SCTPLen+wire.ChunkLen)
	t = f.From(p.L3)[fwd.IPLen(p.Src):]
	wire.UDP(t).SetSrcPort(p.DstPort)
	wire.UDP(t).SetDstPort(p.SrcPort)
	binary.BigEndian.PutUint32(t[wire.SCTPTag:], tag)
	copy(t[wire.SCTPLen:], []byte{kind, flags, 0, wire.ChunkLen})
	ip := fwd.IPHeader{Src: p.Dst, Dst: p.Src, Proto: wire.ProtoSCTP, TTL: ownTTL, DF: true}
	ip.PutWithChecksum(f, p.L3)
	return true
}

// abortFor returns the chunk that answers an SCTP packet t, and its verification tag.
func abortFor(t []byte) (kind, flags uint8, tag uint32, ok bool) {
	const (
		initLen     = 20 // RFC 9260 section 3.3.2; the sender's tag is first in its body
		staleCookie = 3  // the cause of an ERROR, section 3.3.10.3
	)
	chunks := t[wire.SCTPLen:]
	if len(chunks) < wire.ChunkLen {
		return 0, 0, 0, false
	}
	kind = wire.ChunkAbort
	switch body := chunks[wire.ChunkLen:]; chunks[0] {
	case wire.ChunkInit: // which must be alone
		if len(chunks) < initLen || wire.PaddedChunk(chunks) != len(chunks) {
			return 0, 0, 0, false
		}
		return kind, 0, binary.BigEndian.Uint32(body), true
	case wire.ChunkShutdownAck:
		kind = wire.ChunkShutdownComplete
	case wire.ChunkCookieAck:
		return 0, 0, 0, false
	case wire.ChunkError:
		if len(body) >= 2 && binary.BigEndian.Uint16(body) == staleCookie {
			return 0, 0, 0, false
		}
	}
	for len(chunks) >= wire.ChunkLen {
		switch chunks[0] {
		case wire.ChunkInit, wire.ChunkAbort, wire.ChunkShutdownComplete:
			return 0, 0, 0, false
		}
		n := wire.PaddedChunk(chunks)
		if n < wire.ChunkLen || n > len(chunks) {
			break
		}
		chunks = chunks[n:]
	}
	return kind, reflected, binary.BigEndian.Uint32(t[wire.SCTPTag:]), true
}
