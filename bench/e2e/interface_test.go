package e2e

import (
	"strings"
	"testing"
)

// An interface of a running director is deleted and made again, as a container
// engine or a script does: its service comes back by itself.
func TestInterfaceRecreated(t *testing.T) {
	s := &scene{network: newNetwork(t, "nginx", "curl", "sysctl"), method: "nat"}
	s.build(t.TempDir())
	works := func() bool {
		out, _ := s.try("client", "curl -s -m 1 -o /dev/null -w '%{http_code}' http://"+s.vip()+"/")
		return strings.HasSuffix(out, "200")
	}
	eventually(t, "a page comes before", works)
	mac := strings.TrimSpace(s.in("director", "cat /sys/class/net/eth1/address"))
	s.in("director", "ip link del eth1")
	s.link("director", "eth1", "lan2", "again")
	s.in("lan2", "ip link set again master br0")
	s.in("director", "ip link set eth1 address "+mac) // the servers remember it
	s.assign("director", "eth1", 2, 1)
	eventually(t, "a page comes afterwards", works)
}
