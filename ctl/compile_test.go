package ctl

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"uvs/conntrack"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// After any operations the table, most of which was taken over from the one before, equals
// one compiled from the whole state. So do the guard's rules, and the addresses that the host
// is told of.
func TestCompileByDifference(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	w := newFixture(t, 1)
	w.must(add(vip, "rr"))
	later := compile.TrashTime
	for range 600 {
		var ops []config.Op
		for range 1 + rng.IntN(2)*rng.IntN(4) {
			ops = append(ops, differentOp(rng, &w.state))
		}
		w.guard.refuse = nil
		switch rng.IntN(16) {
		case 0:
			w.exchange(0, syn("5000"))
		case 1:
			w.conns.Flush(func(*conntrack.Snapshot) bool { return rng.IntN(2) == 0 })
			w.maintain(w.now.Add(later))
			later += compile.TrashTime
			w.maintain(w.now.Add(later))
		case 2:
			net := *w.host.HostNet()
			net.Neighbours = maps.Clone(net.Neighbours)
			server := director.NeighbourKey{Port: 1, Addr: wire.AddrFrom(testServer(rng.IntN(numServers)))}
			if _, ok := net.Neighbours[server]; ok {
				delete(net.Neighbours, server)
			} else {
				net.Neighbours[server] = wire.MAC{2, 0, 0, 2, 0, byte(rng.IntN(3))}
			}
			switch rng.IntN(8) {
			case 0:
				net.Routes = net.Routes.Clone()
			case 1:
				net.Routes = net.Routes.Clone()
				source := netip.AddrFrom4([4]byte{10, 2, 255, byte(rng.IntN(3))})
				net.Routes.Insert(netip.MustParsePrefix("10.2.0.2/31"), director.Route{Port: 1, Source: source})
			case 2:
				net.HostAddrs = testHostNet(0).HostAddrs
				net.HostAddrs[wire.AddrFrom(testServer(rng.IntN(4)))] = 2
			case 3:
				net.HostAddrs = testHostNet(0).HostAddrs
				net.HostAddrs[wire.AddrFrom(service(vip, "").Addr)] = 2
			}
			w.host.set(&net)
			w.RoutesChanged()
		case 3:
			w.plane.ahead += 3601 * conntrack.Second // removed_grace is over
		case 4:
			w.guard.refuse = func(int) error { return errors.New("no") }
		case 5:
			other := w.state.Clone()
			for range rng.IntN(8) {
				next := other.Clone()
				if next.Apply(differentOp(rng, &other)) == nil {
					other = next
				}
			}
			ops = append(ops, config.Op{Kind: config.Replace, Document: other.Document()})
		}
		w.ApplyAll(ops)
		if w.guard.refuse != nil { // perhaps the guard was not narrowed
			w.guard.refuse = nil
			w.maintain(w.now)
		}
		if text := w.differences(); text != "" {
			t.Fatalf("after %+v: %s", ops, text)
		}
	}
}

// differentOp is a random operation on services of all kinds.
func differentOp(rng *rand.Rand, s *config.State) config.Op {
	op := randomOp(rng)
	svc, server := op.Service, op.Server
	if svc == nil {
		return op
	}
	onService := []config.OpKind{config.AddService, config.EditService, config.DeleteService}[rng.IntN(3)]
	switch rng.IntN(20) {
	case 0:
		return config.Op{Kind: config.SetSorry, Service: svc, Server: server}
	case 1:
		return config.Op{Kind: config.SetSorry, Service: svc}
	case 2:
		name := []string{
			"timeout_tcp_established", "slow_start", "expire_quiescent_template", "announce", "announce", "ops_replies",
		}[rng.IntN(6)]
		if name == "ops_replies" {
			svc.Proto = wire.ProtoUDP
		}
		return config.Op{Kind: config.SetSettings, Service: svc, Settings: config.Values{name: uint32(rng.IntN(2))}}
	case 3:
		return config.Op{Kind: config.SetSettings, Settings: config.Values{
			"removed_conns": uint32(rng.IntN(4)), "removed_grace": uint32(rng.IntN(2) * 3600),
			"announce": uint32(rng.IntN(3)),
		}}
	case 4:
		return config.Op{Kind: config.AddMarks, Marks: []config.MarkRule{rule("10.9.3.0/24", wire.ProtoTCP, 1,
			config.PortRange{First: 80, Last: uint16(80 + rng.IntN(2))})}}
	case 5:
		return config.Op{Kind: config.DeleteMarks, Marks: s.Marks}
	case 6:
		return config.Op{Kind: []config.OpKind{config.Standby, config.Active}[rng.IntN(2)]}
	case 7, 8: // a mark
		svc.ServiceKey = config.ServiceKey{FWMark: 1}
	case 9: // one-packet scheduling
		svc.Proto, svc.OPS, svc.Persist = wire.ProtoUDP, true, 0
	case 10: // SIP
		svc.Proto, svc.Port, svc.PE, svc.Persist = wire.ProtoUDP, 5060, config.EngineSIP, 60
	case 11: // FTP
		svc.Port = wire.PortFTP
	case 12: // every port
		svc.Port, svc.Persist = 0, 60
	case 13: // at an address of the host, from which tunnels start
		svc.Addr = testPorts[1].Addr4
	default:
		onService = op.Kind
	}
	if rng.IntN(2) == 0 {
		op.Kind = onService
	}
	switch {
	case rng.IntN(8) == 0:
		server.Addr = testPorts[1].Addr4
	case server.Method == config.MethodTunnel && rng.IntN(2) == 0:
		server.Tunnel = config.Tunnel{Type: tunnel.GUE, Port: uint16(6080 + rng.IntN(2))}
	}
	return op
}

// differences is how what is in force differs from what the whole state compiles to; "": not
// at all.
func (w *fixture) differences() string {
	whole := w.state.Clone()
	whole.TouchAll()
	desired := compile.NewDesired(&whole, w.runtime)
	want := desired.Table(desired.CompileRules(new(compile.RulesByService), w.hostNet), w.fib, nil)
	got, expected := contents(w.runtime, w.table.Table), contents(w.runtime, want.Table)
	for what := range got {
		if !reflect.DeepEqual(got[what], expected[what]) {
			return fmt.Sprintf("%s\n%+v\nwhole:\n%+v", what, got[what], expected[what])
		}
	}
	if a, b := sorted(w.host.needed), sorted(want.Resolved.List()); !slices.Equal(a, b) {
		return fmt.Sprintf("%v are kept resolved, whole %v", a, b)
	}
	if a, b := sorted(w.host.vips), sorted(want.Announced()); !slices.Equal(a, b) {
		return fmt.Sprintf("%v are announced, whole %v", a, b)
	}
	rules := want.Guard.Flatten(desired.Marked(nil, new(compile.RulesByService)), whole.Director(), w.hostNet)
	if a, b := ruleTexts(w.guard.rules), ruleTexts(rules); a != b {
		return fmt.Sprintf("the guard has\n%s\nwhole:\n%s", a, b)
	}
	return ""
}

// contents is what is in a table, in a form that is the same for the same contents.
func contents(rt *compile.Runtime, t *director.Table) map[string]any {
	if t == nil {
		return nil
	}
	c := map[string]any{
		"VIPs": maps.Collect(t.VIPs.All()), "services": maps.Collect(t.Services.All()),
		"endpoints": maps.Collect(t.ReplySources.All()), "addresses": maps.Collect(t.ReplySourceAddrs.All()),
		"tunnels": maps.Collect(t.Tunnels.All()), "replies": t.ReplyServices, "marks": t.Marks, "FIB": t.FIB,
		"settings": t.Settings, "standby": t.Standby, "sessions": t.Sessions, "removed": contents(rt, t.Removed),
	}
	ranges := slices.Clone(t.ReplySourceRanges) // which come in the order of a map
	sortRanges(ranges)
	c["ranges"] = append(ranges, director.SourceRange{})
	var servers []director.Server
	for id := range len(rt.Servers) + 100 {
		servers = append(servers, *t.Servers.Get(uint32(id)))
	}
	c["servers"] = servers
	return c
}

// ruleTexts are the guard's rules as a text.
func ruleTexts(r guard.Rules) string {
	var services []string
	for p := range r.Services.All() {
		services = append(services, fmt.Sprintf("%+v", *p))
	}
	slices.Sort(services)
	return fmt.Sprintf("%s\n%v %v %t", strings.Join(services, "\n"), r.Marked, r.OldMarked, r.Tagged)
}

// sortRanges sorts ranges, which come in the order of a map.
func sortRanges(list []director.SourceRange) {
	slices.SortFunc(list, func(a, b director.SourceRange) int {
		return slices.Compare([]int{int(a.Ports.First), int(a.Ports.Last), a.Net.Addr().Compare(b.Net.Addr())},
			[]int{int(b.Ports.First), int(b.Ports.Last), 0})
	})
}

// sorted sorts addresses and drops duplicates.
func sorted(list []netip.Addr) []netip.Addr {
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}
