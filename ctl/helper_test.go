package ctl

import (
	"net/netip"
	"slices"
	"testing"

	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
)

// The guard hides the data connections of a helped FTP service, and follows what its
// clients and servers announce.
func TestHelpedIsHidden(t *testing.T) {
	w := newFixture(t, 1)
	const vip = "10.9.0.1:2021"
	w.must(add(vip, "rr"), with(vip, serverAt("10.2.0.11:21", config.MethodNAT, 1)))
	if p := w.guard.all(); len(p.HelperMatches)+len(p.HelperServers) != 0 {
		t.Errorf("hidden before it is helped: %+v", p)
	}
	w.must(config.Op{
		Kind: config.SetSettings, Service: service(vip, ""),
		Settings: config.Values{"ftp": helper.On},
	})
	p, server := w.guard.all(), netip.MustParseAddr("10.2.0.11")
	if len(p.HelperMatches) != 1 || p.HelperMatches[0].DstFirst != 2021 ||
		!slices.Contains(p.HelperServers, guard.Endpoint{Proto: wire.ProtoTCP, Addr: server}) ||
		!slices.Contains(p.ReplySources, guard.Endpoint{Proto: wire.ProtoTCP, Addr: server, Port: 20}) {
		t.Errorf("hidden: %+v", p)
	}
	if m := w.guard.rules.Marked; len(m) != 1 || m[0].DstFirst != 2020 || m[0].DstLast != 2020 {
		t.Errorf("frames to the VIP that are hidden: %+v", m)
	}
}
