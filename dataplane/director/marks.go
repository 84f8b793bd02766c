package director

import (
	"net/netip"

	"uvs/dataplane/lpm"
	"uvs/dataplane/wire"
)

// Marks are the rules that mark packets, and the services of marks. They stand in for
// netfilter's MARK target, because frames reach us before netfilter.
type Marks struct {
	// Rules are in the order in which they were added. The last that matches decides,
	// as with `iptables -j MARK`, which continues after a match.
	Rules    []MarkRule
	Services map[MarkKey]*Service
	nets     *lpm.Table[struct{}] // the destinations of rules whose mark has a service
}

// NewMarks compiles the rules; nil: none leads to a service. A service that is nil was
// removed, and packets still come for its conns.
func NewMarks(rules []MarkRule, services map[MarkKey]*Service) *Marks {
	used := false
	nets := lpm.New(func(yield func(netip.Prefix, struct{}) bool) {
		for _, r := range rules {
			if _, ok := services[MarkKey{r.Mark, r.Dst.Addr().Is6()}]; !ok {
				continue
			}
			used = true
			if !yield(r.Dst, struct{}{}) {
				return
			}
		}
	})
	if !used {
		return nil
	}
	return &Marks{Rules: rules, Services: services, nets: nets}
}

// MarkKey finds the service of a mark; each family has its own.
type MarkKey struct {
	Mark uint32
	IPv6 bool
}

// MarkRule marks the packets that match all of it.
type MarkRule struct {
	Src, Dst           netip.Prefix     // 0.0.0.0/0 or ::/0 for any of the family
	SrcPorts, DstPorts []wire.PortRange // nil: any
	Proto              uint8            // 0: any of TCP, UDP, SCTP
	In                 uint16           // port it came in by; wire.NoPort: any
	Mark               uint32
}

// SourceRange is a range of ports of one protocol at the addresses of a net.
type SourceRange struct {
	Net   netip.Prefix
	Proto uint8
	Ports wire.PortRange
}

// service returns the service of a packet's mark; nil: none.
func (m *Marks) service(p *packet) *Service {
	src, dst := p.Src.Netip(), p.Dst.Netip()
	for i := len(m.Rules) - 1; i >= 0; i-- {
		r := &m.Rules[i]
		if r.Dst.Contains(dst) && r.Src.Contains(src) &&
			(r.Proto == 0 || r.Proto == p.Proto) && (r.In == wire.NoPort || r.In == p.frame.In) &&
			within(r.DstPorts, p.DstPort) && within(r.SrcPorts, p.SrcPort) {
			return m.Services[MarkKey{r.Mark, p.IPv6}]
		}
	}
	return nil
}

// within reports whether a port is in one of the ranges, or there are none.
func within(list []wire.PortRange, port uint16) bool {
	for _, r := range list {
		if r.Contains(port) {
			return true
		}
	}
	return list == nil
}

// contains reports whether an endpoint is in the range.
func (s *SourceRange) contains(addr netip.Addr, port uint16, proto uint8) bool {
	return s.Proto == proto && s.Ports.Contains(port) && s.Net.Contains(addr)
}
