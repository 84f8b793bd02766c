package answer

import (
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// RelayError turns error p, about a tunnel packet, into an error about the inner packet.
// It goes from src to inner's source and states mtu (0: none). linkMTU is the MTU of the
// link that it leaves by. Afterwards neither p nor inner is valid. The caller still has
// to route the frame.
//
// It returns false, and the frame is untouched, if inner must not be answered (see
// ICMPError).
func RelayError(f *wire.Frame, p, inner *wire.Packet, src wire.Addr, mtu uint32, linkMTU int) bool {
	if !mayAnswerError(f, inner, src) {
		return false
	}
	m := relayed(f, p, inner)
	removed := inner.L3 - p.L3
	fwd.MoveLink(f, p, -int(removed))
	inner.L3, inner.L4 = inner.L3-removed, inner.L4-removed
	fwd.SetEtherType(f, inner, inner.IPv6)
	putError(f, inner, m, src, mtu, linkMTU)
	return true
}

// relayed returns the message for the sender of inner about error p. Type and code stay
// if both are of one family, as in IPVS. A parameter problem points into headers that
// inner does not have. For that, and for what only one of the families has, the message
// is that the server cannot be reached (RFC 2473 section 8, RFC 4213 section 3.4).
func relayed(f *wire.Frame, p, inner *wire.Packet) message {
	if _, tooBig := fwd.ReportedMTU(f, p); tooBig {
		return TooBig.message(inner.IPv6)
	}
	if p.IPv6 != inner.IPv6 || p.ICMPType == wire.ByFamily[uint8](p.IPv6, wire.ICMPParameter, wire.ICMPv6Parameter) {
		return HostUnreachable.message(inner.IPv6)
	}
	return message{p.ICMPType, p.ICMPCode}
}
