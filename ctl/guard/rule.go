package guard

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// field is a field of a packet that a rule can load into registers.
type field struct {
	load func(register uint32) expr.Any
	len  uint32 // bytes
}

// network returns a field of the IP header, and transport one of the header after
// it. link returns one of the Ethernet header. The kernel shows the tag that it
// took out as if it were still there (net/netfilter/nft_payload.c).
func network(offset, len uint32) field {
	return payload(expr.PayloadBaseNetworkHeader, offset, len)
}

func transport(offset, len uint32) field {
	return payload(expr.PayloadBaseTransportHeader, offset, len)
}

func link(offset, len uint32) field { return payload(expr.PayloadBaseLLHeader, offset, len) }

func payload(base expr.PayloadBase, offset, len uint32) field {
	return field{func(register uint32) expr.Any {
		return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: len}
	}, len}
}

// fragmentHeader returns a field of IPv6's fragment header (RFC 8200 section 4.5). A
// rule that loads it matches no packet without that header.
func fragmentHeader(offset, len uint32) field {
	return field{func(register uint32) expr.Any {
		return &expr.Exthdr{
			DestRegister: register, Type: unix.IPPROTO_FRAGMENT, Offset: offset, Len: len,
			Op: expr.ExthdrOpIpv6,
		}
	}, len}
}

func meta(key expr.MetaKey, len uint32) field {
	return field{func(register uint32) expr.Any { return &expr.Meta{Key: key, Register: register} }, len}
}

var (
	protocol   = meta(expr.MetaKeyPROTOCOL, 2) // EtherType below any VLAN tag, network order
	l4proto    = meta(expr.MetaKeyL4PROTO, 1)  // after any extension headers
	etherType  = link(12, 2)                   // of the frame, before any tag
	vlan       = link(14, 2)                   // in a tagged frame: priority and VLAN
	packetType = meta(expr.MetaKeyPKTTYPE, 1)

	// Ports come first in TCP, UDP, UDP-Lite, SCTP and DCCP.
	srcPort  = transport(0, 2)
	dstPort  = transport(2, 2)
	icmpType = transport(0, 1)
)

// tagType starts an IEEE 802.1Q tag. vlanMask selects the VLAN in it; 0 is
// none.
var (
	tagType  = []byte{0x81, 0}
	vlanMask = []byte{0x0f, 0xff}
)

// register is NFT_REG32_00 (linux/netfilter/nf_tables.h), the first of sixteen
// registers of four bytes. Every key starts there.
const register = unix.NFT_REG32_00

// rule builds one rule. The kernel tries the conditions in the order in which
// they were added. A verdict completes the rule and queues it.
type rule struct {
	g     *Guard
	f     *family
	chain *nftables.Chain
	exprs []expr.Any
	len   uint32 // bytes of the key loaded last
}

func (g *Guard) rule(chain *nftables.Chain, f *family) *rule {
	return &rule{g: g, f: f, chain: chain}
}

func (r *rule) add(e expr.Any) *rule {
	r.exprs = append(r.exprs, e)
	return r
}

// key loads fields one after the other, each into whole registers, as sets with
// concatenated keys have them.
func (r *rule) key(fields ...field) *rule {
	at := uint32(register)
	for _, f := range fields {
		r.add(f.load(at))
		at += (f.len + 3) / 4
		r.len = f.len
	}
	return r
}

// masked clears the bits of the key that are not in mask.
func (r *rule) masked(mask []byte) *rule {
	return r.add(&expr.Bitwise{
		SourceRegister: register, DestRegister: register, Len: r.len, Mask: mask,
		Xor: make([]byte, len(mask)),
	})
}

// is continues if the key is value.
func (r *rule) is(value ...byte) *rule {
	return r.add(&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: value})
}

// ofFamily continues if the packet, below any tag, is of the family.
func (r *rule) ofFamily() *rule { return r.key(protocol).is(r.f.etherType...) }

func (r *rule) not(value ...byte) *rule {
	return r.add(&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: value})
}

// in continues if the key is in the family's set.
func (r *rule) in(set string) *rule {
	return r.add(&expr.Lookup{SourceRegister: register, SetName: set + r.f.suffix})
}

// notIn continues if the key is not in the family's set.
func (r *rule) notIn(set string) *rule {
	return r.add(&expr.Lookup{SourceRegister: register, SetName: set + r.f.suffix, Invert: true})
}

// quote continues for an ICMP error that uvs translates and whose quoted packet
// has a plain header.
func (r *rule) quote() *rule {
	return r.key(l4proto).is(r.f.icmp).key(icmpType).in("errors").
		key(r.f.quoteStart).masked([]byte{r.f.quoteMask}).is(r.f.quotePlain)
}

// addTo completes the rule: it puts the key into the family's set.
func (r *rule) addTo(set string) { r.update(set, 0).queue() }

// update puts the key into the family's set and restarts its timeout; 0 is the
// set's default. It continues unless the set is full.
func (r *rule) update(set string, timeout time.Duration) *rule {
	return r.add(&expr.Dynset{
		SrcRegKey: register, SetName: set + r.f.suffix, Operation: unix.NFT_DYNSET_OP_UPDATE,
		Timeout: timeout,
	})
}

// greater continues if the key, a number in the host's order, is greater than
// n.
func (r *rule) greater(n uint32) *rule {
	r.add(&expr.Byteorder{SourceRegister: register, DestRegister: register, Op: expr.ByteorderHton, Len: 4, Size: 4})
	return r.add(&expr.Cmp{Op: expr.CmpOpGt, Register: register, Data: binary.BigEndian.AppendUint32(nil, n)})
}

// drop completes the rule: it counts and drops the packet.
func (r *rule) drop(counter string) {
	r.add(&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: counter}).verdict(expr.VerdictDrop, "")
}

// goTo completes the rule: the packet goes to another chain and does not
// return.
func (r *rule) goTo(chain *nftables.Chain) { r.verdict(expr.VerdictGoto, chain.Name) }

// jump completes the rule: the packet goes to a chain of the family, and
// returns if no rule there decides.
func (r *rule) jump(chain string) { r.verdict(expr.VerdictJump, chain+r.f.suffix) }

// within continues if the key, an address, is in the net.
func (r *rule) within(at field, p netip.Prefix) *rule {
	if !p.IsValid() || p.Bits() == 0 {
		return r
	}
	r.key(at)
	if !p.IsSingleIP() {
		r.masked(net.CIDRMask(p.Bits(), p.Addr().BitLen()))
	}
	return r.is(p.Masked().Addr().AsSlice()...)
}

// ports continues if the key, a port, is in first to last.
func (r *rule) ports(at field, first, last uint16) *rule {
	switch {
	case first == 0 && last == 65535:
		return r
	case first == last:
		return r.key(at).is(byte(first>>8), byte(first))
	}
	return r.key(at).add(&expr.Range{
		Op: expr.CmpOpEq, Register: register,
		FromData: binary.BigEndian.AppendUint16(nil, first), ToData: binary.BigEndian.AppendUint16(nil, last),
	})
}

// pass completes the rule: the packet passes, as far as this chain decides.
func (r *rule) pass() { r.verdict(expr.VerdictReturn, "") }

func (r *rule) verdict(kind expr.VerdictKind, chain string) {
	r.add(&expr.Verdict{Kind: kind, Chain: chain}).queue()
}

func (r *rule) queue() {
	r.g.conn.AddRule(&nftables.Rule{Table: r.g.table, Chain: r.chain, Exprs: r.exprs})
}
