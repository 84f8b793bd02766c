package compile

import (
	"encoding/binary"
	"slices"

	"github.com/gaissmai/bart"

	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// compileMarks makes the director's rules; nil if none leads to one of services.
func compileMarks(s *config.State, services map[director.MarkKey]*director.Service, ways *director.FIB) *director.Marks {
	m := &director.Marks{Services: services, Nets: new(bart.Lite)}
	used := false
	for _, r := range s.Marks {
		in, ok := PortOf(ways, r.Interface)
		if !ok {
			continue // comes back with the interface
		}
		m.Rules = append(m.Rules, director.MarkRule{
			Src: r.SrcNet(), Dst: r.DstNet(), Proto: r.Proto, In: in, Mark: r.Mark,
			SrcPorts: r.SrcPorts, DstPorts: r.DstPorts,
		})
		if m.Services[director.MarkKey{Mark: r.Mark, IPv6: r.IPv6}] != nil {
			m.Nets.Insert(r.DstNet())
			used = true
		}
	}
	if !used {
		return nil
	}
	return m
}

// PortOf finds an interface's port; an empty name is any.
func PortOf(ways *director.FIB, name string) (uint16, bool) {
	if name == "" {
		return wire.NoPort, true
	}
	i := slices.IndexFunc(ways.Ports, func(p director.Port) bool { return p.Name == name })
	return uint16(i), i >= 0
}

// markGroup is the address that stands for a mark in templates: the mark as an
// IPv4 address, for IPv6 in the first four bytes, as IPVS lists it.
func markGroup(k config.ServiceKey) (a wire.Addr) {
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
