package ipvsadm

import (
	"encoding/binary"
	"net/netip"

	"uvs/ctl/api"
)

// ipvsadm compares by subtracting 32-bit numbers, so its order wraps around: 172.16.0.0
// comes before 10.0.0.0, and mark 0xffffffff before 1. The order is not transitive
// (100.64.0.0 < 192.168.0.0 < 10.1.0.0 < 100.64.0.0), so the result depends on the algorithm.
// mergeSort gives the same listings as ipvsadm.

// compareServices orders services by mark, family, protocol, address and port.
func compareServices(a, b *api.ServiceStatus) int32 {
	switch {
	case a.FWMark != b.FWMark:
		return int32(a.FWMark - b.FWMark)
	case a.Is6() != b.Is6():
		if b.Is6() {
			return -1
		}
		return 1
	case a.Proto != b.Proto:
		return int32(a.Proto) - int32(b.Proto)
	case a.Addr != b.Addr:
		return compareAddrs(a.Addr, b.Addr)
	}
	return int32(a.Port) - int32(b.Port)
}

// compareServers orders servers by address and port.
func compareServers(a, b *api.ServerStatus) int32 {
	if a.Addr != b.Addr {
		return compareAddrs(a.Addr, b.Addr)
	}
	return int32(a.Port) - int32(b.Port)
}

// compareAddrs compares word by word; an IPv4 address has only the first word.
func compareAddrs(a, b netip.Addr) int32 {
	x, y := addrWords(a), addrWords(b)
	for i := range x {
		if x[i] != y[i] {
			return int32(x[i] - y[i])
		}
	}
	return 0
}

func addrWords(a netip.Addr) (words [4]uint32) {
	bytes := a.As16()
	if a.Is4() {
		return [4]uint32{binary.BigEndian.Uint32(bytes[12:])}
	}
	for i := range words {
		words[i] = binary.BigEndian.Uint32(bytes[4*i:])
	}
	return words
}

// mergeSort returns a list sorted as the C library's qsort does.
func mergeSort[T any](list []T, compare func(a, b *T) int32) []T {
	order := make([]*T, len(list))
	for i := range list {
		order[i] = &list[i]
	}
	sorted := make([]T, 0, len(list))
	for _, element := range mergeHalves(order, compare) {
		sorted = append(sorted, *element)
	}
	return sorted
}

// mergeHalves halves a list, with the shorter half first, sorts both, and merges from the front,
// taking the left element of an equal pair.
func mergeHalves[T any](list []*T, compare func(a, b *T) int32) []*T {
	if len(list) < 2 {
		return list
	}
	half := len(list) / 2
	left, right := mergeHalves(list[:half], compare), mergeHalves(list[half:], compare)
	merged := make([]*T, 0, len(list))
	for len(left) > 0 && len(right) > 0 {
		from := &left
		if compare(left[0], right[0]) > 0 {
			from = &right
		}
		merged = append(merged, (*from)[0])
		*from = (*from)[1:]
	}
	return append(append(merged, left...), right...)
}
