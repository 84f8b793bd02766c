package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"uvs/ctl/config"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// `uvs restore` reads a sorry server as `uvs save` wrote it.
func TestSorryText(t *testing.T) {
	for _, server := range []config.Server{
		{Method: config.MethodDR},
		{Method: config.MethodNAT},
		{Method: config.MethodTunnel},
		{Method: config.MethodTunnel, Tunnel: config.Tunnel{Type: tunnel.GUE, Port: 6080, Checksum: tunnel.Csum}},
		{Method: config.MethodTunnel, Tunnel: config.Tunnel{Type: tunnel.GUE, Port: 6080, Checksum: tunnel.RemCsum}},
		{Method: config.MethodTunnel, Tunnel: config.Tunnel{Type: tunnel.GRE}},
	} {
		server.ServerKey = config.ServerKey{Addr: netip.MustParseAddr("2001:db8::9"), Port: 80}
		line := "sorry --service tcp:192.0.2.1:80 " + sorryText(&server)
		op, err := parseLine(strings.Fields(line))
		if err != nil || *op.Server != server {
			t.Errorf("%s is read as %+v, %v; want %+v", line, op, err, server)
		}
	}
}

// Commands keep what does not show: a value that is the default, the mask of a service without
// persistence, and the port 0 of a server.
func TestWriteConfig(t *testing.T) {
	text := `set slow_start=0
ipvsadm -A -t 192.0.2.1:80 -s wlc -M 255.255.255.0
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.1:0 -m -w 1
set --service tcp:192.0.2.1:80 slow_start=0
sorry --service tcp:192.0.2.1:80 10.0.0.9:0 -m
`
	path := filepath.Join(t.TempDir(), "uvs.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := readFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if writeConfig(&b, &f.Document); b.String() != text {
		t.Errorf("%s\nwant\n%s", b.String(), text)
	}
}

// `uvs restore` reads admin states as `uvs save` and `uvs down --list` write them.
func TestAdminText(t *testing.T) {
	for _, service := range strings.Split(",tcp:192.0.2.1:80,udp:[2001:db8::1]:53,sctp:192.0.2.1:0,fwm:7,fwm6:7", ",") {
		for _, server := range []string{"10.0.0.11", "10.0.0.11:80", "2001:db8::9", "[2001:db8::9]:80"} {
			ap, err := netip.ParseAddrPort(server)
			if err != nil {
				ap = netip.AddrPortFrom(netip.MustParseAddr(server), 0)
			}
			rule := config.AdminRule{
				AdminScope: config.AdminScope{Addr: ap.Addr(), Port: ap.Port()}, Admin: config.AdminDrain,
			}
			if service != "" {
				rule.Service, _ = config.ParseServiceKey(service)
			}
			line := fmt.Sprint(rule.Admin, " ", rule.AdminScope)
			if op, err := parseLine(strings.Fields(line)); err != nil || *op.Admin != rule {
				t.Errorf("%s is read as %+v, %v", line, op, err)
			}
		}
	}
}

// `uvs restore` reads every command, and names the line of a wrong one.
func TestReadCommands(t *testing.T) {
	lines := strings.Split(`set timeout_udp=60 slow_start=30
mark add --dst 192.0.2.0/24 --proto tcp --dport 80,8000:8100 --mark 7
ipvsadm -A -t 192.0.2.1:80 -s wlc -p 300
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.11:8080 -m -w 3
set --service tcp:192.0.2.1:80 limit_conns=5
  sorry --service tcp:192.0.2.1:80 10.0.0.9:80 -m
down --service tcp:192.0.2.1:80 10.0.0.11:8080
drain 2001:db8::9`, "\n")
	var ops []config.Op
	for _, line := range lines {
		op, err := parseLine(strings.Fields(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		ops = append(ops, op)
	}
	down := config.AdminRule{Admin: config.AdminDown, AdminScope: config.AdminScope{
		Service: config.ServiceKey{Proto: wire.ProtoTCP, Addr: netip.MustParseAddr("192.0.2.1"), Port: 80},
		Addr:    netip.MustParseAddr("10.0.0.11"), Port: 8080,
	}}
	drained := config.AdminRule{Admin: config.AdminDrain, AdminScope: config.AdminScope{
		Addr: netip.MustParseAddr("2001:db8::9"),
	}}
	want := []config.OpKind{
		config.SetSettings, config.AddMarks, config.AddService, config.AddServer, config.SetSettings,
		config.SetSorry, config.SetAdmin, config.SetAdmin,
	}
	if len(ops) != len(want) {
		t.Fatalf("%d operations, want %d", len(ops), len(want))
	}
	for i, op := range ops {
		if op.Kind != want[i] {
			t.Errorf("%s is %s, want %s", lines[i], op.Kind, want[i])
		}
	}
	if *ops[6].Admin != down || *ops[7].Admin != drained || ops[5].Server.Method != config.MethodNAT ||
		ops[4].Service == nil {
		t.Errorf("operations %+v", ops)
	}
	for _, r := range []struct{ sentence, text, want string }{
		{"a verb that asks", "set slow_start=1\nstats", `2: "stats" is none`},
		{
			"a command that lists", "ipvsadm -Ln",
			"1: this command changes nothing; a saved line must change something",
		},
		{"an option there is not", "sorry --servce x", "1: unknown option --"},
		{"a service that is none", "set --service web slow_start=1", `1: "web" is not a service`},
		{"a wrong command of ipvsadm", "\n\nipvsadm -A -t 192.0.2.1", "3: Zero port"},
		{"a mark without its verb", "mark --mark 1", `1: "mark" is none`},
		{"a word too many", "mark add --mark 1 x", `1: unexpected argument "x"`},
		{"no server down", "down --service tcp:192.0.2.1:80", "1: name one server"},
		{"what does not last", "down --reset 10.0.0.1", "1: unknown option --"},
	} {
		path := filepath.Join(t.TempDir(), "uvs.conf")
		if err := os.WriteFile(path, []byte(r.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readFile(path); err == nil || !strings.HasPrefix(err.Error(), path+":"+r.want) {
			t.Errorf("%s: %v, want %s…", r.sentence, err, r.want)
		}
	}
}
