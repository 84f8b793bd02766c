package compile

import (
	"encoding/binary"
	"slices"

	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// compileMarks compiles the mark rules, as director.NewMarks does.
func compileMarks(
	rules []config.MarkRule, services map[director.MarkKey]*director.Service, fib *director.FIB,
) *director.Marks {
	var compiled []director.MarkRule
	for _, r := range rules {
		in, ok := PortOf(fib, r.Interface)
		if !ok {
			continue // the interface is gone
		}
		compiled = append(compiled, director.MarkRule{
			Src: r.SrcNet(), Dst: r.DstNet(), Proto: uint8(r.Proto), In: in, Mark: r.Mark,
			SrcPorts: r.SrcPorts, DstPorts: r.DstPorts,
		})
	}
	return director.NewMarks(compiled, services)
}

func markKey(k config.ServiceKey) director.MarkKey {
	return director.MarkKey{Mark: k.FWMark, IPv6: k.IPv6}
}

// PortOf finds the port of an interface; an empty name is any.
func PortOf(fib *director.FIB, name string) (uint16, bool) {
	if name == "" {
		return wire.NoPort, true
	}
	i := slices.IndexFunc(fib.Ports, func(p director.Port) bool { return p.Name == name })
	return uint16(i), i >= 0
}

// markAddr returns the address that stands for a mark in templates: the mark as an IPv4 address
// or, for IPv6, in the first four bytes (net/netfilter/ipvs/ip_vs_core.c, ip_vs_sched_persist).
func markAddr(k config.ServiceKey) (a wire.Addr) {
	if k.FWMark == 0 {
		return a
	}
	if !k.IPv6 {
		a[10], a[11] = 0xff, 0xff
		binary.BigEndian.PutUint32(a[12:], k.FWMark)
		return a
	}
	binary.BigEndian.PutUint32(a[:], k.FWMark)
	return a
}
