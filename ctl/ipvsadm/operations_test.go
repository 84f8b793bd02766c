package ipvsadm

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"uvs/ctl/config"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// TestOperations compares the operations of special command lines.
func TestOperations(t *testing.T) {
	addr := netip.MustParseAddr
	vip := config.ServiceKey{Proto: wire.ProtoTCP, Addr: addr("10.9.0.1"), Port: 80}
	service := func(change func(*config.Service)) config.Op {
		s := config.Service{ServiceKey: vip, Scheduler: "wlc"}
		change(&s)
		return config.Op{Kind: config.AddService, Service: &s}
	}
	server := func(verb config.OpKind, v config.ServiceKey, change func(*config.Server)) config.Op {
		s := config.Server{
			ServerKey: config.ServerKey{Addr: addr("10.0.0.2"), Port: 80}, Method: config.MethodDR,
			Weight: 1,
		}
		change(&s)
		return config.Op{Kind: verb, Service: &config.Service{ServiceKey: v}, Server: &s}
	}
	mark := func(n uint32, v6 bool, mask config.Netmask) config.Op {
		return service(func(s *config.Service) {
			s.ServiceKey = config.ServiceKey{
				FWMark: n,
				IPv6:   v6,
			}
			s.Netmask = mask
		})
	}
	for _, tt := range []struct {
		why, line string
		want      config.Op
	}{
		{"wlc is the default scheduler", "-A -t 10.9.0.1:80", service(func(*config.Service) {})},
		{
			"six minutes are the default persistence", "-A -t 10.9.0.1:80 -p",
			service(func(s *config.Service) { s.Persist = 360 }),
		},
		{
			"an IPv4 mask in host order", "-A -t 10.9.0.1:80 -p 5 -M 255.255.255.0",
			service(func(s *config.Service) { s.Persist, s.Netmask = 5, config.Mask4(0xffffff00) }),
		},
		{
			"24 is 0.0.0.24", "-A -t 10.9.0.1:80 -M 24",
			service(func(s *config.Service) { s.Netmask = config.Mask4(24) }),
		},
		{
			"an IPv4 mask written first is kept", "-A -M 255.0.0.0 -t 10.9.0.1:80",
			service(func(s *config.Service) { s.Netmask = config.Mask4(0xff000000) }),
		},
		{
			"flags are those of the scheduler, named before or after", "-A -t 10.9.0.1:80 -b sh-port,flag-3 -s sh",
			service(func(s *config.Service) { s.Scheduler, s.SchedFlags = "sh", 0x30 }),
		},
		{
			"a mask written before an IPv6 service is forgotten", "-A -M 64 -t [2001:db8::1]:80",
			service(func(s *config.Service) {
				s.ServiceKey = config.ServiceKey{Proto: wire.ProtoTCP, Addr: addr("2001:db8::1"), Port: 80}
			}),
		},
		{"and before -6", "-A -f 5 -M 64 -6", mark(5, true, config.Netmask{})},
		{"but kept after it", "-A -f 6 -6 -M 64", mark(6, true, config.PrefixLen6(64))},
		{"an IPv4 mark", "-A -f 4294967295", mark(4294967295, false, config.Netmask{})},
		{
			"a bare IPv6 address has port 0", "-D -t 2001:db8::81",
			config.Op{Kind: config.DeleteService, Service: &config.Service{
				ServiceKey: config.ServiceKey{Proto: wire.ProtoTCP, Addr: addr("2001:db8::81")},
			}},
		},

		{
			"a server without a port has the service's", "-a -t 10.9.0.1:80 -r 10.0.0.2 -m",
			server(config.AddServer, vip, func(s *config.Server) { s.Method = config.MethodNAT }),
		},
		{
			"if the service is named first", "-a -r 10.0.0.2 -t 10.9.0.1:80 -m",
			server(config.AddServer, vip, func(s *config.Server) { s.Method, s.Port = config.MethodNAT, 0 }),
		},
		{
			"a port 0 written out is kept", "-a -t 10.9.0.1:80 -r 10.0.0.2:0 -m",
			server(config.AddServer, vip, func(s *config.Server) { s.Method, s.Port = config.MethodNAT, 0 }),
		},
		{
			"NAT keeps the port of -r", "-a -t 10.9.0.1:80 -r 10.0.0.2:99 -m",
			server(config.AddServer, vip, func(s *config.Server) { s.Method, s.Port = config.MethodNAT, 99 }),
		},
		{"DR does not", "-a -t 10.9.0.1:80 -r 10.0.0.2:99", server(config.AddServer, vip, func(*config.Server) {})},
		{
			"a tunnel does not", "-a -t 10.9.0.1:80 -r 10.0.0.2:99 -i",
			server(config.AddServer, vip, func(s *config.Server) { s.Method = config.MethodTunnel }),
		},
		{
			"nor does an edit", "-e -t 10.9.0.1:80 -r 10.0.0.2:99 -w 4",
			server(config.EditServer, vip, func(s *config.Server) { s.Weight = 4 }),
		},
		{
			"a delete takes the port as it is", "-d -t 10.9.0.1:80 -r 10.0.0.2:99",
			config.Op{
				Kind: config.DeleteServer, Service: &config.Service{ServiceKey: vip},
				Server: &config.Server{ServerKey: config.ServerKey{Addr: addr("10.0.0.2"), Port: 99}},
			},
		},
		{
			"the server of a mark keeps any port", "-a -f 3 -r 10.0.0.2:99",
			server(config.AddServer, config.ServiceKey{FWMark: 3}, func(s *config.Server) { s.Port = 99 }),
		},
		{
			"or has none", "-a -f 3 -r 10.0.0.2",
			server(config.AddServer, config.ServiceKey{FWMark: 3}, func(s *config.Server) { s.Port = 0 }),
		},
		{
			"or that of a TCP name", "-a -f 3 -r 10.0.0.2:shell",
			server(config.AddServer, config.ServiceKey{FWMark: 3}, func(s *config.Server) { s.Port = 514 }),
		},
		{
			"a tunnel may cross families", "-a -f 3 -6 -r 10.0.0.2:80 -i",
			server(config.AddServer, config.ServiceKey{FWMark: 3, IPv6: true},
				func(s *config.Server) { s.Method = config.MethodTunnel }),
		},
		{
			"the family of a mark may come last", "-a -f 3 -r [2001:db8::2]:80 -6",
			server(config.AddServer, config.ServiceKey{FWMark: 3, IPv6: true},
				func(s *config.Server) { s.Addr = addr("2001:db8::2") }),
		},
		{
			"GUE", "-a -t 10.9.0.1:80 -r 10.0.0.2 -i --tun-type gue --tun-port 6080 --tun-remcsum",
			server(config.AddServer, vip, func(s *config.Server) {
				s.Method, s.Tunnel = config.MethodTunnel,
					config.Tunnel{Type: tunnel.GUE, Port: 6080, Checksum: tunnel.RemCsum}
			}),
		},

		{"no service: zero everything", "-Z", config.Op{Kind: config.Zero}},
		{"zero one", "-Z -t 10.9.0.1:80", config.Op{Kind: config.Zero, Service: &config.Service{ServiceKey: vip}}},
		{"flush", "--clear", config.Op{Kind: config.Flush}},
		{"timeouts", "--set 9 0 7", config.Op{Kind: config.SetTimeouts, Timeouts: &config.Timeouts{TCP: 9, UDP: 7}}},
	} {
		r, err := parse(strings.Fields(tt.line), testNames)
		if err != nil {
			t.Errorf("%s: ipvsadm %s: %v", tt.why, tt.line, err)
			continue
		}
		if got := r.operation(); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: ipvsadm %s\n got %+v %+v %+v\nwant %+v %+v %+v", tt.why, tt.line, got, got.Service,
				got.Server, tt.want, tt.want.Service, tt.want.Server)
		}
	}
}

// TestDaemonOptions: all options of the sync daemon are parsed, though the director has none.
func TestDaemonOptions(t *testing.T) {
	line := "--start-daemon backup --mcast-interface eth1 --syncid 5 --mcast-group ff02::5 --mcast-port 99 " +
		"--mcast-ttl 3 --sync-maxlen 1400"
	r, err := parse(strings.Fields(line), testNames)
	want := daemon{true, "eth1", 5, 1400, netip.MustParseAddr("ff02::5"), 99, 3}
	if err != nil || r.daemon != want {
		t.Errorf("got %+v, %v; want %+v", r.daemon, err, want)
	}
	for _, line := range []string{line, "--start-daemon=master", "--stop-daemon backup --syncid 3"} {
		newMemory().expect(t, line, refused("Operation not supported: the director has no sync daemon"))
	}
}

// TestNumbersNeedNoLookup: numeric command lines use neither the resolver nor /etc/services.
func TestNumbersNeedNoLookup(t *testing.T) {
	for _, line := range []string{
		"-A -t 10.9.0.1:80 -s rr", "-A -t [2001:db8::1]:80", "-A -t 2001:db8::1 -p", "-a -t 0xa.1:80 -r 10.0.0.2 -m",
		"-a -f 3 -r 10.0.0.2:99", "-A -t 256.1.1.1:80", "-A -t 80", "-A -t 1.2.3.4.5:80", "-A -t :80",
		"-A -t [10.1.1.1]:80", "-A -t [fe80::1%lo]:80",
	} {
		parse(strings.Fields(line), noLookups{t})
	}
}

// noLookups fails the test at every lookup.
type noLookups struct{ t *testing.T }

func (n noLookups) addr(host string, _ bool) (netip.Addr, bool) {
	n.t.Errorf("asked for host %q", host)
	return netip.Addr{}, false
}

func (n noLookups) port(name string, _ config.Proto) (uint16, bool) {
	n.t.Errorf("asked for service %q", name)
	return 0, false
}

func (n noLookups) host(netip.Addr) string { return "" }

func (n noLookups) service(uint16, config.Proto) string { return "" }
