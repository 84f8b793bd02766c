package config

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"uvs/dataplane/wire"
)

func rule(dst string, proto uint8, mark uint32, ports ...PortRange) MarkRule {
	return MarkRule{Dst: netip.MustParsePrefix(dst), Proto: proto, DstPorts: ports, Mark: mark}
}

// Lines of scripts, and their rules.
func TestParseIPTables(t *testing.T) {
	for line, want := range map[string]string{
		"iptables -t mangle -A PREROUTING -i eth0 -p tcp -s 0.0.0.0/0 -d 192.168.1.110/32 --dport 80 -j MARK " +
			"--set-mark 1": "--dst 192.168.1.110 --proto tcp --dport 80 --in-interface eth0 --mark 1",
		"/sbin/iptables -A INPUT -t mangle -d 192.168.1.0/255.255.255.0 -p udp -m udp --dport 6970:7170 -j MARK " +
			"--set-mark 0x1f": "--dst 192.168.1.0/24 --proto udp --dport 6970:7170 --mark 31",
		"iptables -t mangle -A PREROUTING -p tcp -m multiport --dports 443,80,8000:8100 " +
			"-j MARK --set-mark 2": "--proto tcp --dport 80,443,8000:8100 --mark 2",
		"iptables --table mangle --append PREROUTING --protocol=tcp --destination-port http " +
			"--jump MARK --set-mark 3": "--proto tcp --dport 80 --mark 3",
		"iptables -t mangle -A PREROUTING -s 10.0.0.0/8 -d 192.0.2.1 " +
			"-j MARK --set-xmark 0x4/0xffffffff # all": "--dst 192.0.2.1 --src 10.0.0.0/8 --mark 4",
		"iptables -t mangle -A PREROUTING -p 17 --sport 1024: " +
			"-j MARK --set-mark 5": "--proto udp --sport 1024:65535 --mark 5",
		`iptables -t mangle -A PREROUTING -d 192.0.2.1 -m comment --comment "the big shop" ` +
			"-j MARK --set-mark 6": "--dst 192.0.2.1 --mark 6",
		"ip6tables -t mangle -A PREROUTING -d 2001:db8::1/128 -p tcp --dport 443 " +
			"-j MARK --set-mark 7": "--dst 2001:db8::1 --proto tcp --dport 443 --mark 7",
		"ip6tables -t mangle -A PREROUTING -p tcp --dport 443 " +
			"-j MARK --set-mark 8": "--ipv6 --proto tcp --dport 443 --mark 8",
		"*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -j MARK " +
			"--set-xmark 0x9/0xffffffff\nCOMMIT": "--dst 192.0.2.1 --proto tcp --dport 80 --mark 9",
	} {
		rules, err := ParseIPTables(strings.NewReader("#!/bin/sh\n\n" + line + "\n"))
		if err != nil || len(rules) != 1 || rules[0].String() != want {
			t.Errorf("%s\nis %v, %v; want %s", line, rules, err, want)
		}
	}
}

// Lines that are refused, each with a word of the reason.
func TestParseIPTablesRefuses(t *testing.T) {
	good := "iptables -t mangle -A PREROUTING -p tcp --dport 80 -j MARK --set-mark 1\n"
	for line, reason := range map[string]string{
		"ipvsadm -A -f 1": "no iptables",
		"iptables -A PREROUTING -p tcp --dport 80 -j MARK --set-mark 1":                      "mangle",
		"iptables -t mangle -A FORWARD -p tcp --dport 80 -j MARK --set-mark 1":               "PREROUTING",
		"iptables -t mangle -A PREROUTING -p tcp --dport 80 -j ACCEPT":                       "MARK",
		"iptables -t mangle -A PREROUTING -p tcp --dport 80 -j MARK --or-mark 1":             "--or-mark",
		"iptables -t mangle -A PREROUTING -p tcp --dport 80 -j MARK --set-mark 1/0xff":       "mask",
		"iptables -t mangle -A PREROUTING -p tcp --dport 80 -j MARK --set-mark 0":            "mark 0",
		"iptables -t mangle -A PREROUTING -p tcp --dport 80 -j MARK":                         "mark 0",
		"iptables -t mangle -A PREROUTING -p tcp ! -d 192.0.2.1 -j MARK --set-mark 1":        "negation",
		"iptables -t mangle -A PREROUTING -p tcp -d ! 192.0.2.1 -j MARK --set-mark 1":        "negation",
		"iptables -t mangle -A PREROUTING -p tcp -d $VIP -j MARK --set-mark 1":               "$VIP",
		"iptables -t mangle -A PREROUTING -p tcp -d www.example.com -j MARK --set-mark 1":    "www.example.com",
		"iptables -t mangle -A PREROUTING -i eth+ -p tcp -j MARK --set-mark 1":               "eth+",
		"iptables -t mangle -A PREROUTING -m state --state NEW -j MARK --set-mark 1":         "state",
		"iptables -t mangle -A PREROUTING -p icmp -j MARK --set-mark 1":                      "icmp",
		"iptables -t mangle -A PREROUTING --dport 80 -j MARK --set-mark 1":                   "protocol",
		"iptables -t mangle -A PREROUTING -p tcp --dport 90:80 -j MARK --set-mark 1":         "ends before",
		"iptables -t mangle -A PREROUTING -p tcp --dports 80,70:90 -j MARK --set-mark 1":     "overlap",
		"iptables -t mangle -A PREROUTING -d 2001:db8::1 -s 192.0.2.1 -j MARK --set-mark 1":  "family",
		"ip6tables -t mangle -A PREROUTING -d 192.0.2.1 -j MARK --set-mark 1":                "family",
		"iptables -t mangle -A PREROUTING -d 192.0.2.0/255.0.255.0 -j MARK --set-mark 1":     "netmask",
		"iptables -t mangle -A PREROUTING -d 192.0.2.0/ffff:: -j MARK --set-mark 1":          "netmask",
		"iptables -t mangle -A PREROUTING -d 192.0.2.0/33 -j MARK --set-mark 1":              "netmask",
		"iptables -t mangle -A PREROUTING -p tcp --dport 80 --dport 81 -j MARK --set-mark 1": "twice",
		"iptables -t mangle -A PREROUTING -p tcp --dport 80 -j MARK --set-mark":              "value",
		strings.TrimSpace(good): "twice",
	} {
		rules, err := ParseIPTables(strings.NewReader(good + line + "\n"))
		if err == nil || rules != nil || !strings.Contains(err.Error(), reason) ||
			!strings.HasPrefix(err.Error(), "line 2: "+line) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s\ngave %v, %v; want line 2 and a word of %q", line, rules, err, reason)
		}
	}
}

// Rules are added and deleted all or none, and stay when services are deleted.
func TestChangeMarks(t *testing.T) {
	web, dns := rule("192.0.2.1/32", wire.ProtoTCP, 1, PortRange{First: 443, Last: 443},
		PortRange{First: 80, Last: 80}), rule("192.0.2.0/24", wire.ProtoUDP, 2)
	s, err := Change(startState(t), Op{Verb: AddMarks, Marks: []MarkRule{web, dns}})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Marks[0].String(); got != "--dst 192.0.2.1 --proto tcp --dport 80,443 --mark 1" {
		t.Errorf("kept as %s", got)
	}
	refused := map[string]struct {
		op    Op
		errno syscall.Errno
	}{
		"none at all": {Op{Verb: AddMarks}, syscall.EINVAL},
		"one that is there": {
			Op{Verb: AddMarks, Marks: []MarkRule{rule("10.0.0.0/8", 0, 3), web}},
			syscall.EEXIST,
		},
		"the same twice": {Op{
			Verb:  AddMarks,
			Marks: []MarkRule{rule("10.0.0.0/8", 0, 3), rule("10.0.0.0/8", 0, 3)},
		}, syscall.EEXIST},
		"mark 0": {Op{Verb: AddMarks, Marks: []MarkRule{rule("10.0.0.0/8", 0, 0)}}, syscall.EINVAL},
		"overlapping ports": {
			Op{
				Verb: AddMarks,
				Marks: []MarkRule{rule("10.0.0.0/8", 6, 1, PortRange{First: 1, Last: 9},
					PortRange{First: 9, Last: 10})},
			},
			syscall.EINVAL,
		},
		"a protocol without port": {
			Op{Verb: AddMarks, Marks: []MarkRule{rule("10.0.0.0/8", wire.ProtoICMP, 1)}},
			syscall.EINVAL,
		},
		"bits outside a net": {Op{Verb: AddMarks, Marks: []MarkRule{rule("10.1.0.0/8", 0, 1)}}, syscall.EINVAL},
		"a multicast net":    {Op{Verb: AddMarks, Marks: []MarkRule{rule("224.0.0.0/8", 0, 1)}}, syscall.EINVAL},
		"families that differ": {Op{
			Verb:  AddMarks,
			Marks: []MarkRule{{Dst: dns.Dst, Src: netip.MustParsePrefix("2001:db8::/32"), Mark: 1}},
		}, syscall.EINVAL},
		"deleting one of none": {
			Op{Verb: DeleteMarks, Marks: []MarkRule{web, rule("10.0.0.0/8", 0, 3)}},
			syscall.ENOENT,
		},
	}
	for sentence, r := range refused {
		if after, err := Change(s, r.op); !errors.Is(err, r.errno) || !reflect.DeepEqual(after, s) {
			t.Errorf("%s: %v, want errno %v and no change", sentence, err, r.errno)
		}
	}
	if s, err = Change(s, Op{Verb: Flush}); err != nil || len(s.Marks) != 2 {
		t.Errorf("flush left rules %v, %v", s.Marks, err)
	}
	if s, err = Change(s, Op{Verb: DeleteMarks, Marks: []MarkRule{web}}); err != nil || len(s.Marks) != 1 ||
		s.Marks[0].Mark != 2 {
		t.Errorf("deletion left %v, %v", s.Marks, err)
	}
}

// Services of a mark, one for each family, keep the ports of servers.
func TestChangeMarkServices(t *testing.T) {
	s := State{}
	for _, v6 := range []bool{false, true} {
		svc := &Service{ServiceKey: ServiceKey{FWMark: 7, IPv6: v6}, Scheduler: "rr", Netmask: 128}
		ends := []string{"10.2.0.11:0", "10.2.0.11:8080"}
		if v6 {
			ends = []string{"[fd00::1]:0", "[fd00::1]:8080"}
		}
		ops := []Op{{Verb: AddService, Service: svc}}
		for _, end := range ends {
			ops = append(ops, Op{Verb: AddServer, Service: svc, Server: ptr(serverAt(end, MethodRoute, 1))})
		}
		for _, op := range ops {
			var err error
			if s, err = Change(s, op); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(s.Services) != 2 || len(s.Services[0].Servers) != 2 || s.Services[1].Servers[0].Port != 8080 {
		t.Errorf("services %+v", s.Services)
	}
}
