package tunnel

import (
	"fmt"
	"iter"
	"strings"
)

// Type is an encapsulation; its values are the kernel's IP_VS_CONN_F_TUNNEL_TYPE_*
// (include/uapi/linux/ip_vs.h).
type Type uint8

// encapsulations is the table of all encapsulations. A new one is a file with its
// Type and its Encapsulation, and a row here.
var encapsulations = [...]*Encapsulation{IPIP: &ipip, GUE: &gue, GRE: &gre}

// Flags of a tunnel, the kernel's IP_VS_TUNNEL_ENCAP_FLAG_*.
const (
	NoCsum  = 0
	Csum    = 1
	RemCsum = 2 // remote checksum offload
)

// Encapsulation is what distinguishes one kind of tunnel from another: the headers
// between the outer and the inner IP header. Protocol numbers of inner packets are
// wire.ProtoIPIP and wire.ProtoIPv6.
type Encapsulation struct {
	Name string // the word of ipvsadm's --tun-type
	// Port is the default UDP destination port; 0: not in UDP. Each tunnel in UDP needs
	// a port.
	Port uint16
	// MaxFlags is the highest of the flags it allows; all lower ones are allowed too.
	MaxFlags uint16
	// ChecksumOffset is where the checksum is, counted from the end of the outer IP
	// header; 0: there is never one.
	ChecksumOffset uint8

	proto       uint8 // in the outer IP header; 0: that of the inner packet
	headerLen   uint8 // bytes of all headers, that of UDP included
	checksumLen uint8 // bytes that a checksum adds to them

	// Put writes the header at the start of b, after that of UDP if there is one.
	// Its checksum is still to be filled in. b ends with the inner packet.
	Put func(b []byte, inner uint8, checksum bool)
	// Strip returns the length of the header that b starts with, after that of UDP,
	// and the inner packet's protocol; proto is the outer header's. It refuses
	// what Put cannot have written, and a wrong checksum.
	Strip func(proto uint8, b []byte) (n int, inner uint8, ok bool)
	// QuotedLen is the length of the header that b starts with, after that of
	// UDP. An ICMP error quotes it and may have cut it off anywhere.
	QuotedLen func(b []byte) int
}

// Proto returns the protocol number in the outer IP header of a packet with an inner one
// of the given protocol.
func (e *Encapsulation) Proto(inner uint8) uint8 {
	if e.proto != 0 {
		return e.proto
	}
	return inner
}

// Len returns the length of the headers in bytes, that of UDP included.
func (e *Encapsulation) Len(checksum bool) int {
	if checksum {
		return int(e.headerLen + e.checksumLen)
	}
	return int(e.headerLen)
}

// All iterates over the table.
func All() iter.Seq2[Type, *Encapsulation] {
	return func(yield func(Type, *Encapsulation) bool) {
		for i, e := range encapsulations {
			if e != nil && !yield(Type(i), e) {
				return
			}
		}
	}
}

// Known reports whether there is such a type.
func (t Type) Known() bool { return int(t) < len(encapsulations) && encapsulations[t] != nil }

// Encapsulation returns the row of a known type.
func (t Type) Encapsulation() *Encapsulation { return encapsulations[t] }

func (t Type) String() string {
	if t.Known() {
		return encapsulations[t].Name
	}
	return fmt.Sprintf("TunnelType(%d)", uint8(t))
}

// ParseType returns the type with a name.
func ParseType(name string) (Type, error) {
	for t, e := range All() {
		if e.Name == name {
			return t, nil
		}
	}
	return 0, fmt.Errorf("tunnel type is %q; want %s", name, OneOf())
}

// MarshalText returns the type's name.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText is ParseType.
func (t *Type) UnmarshalText(name []byte) (err error) {
	*t, err = ParseType(string(name))
	return err
}

// OneOf lists the names of all types: ipip, gue or gre.
func OneOf() string {
	names := Names(Every)
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// Names returns the names of the types for which a condition holds.
func Names(holds func(*Encapsulation) bool) (names []string) {
	for _, e := range All() {
		if holds(e) {
			names = append(names, e.Name)
		}
	}
	return names
}

// Every, HasPort and HasFlag are conditions for Names: for all types, for those whose
// tunnels have a port, and for those that allow a flag.
func Every(*Encapsulation) bool { return true }

func HasPort(e *Encapsulation) bool { return e.Port != 0 }

func HasFlag(flag uint16) func(*Encapsulation) bool {
	return func(e *Encapsulation) bool { return e.MaxFlags >= flag }
}
