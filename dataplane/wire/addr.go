package wire

import (
	"encoding/binary"
	"math/bits"
	"net"
	"net/netip"
)

// Addr is an IP address in the packet path: sixteen bytes in network order. An
// IPv4 address is stored in its IPv4-mapped form ::ffff:a.b.c.d (RFC 4291
// section 2.5.5.2), so that tables, keys and rewrites need one path for both
// families. An Addr is comparable and holds no pointers.
type Addr [16]byte

// v4Prefix is the leading part of an IPv4-mapped address.
var v4Prefix = [12]byte{10: 0xff, 11: 0xff}

// Shard makes an Addr a cow.Key.
func (a Addr) Shard() uint8 { return a.ShardWith(0) }

// ShardWith is the shard of a key that has an address and a port. Every bit of both has an
// influence (Knuth, The Art of Computer Programming, volume 3, section 6.4: multiplicative
// hashing with 2^64 over the golden ratio).
func (a *Addr) ShardWith(port uint16) uint8 {
	const multiplier = 0x9e3779b97f4a7c15
	network, host := binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(a[8:])
	return uint8((host ^ bits.RotateLeft64(network, 29) ^ uint64(port)) * multiplier >> 56)
}

// AddrFrom converts a netip address. It drops the zone, and the zero netip.Addr
// becomes the zero Addr, which is also "::".
func AddrFrom(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	return a.As16()
}

// AddrFrom4 makes an Addr from four IPv4 bytes. b must have at least four. It is
// written so that it compiles to three stores.
func AddrFrom4(b []byte) Addr {
	return Addr{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}
}

// Is4 reports whether a holds an IPv4 address.
func (a Addr) Is4() bool { return [12]byte(a[:12]) == v4Prefix }

// As4 returns the four IPv4 bytes. They mean something only if Is4.
func (a Addr) As4() [4]byte { return [4]byte(a[12:]) }

// Netip returns a for people and configuration: unmapped, so that IPv4 prints as IPv4.
func (a Addr) Netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// IsZero reports whether a was never set.
func (a Addr) IsZero() bool { return a == Addr{} }

func (a Addr) String() string { return a.Netip().String() }

// ByFamily returns v6 if ipv6 is set, else v4.
func ByFamily[T any](ipv6 bool, v4, v6 T) T {
	if ipv6 {
		return v6
	}
	return v4
}

// MAC is an Ethernet hardware address, IEEE 802 EUI-48, in wire order.
type MAC [6]byte

// IsZero reports whether m was never set.
func (m MAC) IsZero() bool { return m == MAC{} }

// IsGroup reports whether m is multicast or broadcast: the lowest bit of the
// first byte is set, IEEE 802.3 section 3.2.3.
func (m MAC) IsGroup() bool { return m[0]&1 != 0 }

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }
