package lab

import (
	"strings"
	"testing"
)

func TestPlanDefaults(t *testing.T) {
	for _, row := range []struct {
		method Method
		arms   int
	}{{NAT, 2}, {DR, 1}, {Tunnel, 1}} {
		p, err := Plan{Name: "x", Method: row.method}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		if p.Arms != row.arms || p.Clients != 1 || p.Servers != 3 || p.MTU != 1500 || p.Scheduler != "rr" ||
			len(p.Families) != 2 {
			t.Errorf("%s: defaults are %+v", row.method, p)
		}
	}
}

func TestPlanRefusesNonsense(t *testing.T) {
	for _, row := range []struct {
		want string
		Plan
	}{
		{`lab name is ""`, Plan{Method: NAT}},
		{`lab name is "a-b"`, Plan{Name: "a-b", Method: NAT}},
		{`lab name is "../etc"`, Plan{Name: "../etc", Method: NAT}},
		{`method is ""; want one of [nat dr tunnel]`, Plan{Name: "x"}},
		{`family is 5`, Plan{Name: "x", Method: NAT, Families: []int{4, 5}}},
		{`tunnel over IPv5`, Plan{Name: "x", Method: Tunnel, TunnelOver: 5}},
		{`encap is "l2tp"; want ipip, gue or gre`, Plan{Name: "x", Method: Tunnel, Encap: "l2tp"}},
		{`encap is "gre", but method dr is no tunnel`, Plan{Name: "x", Method: DR, Encap: "gre"}},
		{`-1 clients`, Plan{Name: "x", Method: NAT, Clients: -1}},
		{`90 servers; want 1 to 89`, Plan{Name: "x", Method: NAT, Servers: 90}},
		{`director with 3 arms`, Plan{Name: "x", Method: NAT, Arms: 3}},
		{`mtu is 500`, Plan{Name: "x", Method: NAT, MTU: 500}},
	} {
		l, err := New(row.Plan)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("New(%+v): %v; want %q", row.Plan, err, row.want)
		}
	}
}

func TestCommandsPerMethod(t *testing.T) {
	for _, row := range []struct {
		Plan
		want string
	}{
		{Plan{Name: "x", Method: NAT, Families: []int{4}, Servers: 2}, `
-A -t 10.1.0.100:80 -s rr
-a -t 10.1.0.100:80 -r 10.2.0.11:8080 -m
-a -t 10.1.0.100:80 -r 10.2.0.12:8080 -m
-A -u 10.1.0.100:31337 -s rr
-a -u 10.1.0.100:31337 -r 10.2.0.11:31337 -m
-a -u 10.1.0.100:31337 -r 10.2.0.12:31337 -m`},
		{Plan{Name: "x", Method: DR, Families: []int{6}, Servers: 1, Scheduler: "wlc"}, `
-A -t [fd00:1::100]:80 -s wlc
-a -t [fd00:1::100]:80 -r [fd00:1::11]:80 -g
-A -u [fd00:1::100]:31337 -s wlc
-a -u [fd00:1::100]:31337 -r [fd00:1::11]:31337 -g`},
		{Plan{Name: "x", Method: Tunnel, Families: []int{4}, Servers: 1, TunnelOver: 6}, `
-A -t 10.1.0.100:80 -s rr
-a -t 10.1.0.100:80 -r [fd00:2::11]:80 -i
-A -u 10.1.0.100:31337 -s rr
-a -u 10.1.0.100:31337 -r [fd00:2::11]:31337 -i`},
		{Plan{Name: "x", Method: Tunnel, Families: []int{4}, Servers: 1, Encap: "gue"}, `
-A -t 10.1.0.100:80 -s rr
-a -t 10.1.0.100:80 -r 10.2.0.11:80 -i --tun-type gue --tun-port 6080 --tun-csum
-A -u 10.1.0.100:31337 -s rr
-a -u 10.1.0.100:31337 -r 10.2.0.11:31337 -i --tun-type gue --tun-port 6080 --tun-csum`},
	} {
		p, err := row.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, c := range p.Commands() {
			got.WriteString("\n" + strings.Join(c, " "))
		}
		if got.String() != row.want {
			t.Errorf("%s: commands are%s\nwant%s", p.Method, got.String(), row.want)
		}
	}
}

// No two ports of a layout have an address, or a MAC address, in common.
func TestLayoutsHaveNoDoubles(t *testing.T) {
	for _, m := range Methods {
		for arms := 1; arms <= 2; arms++ {
			p, err := Plan{Name: "x", Method: m, Arms: arms, Clients: maxClients, Servers: maxServers}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]string{p.VIP(4).String(): "VIP", p.VIP(6).String(): "VIP"}
			take := func(what, by string) {
				if seen[what] != "" {
					t.Errorf("%s with %d arms: %s belongs to %s and %s", m, arms, what, seen[what], by)
				}
				seen[what] = by
			}
			for _, port := range p.layout().ports {
				take(port.mac().String(), port.node)
				for _, s := range port.addrs {
					take(s.addr(4, port.host).String(), port.node)
					take(s.addr(6, port.host).String(), port.node)
				}
			}
		}
	}
}
