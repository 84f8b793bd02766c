package ipvsadm

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// TestServerOrder sorts servers added in the given order; the director has the newest first.
func TestServerOrder(t *testing.T) {
	for _, tt := range []struct{ why, added, want string }{
		{
			"near addresses and ports sort as one expects",
			"10.0.0.2:80 10.0.0.10:80 10.0.0.2:8 10.0.0.1:9", "10.0.0.1:9 10.0.0.2:8 10.0.0.2:80 10.0.0.10:80",
		},
		{
			"addresses wrap around",
			"1.0.0.0:1 10.0.0.0:1 172.16.0.0:1 192.168.0.0:1 200.0.0.0:1",
			"172.16.0.0:1 192.168.0.0:1 200.0.0.0:1 1.0.0.0:1 10.0.0.0:1",
		},
		{
			"a cycle is cut where the C library's merge sort cuts it",
			"192.168.0.1:1 10.1.0.1:1 100.64.0.1:1", "100.64.0.1:1 192.168.0.1:1 10.1.0.1:1",
		},
		{
			"and elsewhere for another order of adding",
			"100.64.0.1:1 192.168.0.1:1 10.1.0.1:1", "10.1.0.1:1 100.64.0.1:1 192.168.0.1:1",
		},
		{
			"IPv6 goes word by word, among IPv4 in the first of them",
			"9.9.9.9:1 [2001:db8::1]:1 [::1]:1 200.1.1.1:1 [9000::1]:1 [2001:db8::]:1",
			"[::1]:1 9.9.9.9:1 [2001:db8::]:1 [2001:db8::1]:1 [9000::1]:1 200.1.1.1:1",
		},
	} {
		var servers []api.ServerStatus
		for _, s := range strings.Fields(tt.added) {
			a := netip.MustParseAddrPort(s)
			servers = append(servers, api.ServerStatus{Server: config.Server{ServerKey: config.ServerKey{
				Addr: a.Addr(),
				Port: a.Port(),
			}}})
		}
		slices.Reverse(servers)
		var got []string
		for _, s := range mergeSort(servers, compareServers) {
			got = append(got, s.ServerKey.String())
		}
		if g := strings.Join(got, " "); g != tt.want {
			t.Errorf("%s: added %s\n got %s\nwant %s", tt.why, tt.added, g, tt.want)
		}
	}
}

// TestServiceOrder: by mark, family, protocol, address and port.
func TestServiceOrder(t *testing.T) {
	m := newMemory()
	m.must(t, "-A -f 7 -6", "-A -t [::1]:80", "-A -f 1", "-A -u 10.0.0.1:53", "-A --sctp-service 10.0.0.1:1",
		"-A -t 10.0.0.2:80",
		"-A -t 10.0.0.1:443", "-A -t 10.0.0.1:80", "-A -t 192.168.0.1:80", "-A -f 4294967295", "-A -f 7")
	m.expect(t, "-S -n", outcome{0, `-A -f 4294967295 -s wlc
-A -t 192.168.0.1:80 -s wlc
-A -t 10.0.0.1:80 -s wlc
-A -t 10.0.0.1:443 -s wlc
-A -t 10.0.0.2:80 -s wlc
-A -u 10.0.0.1:53 -s wlc
-A --sctp-service 10.0.0.1:1 -s wlc
-A -t [::1]:80 -s wlc
-A -f 1 -s wlc
-A -f 7 -s wlc
-A -f 7 -6 -s wlc
`, ""})
}
