package ctl

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"uvs/conntrack"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// After any operations the table, most of which was taken over from the one before, equals
// one compiled from the whole state. So do the guard's rules.
func TestCompileByDifference(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	w := newFixture(t, 1)
	w.must(add(vip, "rr"))
	later := compile.TrashTime
	for range 300 {
		op := randomOp(rng)
		mark := &config.Service{ServiceKey: config.ServiceKey{FWMark: 1}, Scheduler: "rr"}
		switch rng.IntN(12) {
		case 0:
			op = config.Op{Kind: config.SetSorry, Service: op.Service, Server: op.Server}
		case 1:
			op = config.Op{Kind: config.SetSorry, Service: op.Service}
		case 2:
			op = config.Op{
				Kind: config.SetSettings, Service: op.Service,
				Settings: map[string]uint32{[]string{
					"timeout_tcp_established", "slow_start",
					"expire_quiescent_template",
				}[rng.IntN(3)]: 1},
			}
		case 3:
			op = config.Op{Kind: config.SetSettings, Settings: map[string]uint32{
				"removed_conns": uint32(rng.IntN(4)), "removed_grace": uint32(rng.IntN(2) * 3600),
			}}
		case 4:
			op = config.Op{
				Kind: config.AddMarks,
				Marks: []config.MarkRule{rule("10.9.3.0/24", wire.ProtoTCP, 1,
					config.PortRange{First: 80, Last: uint16(80 + rng.IntN(2))})},
			}
		case 5:
			op = config.Op{Kind: config.DeleteMarks, Marks: w.state.Marks}
		case 6:
			op = config.Op{Kind: []config.OpKind{config.AddService, config.DeleteService}[rng.IntN(2)], Service: mark}
		case 7, 8:
			op.Service = mark
		case 9:
			w.exchange(0, syn("5000"))
		case 10:
			w.conns.Flush(func(*conntrack.Snapshot) bool { return rng.IntN(2) == 0 })
			w.maintain(w.now.Add(later))
			later += compile.TrashTime
			w.maintain(w.now.Add(later))
		case 11:
			net := *w.host.HostNet()
			w.host.set(&net)
			w.RoutesChanged()
		}
		w.Apply(op)
		s, got := &w.state, w.table
		whole := s.Clone()
		whole.Touch()
		desired := compile.NewDesired(&whole)
		desired.KeepRemoved(w.runtime)
		want := desired.Table(w.runtime, desired.CompileRules(nil, w.runtime, w.hostNet), w.fib, nil)
		sortRanges(got.ReplySourceRanges)
		sortRanges(want.ReplySourceRanges)
		if !reflect.DeepEqual(got.Table, want.Table) {
			t.Fatalf("after %s %v %v:\n%+v\nwhole:\n%+v", op.Kind, op.Service, op.Server, got.Table, want.Table)
		}
		if len(got.Guard)+len(want.Guard) > 0 && !reflect.DeepEqual(got.Guard, want.Guard) {
			t.Fatalf("after %s %v %v: hidden %+v, whole %+v", op.Kind, op.Service, op.Server, got.Guard, want.Guard)
		}
		if parts := w.guard.rules.Services; len(parts) != len(got.Guard) ||
			slices.ContainsFunc(parts, func(p *guard.ServiceRules) bool { return !hasRules(got.Guard, p) }) {
			t.Fatalf("after %s %v %v: the guard has %v, should have %v", op.Kind, op.Service, op.Server, parts,
				got.Guard)
		}
	}
}

func hasRules(h compile.RulesByService, p *guard.ServiceRules) bool {
	for _, part := range h {
		if part == p {
			return true
		}
	}
	return false
}

// sortRanges sorts ranges, which come in the order of a map.
func sortRanges(list []director.SourceRange) {
	slices.SortFunc(list, func(a, b director.SourceRange) int {
		return slices.Compare([]int{int(a.Ports.First), int(a.Ports.Last), a.Net.Addr().Compare(b.Net.Addr())},
			[]int{int(b.Ports.First), int(b.Ports.Last), 0})
	})
}
