package sip

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"uvs/dataplane/wire"
)

// Calls caches Call-IDs so that listings can show them. Templates store only a
// 120-bit hash of the Call-ID, in place of a client's address. The hash has no
// secret, so two directors compute the same one.
//
// The hash selects a call's slot. A call stays there until another takes the slot,
// so memory is bounded (2.2 MiB), and of very many calls some have no name. A slot
// consists of words that any worker may write at any time:
//
//	0  hash of the words that follow; wrong while workers write at the same time
//	1  address of the client whose message was scheduled last (16 bytes)
//	3  length of the Call-ID (1 byte), then the Call-ID
type Calls struct {
	slots [callSlots]callSlot
}

const (
	callSlots = 1 << 13
	callBytes = 16 + 1 + MaxCallID
)

type callSlot struct {
	sum   atomic.Uint64
	words [callBytes / 8]atomic.Uint64
}

// callPrefix is the first byte of a Call-ID's hash. No client has such an address:
// ff00::/8 is multicast (RFC 4291 section 2.7).
const callPrefix = 0xff

// IsCall reports whether a template's client address is a Call-ID's hash.
func IsCall(client wire.Addr) bool { return client[0] == callPrefix }

// Key returns the hash that stands for a Call-ID in templates.
func Key(id []byte) (key wire.Addr) {
	var d xxhash.Digest
	d.ResetWithSeed(uint64(len(id)))
	d.Write(id)
	binary.BigEndian.PutUint64(key[:], xxhash.Sum64(id))
	binary.BigEndian.PutUint64(key[8:], d.Sum64())
	key[0] = callPrefix
	return key
}

// Record finds the call that a datagram belongs to, and caches its Call-ID with the
// client's address. ok is false if the datagram has no Call-ID that can be read.
func (c *Calls) Record(f *wire.Frame, p *wire.Packet, client wire.Addr) (key wire.Addr, ok bool) {
	if p.Proto != wire.ProtoUDP || p.Fragment == wire.FragmentLater {
		return key, false
	}
	id, ok := CallID(f.From(p.L4)[wire.UDPLen:])
	if !ok {
		return key, false
	}
	key = Key(id)
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

func (c *Calls) slot(key wire.Addr) *callSlot {
	return &c.slots[binary.BigEndian.Uint64(key[8:])%callSlots]
}

// Name returns the Call-ID behind a template's client address, and the client
// whose message was scheduled last. ok is false if the cache has lost it.
func (c *Calls) Name(key wire.Addr) (client wire.Addr, id string, ok bool) {
	var b [callBytes]byte
	slot := c.slot(key)
	for i := range slot.words {
		binary.BigEndian.PutUint64(b[8*i:], slot.words[i].Load())
	}
	name := b[17:][:b[16]]
	if slot.sum.Load() != xxhash.Sum64(b[:]) || Key(name) != key {
		return client, "", false
	}
	return wire.Addr(b[:16]), string(name), true
}
