package e2e

import (
	"strings"
	"testing"
)

// An interface of a running director is deleted and made again, as a container
// engine or a script does. Its service works again without a restart.
func TestInterfaceRecreated(t *testing.T) {
	s := &topology{network: newNetwork(t, "nginx", "curl"), method: "nat"}
	s.build(t.TempDir())
	works := func() bool {
		out, _ := s.tryRun("client", "curl -s -m 1 -o /dev/null -w '%{http_code}' http://"+s.vip()+"/")
		return strings.HasSuffix(out, "200")
	}
	eventually(t, "a page comes before", works)
	mac := strings.TrimSpace(s.run("director", "cat /sys/class/net/eth1/address"))
	s.run("director", "ip link del eth1")
	s.link("director", "eth1", "lan2", "again")
	s.run("lan2", "ip link set again master br0")
	s.run("director", "ip link set eth1 address "+mac) // the servers have it in their neighbour tables
	s.assign("director", "eth1", 2, 1)
	eventually(t, "a page comes afterwards", works)
}

// The director runs on a bridge with the links as ports. Bonds and VLAN devices
// work the same way, if this kernel has them.
func TestInterfacesOfInterfaces(t *testing.T) {
	needs(t, "nginx", "curl")
	for _, r := range []struct{ kind, add, enslave string }{
		{"bridge", "ip link add up0 type bridge mcast_snooping 0", "ip link set eth0 master up0"},
		{
			"bond", "ip link add up0 type bond mode active-backup miimon 100",
			"ip link set eth0 down && ip link set eth0 master up0",
		},
		{"vlan", "", "ip link add link eth0 name up0 type vlan id 7"},
		{"macvlan", "", "ip link add link eth0 name up0 type macvlan mode bridge"},
	} {
		t.Run(r.kind, func(t *testing.T) {
			s := &topology{network: newNetwork(t, "nginx", "curl"), method: "nat"}
			s.add("client", "director", "s1", "s2")
			s.link("client", "eth0", "director", "eth0")
			s.bridge("lan2", "director:eth1", "s1", "s2")
			client := "eth0"
			if r.kind == "vlan" {
				client = "eth0.7"
				if _, err := s.tryRun("client",
					"ip link add link eth0 name eth0.7 type vlan id 7 && ip link set eth0.7 up"); err != nil {
					t.Skip("needs a kernel with VLAN devices (CONFIG_VLAN_8021Q)")
				}
			}
			if _, err := s.tryRun("director", strings.TrimPrefix(r.add+" && "+r.enslave, " && ")+
				" && ip link set up0 up"); err != nil {
				t.Skipf("needs a kernel with %s devices", r.kind)
			}
			s.assign("client", client, 1, 2)
			s.assign("director", "up0", 1, 1)
			s.assign("director", "eth1", 2, 1)
			for i, ns := range []string{"s1", "s2"} {
				s.assign(ns, "eth0", 2, 11+i)
				s.prepareServer(ns)
				s.nginx(ns, t.TempDir())
			}
			s.director("director", "up0", "eth1")
			s.ipvsadm("director", `
				ipvsadm -A -t 10.1.0.100:80 -s rr
				ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.11:8080 -m
				ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.12:8080 -m`)
			eventually(t, "all servers are reached", func() bool {
				return !strings.Contains(s.run("director", uvsBinary+" services"), "unresolved")
			})
			s.requests(20)
			s.checkNoErrors()
		})
	}
}
