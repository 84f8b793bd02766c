package compile

import (
	"net/netip"
	"testing"

	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

func TestTunnelSource(t *testing.T) {
	const vip4, vip6 = "10.9.0.1", "2001:db8::1"
	for _, row := range []struct {
		sentence             string
		source, server, want string
		local                []string
	}{
		{"the source address of the route", "10.1.0.1", "10.2.0.1", "10.1.0.1", []string{"10.1.0.1", "10.0.0.1"}},
		{
			"a route without address: another of the host", "", "10.2.0.1", "10.0.0.1",
			[]string{"127.0.0.1", "10.5.0.1", "10.0.0.1", "2001:db8::7"},
		},
		{"never a VIP of the host", vip4, "10.2.0.1", "10.5.0.1", []string{vip4, "10.5.0.1"}},
		{
			"a host without any: the dummy address", "", "10.2.0.1", "192.0.0.8",
			[]string{"127.0.0.1", vip4, "::1", "2001:db8::7"},
		},
		{
			"IPv6: another of the host", "", "2001:db8::2", "2001:db8::7",
			[]string{"::1", vip6, "fe80::1", "10.5.0.1", "2001:db8::7"},
		},
		{
			"IPv6: link-local if the route has nothing else", "fe80::1", "2001:db8::2", "fe80::1",
			[]string{"::1", "fe80::1", "fe80::2"},
		},
	} {
		addr := func(s string) (a wire.Addr) {
			if s != "" {
				a = wire.AddrFrom(netip.MustParseAddr(s))
			}
			return a
		}
		host := &director.HostNet{HostAddrs: map[wire.Addr]int{}}
		for _, s := range row.local {
			host.HostAddrs[addr(s)] = 1
		}
		table := &director.Table{FIB: &director.FIB{HostNet: host}}
		table.VIPs.Set(addr(vip4), director.VIP{})
		table.VIPs.Set(addr(vip6), director.VIP{})
		if got := tunnelSource(director.NextHop{Source: addr(row.source)}, addr(row.server),
			table); got != addr(row.want) {
			t.Errorf("%s: %v, want %s", row.sentence, got, row.want)
		}
	}
}
