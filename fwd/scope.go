package fwd

import "uvs/dataplane/wire"

// Scope is what can be at an address. Up to ScopeLoopback it is one host.
type Scope uint8

const (
	ScopeHost        Scope = iota // a host that can be reached from anywhere
	ScopeLink                     // a host, only from its own link: fe80::/10 (RFC 4291 section 2.5.6)
	ScopeLoopback                 // the host itself: 127/8, ::1
	ScopeUnspecified              // no host: 0/8 (RFC 1122 section 3.2.1.3), ::
	ScopeGroup                    // many hosts: 224/4, 255.255.255.255, ff00::/8
	ScopeReserved                 // no host yet: 240/4 (RFC 1112 section 4)
	NumScope
)

// ScopeOf returns the scope of an address of a packet. 169.254/16 is like any
// other, as Linux routes it.
func ScopeOf(a wire.Addr) Scope {
	switch {
	case a.Is4() && a[12] == 127 || a == wire.Addr{15: 1}:
		return ScopeLoopback
	case !a.Is4():
		switch {
		case a.IsZero():
			return ScopeUnspecified
		case a[0] == 0xff:
			return ScopeGroup
		case a[0] == 0xfe && a[1]&0xc0 == 0x80:
			return ScopeLink
		}
	case a[12] == 0:
		return ScopeUnspecified
	case a[12]&0xf0 == 224, [4]byte(a[12:]) == [4]byte{255, 255, 255, 255}:
		return ScopeGroup
	case a[12] >= 240:
		return ScopeReserved
	}
	return ScopeHost
}
