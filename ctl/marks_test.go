package ctl

import (
	"net/netip"
	"reflect"
	"slices"
	"syscall"
	"testing"

	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/wire"
)

func rule(dst string, proto config.Proto, mark uint32, ports ...config.PortRange) config.MarkRule {
	return config.MarkRule{Dst: netip.MustParsePrefix(dst), Proto: proto, DstPorts: ports, Mark: mark}
}

// The guard hides the frames of mark rules that have a service, with the last rule first,
// and exactly the endpoints of their servers' replies.
func TestMarksHidden(t *testing.T) {
	w := newFixture(t, 1)
	shop := &config.Service{ServiceKey: config.ServiceKey{FWMark: 1}, Scheduler: "rr"}
	w.must(
		config.Op{
			Kind: config.AddMarks,
			Marks: []config.MarkRule{
				rule("192.0.2.0/24", wire.ProtoTCP, 1, config.PortRange{First: 80, Last: 80},
					config.PortRange{First: 8000, Last: 8100}), rule("192.0.2.9/32", 0, 99),
				rule("192.0.2.1/32", wire.ProtoUDP, 1, config.PortRange{First: 53, Last: 53}),
			},
		},
		config.Op{Kind: config.AddService, Service: shop},
		config.Op{Kind: config.AddServer, Service: shop, Server: ptr(serverAt("10.2.0.1:0", config.MethodNAT, 1))},
		config.Op{Kind: config.AddServer, Service: shop, Server: ptr(serverAt("10.2.0.2:9000", config.MethodNAT, 1))},
	)
	r, p := w.guard.rules, w.guard.all()
	var passes []bool
	for _, m := range r.Marked {
		passes = append(passes, m.Pass)
	}
	if want := []bool{false, true, true, true, false, false}; !slices.Equal(passes, want) || len(r.OldMarked) != 0 {
		t.Errorf("marked %+v, leaving %+v", r.Marked, r.OldMarked)
	}
	if !slices.Contains(p.VIPs, netip.MustParseAddr("192.0.2.1")) ||
		slices.Contains(p.VIPs, netip.MustParseAddr("192.0.2.9")) {
		t.Errorf("VIPs %v", p.VIPs)
	}
	span := func(net string, first, last uint16) guard.PortRange {
		return guard.PortRange{Net: netip.MustParsePrefix(net), Proto: wire.ProtoTCP, First: first, Last: last}
	}
	spans := []guard.PortRange{
		span("192.0.2.0/24", 80, 80), span("192.0.2.0/24", 8000, 8100),
		span("10.2.0.1/32", 8000, 8100),
	}
	if len(p.ReplySourceRanges) != len(spans) {
		t.Errorf("spans %v, want %v", p.ReplySourceRanges, spans)
	}
	for _, s := range spans {
		if !slices.Contains(p.ReplySourceRanges, s) {
			t.Errorf("span %v is missing of %v", s, p.ReplySourceRanges)
		}
	}
	for _, s := range []guard.Endpoint{
		{Proto: wire.ProtoTCP, Addr: netip.MustParseAddr("10.2.0.1"), Port: 80},
		{Proto: wire.ProtoUDP, Addr: netip.MustParseAddr("10.2.0.1"), Port: 53},
		{Proto: wire.ProtoTCP, Addr: netip.MustParseAddr("10.2.0.2"), Port: 9000},
	} {
		if !slices.Contains(p.ReplySources, s) {
			t.Errorf("source %v is missing of %v", s, p.ReplySources)
		}
	}
	if err := w.Apply(config.Op{
		Kind:  config.AddMarks,
		Marks: []config.MarkRule{{Interface: "eth9", Mark: 1}},
	}); !reflect.DeepEqual(err, &config.Error{
		Errno: syscall.ENODEV, Pointer: "/marks/0",
		Message: "mark rule --in-interface eth9 --mark 1: nothing can match it, eth9 is no interface of the director",
	}) {
		t.Errorf("an interface the director does not have: %#v", err)
	}
	w.must(config.Op{Kind: config.DeleteService, Service: shop})
	if r := w.guard.rules; len(r.Marked) != len(passes) || len(w.guard.all().VIPs) == 0 {
		t.Errorf("while its servers are kept: %+v", r)
	}
	w.maintain(w.now)
	w.maintain(w.now.Add(compile.TrashTime))
	if r := w.guard.rules; len(r.Marked) != 0 || len(w.guard.all().VIPs) != 0 {
		t.Errorf("without the service: %+v", r)
	}
}
