package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/dataplane/wire"
)

// Every server has a line with all of its service, and so has a service without
// servers.
func TestPrintServices(t *testing.T) {
	end := netip.MustParseAddrPort("192.0.2.1:80")
	real := func(a string, weight int32, state string) api.ServerStatus {
		return api.ServerStatus{
			Server: config.Server{ServerKey: config.ServerKey{
				Addr: netip.MustParseAddr(a),
				Port: 8080,
			}, Weight: weight}, Active: 3, Inactive: 4, Persist: 5, State: state,
			NextHop: "eth1 02:00:00:00:00:01",
		}
	}
	key := config.ServiceKey{Proto: wire.ProtoTCP, Addr: end.Addr(), Port: end.Port()}
	last := real("10.0.0.9", 1, "sorry")
	got := printed(t, 10, func(add addRow) error {
		return errors.Join(addServers(&api.ServiceStatus{
			Service:        config.Service{ServiceKey: key, Scheduler: "wlc"},
			ServerStatuses: []api.ServerStatus{real("10.0.0.11", 2, "up")}, Sorry: &last,
		}, add), addServers(&api.ServiceStatus{Service: config.Service{ServiceKey: key, Scheduler: "rr"}}, add))
	})
	want := []string{
		"tcp:192.0.2.1:80 wlc 10.0.0.11:8080 nat 2 3 4 5 up eth1 02:00:00:00:00:01",
		"tcp:192.0.2.1:80 wlc 10.0.0.9:8080 nat 1 3 4 5 sorry eth1 02:00:00:00:00:01",
		"tcp:192.0.2.1:80 rr - - 0 0 0 0 empty -",
	}
	for i, line := range strings.Split(strings.TrimSpace(got), "\n") {
		if got := strings.Join(strings.Fields(line), " "); i >= len(want) || got != want[i] {
			t.Errorf("line %d: %q", i, got)
		}
	}
}

// Every server has a line with the path to it.
func TestPrintPaths(t *testing.T) {
	server := api.ServerStatus{Server: config.Server{ServerKey: config.ServerKey{
		Addr: netip.MustParseAddr("10.3.0.11"),
		Port: 80,
	}, Method: config.MethodTunnel}}
	server.Path = api.PathStatus{
		Interface: "eth1", MTU: 1500, Learned: 1400, By: netip.MustParseAddr("10.2.0.254"),
		Seconds: 587, TooBig: 12, Split: 3,
	}
	unreachable := server
	unreachable.Path = api.PathStatus{}
	key := config.ServiceKey{Proto: wire.ProtoTCP, Addr: netip.MustParseAddr("192.0.2.1"), Port: 80}
	output := printed(t, 8, func(add addRow) error {
		return addPaths([]api.ServiceStatus{
			{Service: config.Service{ServiceKey: key}, ServerStatuses: []api.ServerStatus{server}, Sorry: &unreachable},
			{Service: config.Service{ServiceKey: key}},
		}, add)
	})
	want := "tcp:192.0.2.1:80 10.3.0.11:80 tunnel eth1 1500 12 3 path MTU 1400 learned from 10.2.0.254, for 587 s " +
		"tcp:192.0.2.1:80 10.3.0.11:80 tunnel - 0 0 0 -"
	if got := strings.Join(strings.Fields(output), " "); got != want {
		t.Errorf("%q", got)
	}
}

// printed returns the rows that fill adds, as a table without a header.
func printed(t *testing.T, cells int, fill func(addRow) error) string {
	t.Helper()
	var b strings.Builder
	l := listing{
		columns: strings.Repeat("C ", cells), headless: true,
		list: func(_ []string, add addRow) error { return fill(add) },
	}
	if err := l.printer("", &b).print(nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// `uvs sorry` takes options before or after the server.
func TestSorryOp(t *testing.T) {
	rows := []struct {
		sentence, line, want string // "" want: refused
	}{
		{"direct routing, the service's port", "--service tcp:192.0.2.1:80 10.0.0.9", "10.0.0.9:80 dr"},
		{"NAT to a port", "--service tcp:192.0.2.1:80 10.0.0.9:8080 -m", "10.0.0.9:8080 nat"},
		{"an IPv6 server", "-i --service tcp:[2001:db8::1]:80 2001:db8::9", "[2001:db8::9]:80 tunnel ipip:0:0"},
		{
			"a server by GUE with a checksum",
			"--service tcp:192.0.2.1:80 10.0.0.9 -i --tun-type gue --tun-port 6080 --tun-csum",
			"10.0.0.9:80 tunnel gue:6080:1",
		},
		{"an unknown tunnel", "--service tcp:192.0.2.1:80 10.0.0.9 -i --tun-type l2tp", ""},
		{"a tunnel port that is none", "--service tcp:192.0.2.1:80 10.0.0.9 -i --tun-type gue --tun-port 65536", ""},
		{"none any more", "--service tcp:192.0.2.1:80 --clear", "none"},
		{"no service", "10.0.0.9", ""},
		{"no server", "--service tcp:192.0.2.1:80", ""},
		{"two servers", "--service tcp:192.0.2.1:80 10.0.0.9 10.0.0.8", ""},
		{"two methods", "--service tcp:192.0.2.1:80 -m -g 10.0.0.9", ""},
		{"a server and none", "--service tcp:192.0.2.1:80 --clear 10.0.0.9", ""},
		{"a server that is none", "--service tcp:192.0.2.1:80 web9", ""},
	}
	for _, r := range rows {
		t.Run(r.sentence, func(t *testing.T) {
			line := newSorryLine()
			op, err := line.parse(strings.Fields(r.line))
			got := ""
			switch {
			case err != nil:
			case op.Server == nil:
				got = "none"
			default:
				got = op.Server.ServerKey.String() + " " + op.Server.Method.String()
				if t := op.Server.Tunnel; op.Server.Method == config.MethodTunnel {
					got += fmt.Sprintf(" %s:%d:%d", t.Type, t.Port, t.Checksum)
				}
			}
			if got != r.want {
				t.Errorf("%q, %v; want %q", got, err, r.want)
			}
		})
	}
}
