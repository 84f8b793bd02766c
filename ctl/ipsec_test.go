package ctl

import (
	"net/netip"
	"slices"
	"testing"

	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// A service of IKE also hides ESP and AH from the host, to its VIP and from its servers. The
// director routes what the guard hides and has no conn.
func TestIKEHidesIPsec(t *testing.T) {
	for _, r := range []struct {
		sentence string
		port     uint16
		proto    config.Proto
		hidden   bool
	}{
		{"a service of IKE", 500, wire.ProtoUDP, true},
		{"a service of every UDP port", 0, wire.ProtoUDP, true},
		{"a service of another port", 4500, wire.ProtoUDP, false},
		{"port 500 of TCP is not IKE's", 500, wire.ProtoTCP, false},
	} {
		w := newFixture(t, 1)
		vipAddr, server := netip.MustParseAddr("10.9.0.1"), testServer(0)
		key := config.ServiceKey{Proto: r.proto, Addr: vipAddr, Port: r.port}
		svc := &config.Service{ServiceKey: key, Scheduler: "rr", Persist: 300}
		w.must(config.Op{Kind: config.AddService, Service: svc},
			config.Op{
				Kind: config.AddServer, Service: svc,
				Server: &config.Server{
					ServerKey: config.ServerKey{Addr: server, Port: r.port},
					Method:    config.MethodNAT, Weight: 1,
				},
			})
		hides := func(of func(*guard.ServiceRules) []guard.Endpoint, e guard.Endpoint) bool {
			for p := range w.guard.rules.Services.All() {
				if slices.Contains(of(p), e) {
					return true
				}
			}
			return false
		}
		for _, proto := range []uint8{wire.ProtoESP, wire.ProtoAH} {
			vip := guard.Endpoint{Proto: proto, Addr: vipAddr}
			rip := guard.Endpoint{Proto: proto, Addr: server}
			if got := hides(func(p *guard.ServiceRules) []guard.Endpoint { return p.Destinations },
				vip); got != r.hidden {
				t.Errorf("%s: %s to the VIP hidden: %t", r.sentence, config.Proto(proto), got)
			}
			sources := func(p *guard.ServiceRules) []guard.Endpoint { return p.ReplySources }
			if got := hides(sources, rip); got != r.hidden {
				t.Errorf("%s: %s from the server hidden: %t", r.sentence, config.Proto(proto), got)
			}
			if got := w.plane.table().ReplySources.Has(director.Endpoint{
				Addr:  wire.AddrFrom(rip.Addr),
				Proto: proto,
			}); got != r.hidden {
				t.Errorf("%s: %s from the server routed on: %t", r.sentence, config.Proto(proto), got)
			}
		}
	}
}
