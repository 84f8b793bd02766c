package ctl

import (
	"net/netip"
	"slices"
	"testing"

	"uvs/ctl/guard"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// helpedService is a service at a port of the protocol with one server.
func helpedService(key ServiceKey, method Method, server string) []Op {
	end := netip.MustParseAddrPort(server)
	return []Op{
		{Verb: AddService, Service: &Service{ServiceKey: key, Scheduler: "rr", Netmask: 0xffffffff}},
		{Verb: AddServer, Service: &Service{ServiceKey: key}, Server: &Server{ServerKey: ServerKey{end.Addr(), end.Port()}, Method: method, Weight: 1}},
	}
}

// Which connections are helped, by default and by setting.
func TestHelper(t *testing.T) {
	at := func(proto uint8, port uint16) ServiceKey {
		return ServiceKey{Proto: proto, Addr: netip.MustParseAddr("10.9.0.1"), Port: port}
	}
	mark := ServiceKey{FWMark: 5}
	tcp, udp := uint8(wire.ProtoTCP), uint8(wire.ProtoUDP)
	for _, row := range []struct {
		say    string
		key    ServiceKey
		method Method
		own    Tuning
		rules  []PortRange
		want   []director.HelpedPort
	}{
		{"NAT at port 21", at(tcp, 21), MethodMasq, nil, nil, []director.HelpedPort{{Proto: tcp, Port: 21}}},
		{"direct routing at port 21", at(tcp, 21), MethodRoute, nil, nil, nil},
		{"NAT at port 21, switched off", at(tcp, 21), MethodMasq, Tuning{tuneFTP: helpOff}, nil, nil},
		{"NAT at another port", at(tcp, 2021), MethodMasq, nil, nil, nil},
		{"NAT at another port, switched on", at(tcp, 2021), MethodMasq, Tuning{tuneFTP: helpOn}, nil, []director.HelpedPort{{Proto: tcp, Port: 2021}}},
		{"UDP port 21", at(udp, 21), MethodMasq, nil, nil, nil},
		{"TFTP", at(udp, 69), MethodMasq, nil, nil, []director.HelpedPort{{Proto: udp, Port: 69}}},
		{"a mark with port 21", mark, MethodMasq, nil, []PortRange{{First: 21, Last: 21}, {First: 2021, Last: 2021}}, []director.HelpedPort{{Proto: tcp, Port: 21}}},
		{"a mark, switched on", mark, MethodMasq, Tuning{tuneFTP: helpOn}, []PortRange{{First: 21, Last: 21}, {First: 2021, Last: 2021}, {First: 50000, Last: 51000}},
			[]director.HelpedPort{{Proto: tcp, Port: 21}, {Proto: tcp, Port: 2021}}},
	} {
		var s State
		for _, op := range helpedService(row.key, row.method, "10.2.0.11:21") {
			next, err := Change(s, op)
			if err != nil {
				t.Fatalf("%s: %v", row.say, err)
			}
			s = next
		}
		s.ServiceTuning = map[ServiceKey]Tuning{row.key: row.own}
		if row.rules != nil {
			s.Marks = []MarkRule{{Dst: netip.MustParsePrefix("10.9.0.1/32"), Proto: tcp, DstPorts: row.rules, Mark: 5}}
		}
		var got []director.HelpedPort
		if h := s.helper(&s.Services[0]); h != nil {
			got = h.Ports
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: helped are %v, want %v", row.say, got, row.want)
		}
	}
}

// What the guard hides of a helped service: where data of FTP comes from and goes
// to, and whose announcements are to be followed.
func TestHelpedIsHidden(t *testing.T) {
	w := newWorld(t, 1)
	key := ServiceKey{Proto: wire.ProtoTCP, Addr: netip.MustParseAddr("10.9.0.1"), Port: 2021}
	w.must(helpedService(key, MethodMasq, "10.2.0.11:21")...)
	if p := w.guard.all(); len(p.HelperMatches)+len(p.HelperServers) != 0 {
		t.Errorf("hidden before it is helped: %+v", p)
	}
	w.must(Op{Verb: Tune, Service: &Service{ServiceKey: key}, Tuning: Tuning{tuneFTP: helpOn}})
	p, server := w.guard.all(), netip.MustParseAddr("10.2.0.11")
	if len(p.HelperMatches) != 1 || p.HelperMatches[0].DstFirst != 2021 || !slices.Contains(p.HelperServers, guard.Endpoint{Proto: wire.ProtoTCP, Addr: server}) ||
		!slices.Contains(p.Sources, guard.Endpoint{Proto: wire.ProtoTCP, Addr: server, Port: 20}) {
		t.Errorf("hidden: %+v", p)
	}
	if m := w.guard.rules.Marked; len(m) != 1 || m[0].DstFirst != 2020 || m[0].DstLast != 2020 {
		t.Errorf("frames to the VIP that are hidden: %+v", m)
	}
}

// A setting can be given and is shown by its word; wrong ones are refused.
func TestSettingWords(t *testing.T) {
	for text, want := range map[string]uint32{"ftp=auto": helpAuto, "ftp=off": helpOff, "tftp=on": helpOn, "ftp=1": helpOn, "ftp_bounce=1": 1} {
		name, v, err := ParseSetting(text)
		if err != nil || v != want || name+"="+(Tunable{}).Shown(v) == "" {
			t.Errorf("%s: %d, %v", text, v, err)
		}
	}
	for _, text := range []string{"ftp=yes", "ftp", "slow_start=on", "ftp_bounce=on"} {
		if _, v, err := ParseSetting(text); err == nil {
			t.Errorf("%s is %d", text, v)
		}
	}
	var s State
	for _, op := range helpedService(ServiceKey{Proto: wire.ProtoUDP, Addr: netip.MustParseAddr("10.9.0.1"), Port: 53}, MethodMasq, "10.2.0.11:53") {
		s, _ = Change(s, op)
	}
	if _, err := Change(s, Op{Verb: Tune, Service: &s.Services[0], Tuning: Tuning{tuneFTP: helpOn}}); err == nil {
		t.Error("FTP of a UDP service is not refused")
	}
}

// A service that looks like FTP's, by direct routing and not persistent, is
// warned of.
func TestFTPWarning(t *testing.T) {
	svc := Service{ServiceKey: ServiceKey{Proto: wire.ProtoTCP, Addr: netip.MustParseAddr("10.9.0.1"), Port: 21}}
	for _, row := range []struct {
		method  Method
		persist uint32
		port    uint16
		warned  bool
	}{
		{MethodRoute, 0, 21, true}, {MethodTunnel, 0, 21, true}, {MethodMasq, 0, 21, false},
		{MethodRoute, 300, 21, false}, {MethodRoute, 0, 80, false},
	} {
		svc.Servers = []Server{{Method: row.method}}
		svc.Persist, svc.Port = row.persist, row.port
		if got := svc.FTPWarning(); (got != "") != row.warned {
			t.Errorf("%+v: %q", row, got)
		}
	}
}
