package director

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"uvs/conntrack"
	"uvs/dataplane/wire"
)

// SIPCalls remember what SIP calls are called, for listings: templates have but a
// hash of the Call-ID, 120 bits of it, which stands where a client's address
// would. Two directors make the same of a Call-ID.
//
// A call is remembered in the slot its hash says, until another takes it, so
// that memory is bounded (2.2 MiB) and of many calls some have no name. A slot
// is words that any worker may write at any time:
//
//	0  hash of what follows, which is wrong while workers write at once
//	1  address of the client whose message was last scheduled
//	3  length, and the Call-ID
type SIPCalls struct {
	slots [callSlots]callSlot
}

const (
	callSlots = 1 << 13
	callBytes = 16 + 1 + wire.MaxSIPCallID
)

type callSlot struct {
	sum   atomic.Uint64
	words [callBytes / 8]atomic.Uint64
}

// callMark is the first byte of a Call-ID's hash. No client has such an address:
// it is a multicast group (RFC 4291 section 2.7).
const callMark = 0xff

// IsCall says whether the client of a template is a call.
func IsCall(client wire.Addr) bool { return client[0] == callMark }

// callKey is what stands for a Call-ID in templates.
func callKey(id []byte) (key wire.Addr) {
	var d xxhash.Digest
	d.ResetWithSeed(uint64(len(id)))
	d.Write(id)
	binary.BigEndian.PutUint64(key[:], xxhash.Sum64(id))
	binary.BigEndian.PutUint64(key[8:], d.Sum64())
	key[0] = callMark
	return key
}

// of is the call a datagram belongs to, which is remembered as client's; ok is
// false if it is none of SIP or says not which call it is.
func (c *SIPCalls) of(p *packet, client wire.Addr) (key wire.Addr, ok bool) {
	if p.Proto != wire.ProtoUDP || p.Fragment == wire.FragmentLater {
		return key, false
	}
	id, ok := wire.SIPCallID(p.frame.From(p.L4)[wire.UDPLen:])
	if !ok {
		return key, false
	}
	key = callKey(id)
	var b [callBytes]byte
	copy(b[:], client[:])
	b[16] = byte(len(id))
	copy(b[17:], id)
	slot, sum := c.slot(key), xxhash.Sum64(b[:])
	if slot.sum.Load() == sum {
		return key, true
	}
	slot.sum.Store(0)
	for i := range slot.words {
		slot.words[i].Store(binary.BigEndian.Uint64(b[8*i:]))
	}
	slot.sum.Store(sum)
	return key, true
}

func (c *SIPCalls) slot(key wire.Addr) *callSlot {
	return &c.slots[binary.BigEndian.Uint64(key[8:])%callSlots]
}

// Name is the Call-ID that a template's client stands for, and the client whose
// message was last scheduled; ok is false if it is not remembered any more.
func (c *SIPCalls) Name(key wire.Addr) (client wire.Addr, id string, ok bool) {
	var b [callBytes]byte
	slot := c.slot(key)
	for i := range slot.words {
		binary.BigEndian.PutUint64(b[8*i:], slot.words[i].Load())
	}
	name := b[17:][:b[16]]
	if slot.sum.Load() != xxhash.Sum64(b[:]) || callKey(name) != key {
		return client, "", false
	}
	return wire.Addr(b[:16]), string(name), true
}

// callOut treats a datagram that a server of calls sends without a conn: it
// leaves as from the service, the call is the server's from now on if it is
// nobody's, and answers find the server (the kernel's ip_vs_new_conn_out). One
// that says not which call it is of belongs to nothing.
func (d *Director) callOut(p *packet, o *ReplyService) Verdict {
	svc, server := o.Service, d.table.server(o.Server)
	call, ok := svc.SIPCalls.of(p, p.Dst)
	if !ok || !server.Available {
		return d.refuseOrRoute(p)
	}
	group := Endpoint{Addr: o.VIP, Port: svc.Port, Proto: p.Proto}
	control := d.findTemplate(call, group)
	if control != 0 {
		d.conns.Renew(control, 0)
	} else {
		control = d.makeTemplate(svc, server, call, group)
	}
	if svc.OnePacket {
		d.held.onePacketServer = server.ID
		return d.onePacketReply(p, o)
	}
	d.entry = conntrack.Entry{
		Proto:  p.Proto,
		Client: p.Dst, ClientPort: p.DstPort,
		VIP: o.VIP, VPort: o.vport(p),
		Server: p.Src, SPort: p.SrcPort,
		Method: conntrack.MethodMasq, ServerID: server.ID, ServiceID: svc.ID,
		Control: control,
	}
	ref, fresh := d.conns.Insert(&d.entry)
	if ref == 0 {
		return DroppedTableFull
	}
	p.query.Ref = ref
	if fresh {
		d.countBound(server)
	}
	return d.fromServer(p)
}
