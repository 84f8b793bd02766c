package ipvsadm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// fullDirector returns a director with all kinds of services and servers. Lines of its listings
// were compared with those of ipvsadm 1.31.
func fullDirector(t *testing.T) *memory {
	m := newMemory()
	m.must(t,
		"-A -t 10.9.0.1:80 -s rr",
		"-A -u 10.9.0.1:5060 -s rr -p 30 --pe sip -o",
		"-A --sctp-service 10.9.0.1:3868 -s nq",
		"-A -t 10.9.0.2:443 -p 600 -M 255.255.255.0",
		"-A -t [2001:db8::1]:80 -s rr --pe sip",
		"-A -f 1 -s sh -b sh-port,sh-fallback",
		"-A -f 2 -6 -s mh -p 50 -M 64 -b mh-port,mh-fallback",
		"-a -t 10.9.0.1:80 -r 192.168.1.3:8080 -m -w 3",
		"-a -t 10.9.0.1:80 -r 192.168.1.4 -i -x 7 -y 5",
		"-a -t 10.9.0.1:80 -r 192.168.1.5 -i --tun-type gue --tun-port 6080 --tun-csum",
		"-a -t 10.9.0.1:80 -r 192.168.1.6 -i --tun-type gre",
		"-a --sctp-service 10.9.0.1:3868 -r 192.168.1.2",
		"-a -t [2001:db8::1]:80 -r [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:8000 -m",
		"-a -f 1 -r 192.168.1.9 -m",
		"-a -f 1 -r 192.168.1.10:99",
		"-a -f 2 -6 -r [2001:db8::9]:0",
	)
	web := &m.services[0]
	web.Stats = api.Stats{
		Conns: 123456, InPkts: 99999999, OutPkts: 100000000, InBytes: 999999999,
		OutBytes: 100000000000,
		CPS:      1, InPPS: 100000000, OutPPS: 3, InBPS: 1234567890, OutBPS: 100000000000000,
	}
	for i := range web.ServerStatuses {
		web.ServerStatuses[i].Stats = web.Stats
		web.ServerStatuses[i].Active, web.ServerStatuses[i].Inactive, web.ServerStatuses[i].Persist = 3, 5, 7
	}
	return m
}

// show makes listings readable in tests: "|" is the end of a line.
func show(s string) string { return strings.ReplaceAll(s, "\n", "|\n") }

// TestListings compares listings byte by byte.
func TestListings(t *testing.T) {
	const (
		version = "IP Virtual Server version 1.2.1 (size=4096)|\n"
		plain   = "Prot LocalAddress:Port Scheduler Flags|\n" +
			"  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn|\n"
	)
	m := fullDirector(t)
	for _, tt := range []struct{ line, want string }{
		{"-Ln", version + plain + `TCP  10.9.0.1:80 rr|
  -> 192.168.1.3:8080             Masq    3      3          5         |
  -> 192.168.1.4:80               Tunnel  1      3          5         |
  -> 192.168.1.5:80               Tunnel  1      3          5         |
  -> 192.168.1.6:80               Tunnel  1      3          5         |
TCP  10.9.0.2:443 wlc persistent 600 mask 255.255.255.0|
UDP  10.9.0.1:5060 rr persistent 30 pe sip ops|
SCTP 10.9.0.1:3868 nq|
  -> 192.168.1.2:3868             Route   1      0          0         |
TCP  [2001:db8::1]:80 rr|
  -> [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:8000 Masq    1      0          0         |
FWM  1 sh (sh-fallback,sh-port)|
  -> 192.168.1.9:0                Masq    1      0          0         |
  -> 192.168.1.10:99              Route   1      0          0         |
FWM  2 IPv6 mh (mh-fallback,mh-port) persistent 50 mask 64|
  -> [2001:db8::9]:0              Route   1      0          0         |
`},
		{"-l -n --nosort -f 1", plain + `FWM  1 sh (sh-fallback,sh-port)|
  -> 192.168.1.10:99              Route   1      0          0         |
  -> 192.168.1.9:0                Masq    1      0          0         |
`},
		{"-L -t www.example:http --sort", plain + `TCP  www.example:http rr|
  -> 192.168.1.3:8080             Masq    3      3          5         |
  -> 192.168.1.4:http             Tunnel  1      3          5         |
  -> 192.168.1.5:http             Tunnel  1      3          5         |
  -> 192.168.1.6:http             Tunnel  1      3          5         |
`},
		{"-Lnt 10.9.0.1:80 --tun-info", `Prot LocalAddress:Port Scheduler Flags|
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn|
TCP  10.9.0.1:80 rr|
  -> 192.168.1.3:8080             Masq    n/a           3      3          5         |
  -> 192.168.1.4:80               Tunnel  ipip          1      3          5         |
  -> 192.168.1.5:80               Tunnel  gue:6080:+c   1      3          5         |
  -> 192.168.1.6:80               Tunnel  gre:-c        1      3          5         |
`},
		{
			"-Lnt 10.9.0.1:80 --thresholds --tun-info",
			`Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn |
  -> RemoteAddress:Port|
TCP  10.9.0.1:80 rr|
  -> 192.168.1.3:8080             0          0          3          5         |
  -> 192.168.1.4:80               7          5          3          5         |
  -> 192.168.1.5:80               0          0          3          5         |
  -> 192.168.1.6:80               0          0          3          5         |
`,
		},
		{
			"-Lnt 10.9.0.1:80 --persistent-conn",
			`Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn |
  -> RemoteAddress:Port|
TCP  10.9.0.1:80 rr|
  -> 192.168.1.3:8080             3         7           3          5         |
  -> 192.168.1.4:80               1         7           3          5         |
  -> 192.168.1.5:80               1         7           3          5         |
  -> 192.168.1.6:80               1         7           3          5         |
`,
		},
		{
			"-Ln --rate --stats --thresholds -t 10.9.0.1:80",
			`Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes|
  -> RemoteAddress:Port|
TCP  10.9.0.1:80                    123456 99999999  100000K  999999K     100G|
  -> 192.168.1.3:8080               123456 99999999  100000K  999999K     100G|
  -> 192.168.1.4:80                 123456 99999999  100000K  999999K     100G|
  -> 192.168.1.5:80                 123456 99999999  100000K  999999K     100G|
  -> 192.168.1.6:80                 123456 99999999  100000K  999999K     100G|
`,
		},
		{"-LnX --stats -t 10.9.0.1:80", `Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes|
  -> RemoteAddress:Port|
TCP  10.9.0.1:80                    123456 99999999 100000000 999999999 100000000000|
  -> 192.168.1.3:8080               123456 99999999 100000000 999999999 100000000000|
  -> 192.168.1.4:80                 123456 99999999 100000000 999999999 100000000000|
  -> 192.168.1.5:80                 123456 99999999 100000000 999999999 100000000000|
  -> 192.168.1.6:80                 123456 99999999 100000000 999999999 100000000000|
`},
		{"-Ln --rate -t 10.9.0.1:80", `Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS|
  -> RemoteAddress:Port|
TCP  10.9.0.1:80                         1  100000K        3    1234M     100T|
  -> 192.168.1.3:8080                    1 100000000        3    1234M     100T|
  -> 192.168.1.4:80                      1 100000000        3    1234M     100T|
  -> 192.168.1.5:80                      1 100000000        3    1234M     100T|
  -> 192.168.1.6:80                      1 100000000        3    1234M     100T|
`},
		{
			"-Ln --stats -t [2001:db8::1]:80",
			`Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes|
  -> RemoteAddress:Port|
TCP  [2001:db8::1]:80                    0        0        0        0        0|
  -> [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:8000        0        0        0        0        0|
`,
		},
		{"-Ln --stats -f 2 -6", `Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes|
  -> RemoteAddress:Port|
FWM  2 IPv6                              0        0        0        0        0|
  -> [2001:db8::9]:0                     0        0        0        0        0|
`},
		{"-L --timeout", "Timeout (tcp tcpfin udp): 900 120 300|\n"},
		{"-L --daemon", ""},
		{"-S -n", `-A -t 10.9.0.1:80 -s rr|
-a -t 10.9.0.1:80 -r 192.168.1.3:8080 -m -w 3|
-a -t 10.9.0.1:80 -r 192.168.1.4:80 -i -w 1 -x 7 -y 5 --tun-type ipip|
-a -t 10.9.0.1:80 -r 192.168.1.5:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum|
-a -t 10.9.0.1:80 -r 192.168.1.6:80 -i -w 1 --tun-type gre --tun-nocsum|
-A -t 10.9.0.2:443 -s wlc -p 600 -M 255.255.255.0|
-A -u 10.9.0.1:5060 -s rr -p 30 --pe sip -o|
-A --sctp-service 10.9.0.1:3868 -s nq|
-a --sctp-service 10.9.0.1:3868 -r 192.168.1.2:3868 -g -w 1|
-A -t [2001:db8::1]:80 -s rr --pe sip|
-a -t [2001:db8::1]:80 -r [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:8000 -m -w 1|
-A -f 1 -s sh -b sh-fallback,sh-port|
-a -f 1 -r 192.168.1.9:0 -m -w 1|
-a -f 1 -r 192.168.1.10:99 -g -w 1|
-A -f 2 -6 -s mh -p 50 -M 64 -b mh-fallback,mh-port|
-a -f 2 -6 -r [2001:db8::9]:0 -g -w 1|
`},
	} {
		if got := m.do(tt.line); show(got.out) != tt.want || got.err != "" || got.exit != 0 {
			t.Errorf("ipvsadm %s\n got exit %d %s\n%s\nwant\n%s", tt.line, got.exit, got.err, show(got.out), tt.want)
		}
	}
	if all, none := m.do("-L"), m.do(""); all != none {
		t.Errorf("no words at all must list:\n%s\nwant\n%s", none.out, all.out)
	}
}

// TestListNames: long IPv4 names are truncated; a mark is signed in listings and unsigned
// when saved.
func TestListNames(t *testing.T) {
	m := newMemory()
	m.must(t, "-A -t a-very-long-name-of-a-server.example:http", "-A -f 4294967295 -s rr",
		"-a -t 10.0.0.77:80 -r a-very-long-name-of-a-server.example")
	m.expect(t, "-L", outcome{0, `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
FWM  -1 rr
TCP  a-very-long-name-of-a-server wlc
  -> a-very-long-name-of-a-server Route   1      0          0         
`, ""})
	m.expect(t, "-S", outcome{0, `-A -f 4294967295 -s rr
-A -t a-very-long-name-of-a-server.example:http -s wlc
-a -t a-very-long-name-of-a-server.example:http -r a-very-long-name-of-a-server.example:http -g -w 1
`, ""})
}

// TestListConns compares the list of conns byte by byte.
func TestListConns(t *testing.T) {
	at := netip.MustParseAddrPort
	m := newMemory()
	m.conns = []api.ConnStatus{
		{
			Proto: 6, Expires: 59, State: "SYN_RECV", Client: at("10.0.1.10:5201"), Virtual: at("10.9.0.1:80"),
			Server: at("10.0.2.12:443"),
		},
		{
			Proto: 0, Expires: 39, State: "NONE", Client: at("10.0.1.11:0"), Virtual: at("0.0.0.1:0"),
			Server: at("10.0.2.11:0"),
		},
		{
			Proto: 132, Expires: 3, State: "INIT1", Client: at("10.0.1.10:7000"), Virtual: at("10.9.0.1:3868"),
			Server: at("10.0.2.11:3900"),
		},
		{
			Proto: 17, Expires: 13171233*60 + 2, State: "UDP", Client: at("[2001:db8::1]:5060"),
			Virtual: at("[2001:db8::2]:53"), Server: at("127.0.0.1:53"), PEName: "sip", PEData: "1234@x",
		},
	}
	m.expect(t, "-Lnc", outcome{0, `IPVS connection entries
pro expire state       source             virtual            destination
TCP 00:59  SYN_RECV    10.0.1.10:5201     10.9.0.1:80        10.0.2.12:443
IP  00:39  NONE        10.0.1.11:0        0.0.0.1:0          10.0.2.11:0
SCTP 00:03  INIT1       10.0.1.10:7000     10.9.0.1:3868      10.0.2.11:3900
UDP 13171233:02 UDP         [2001:db8::1]:5060 [2001:db8::2]:53   127.0.0.1:53
`, ""})
	m.conns = m.conns[2:]
	m.expect(t, "-L -c --persistent-conn", outcome{0, `IPVS connection entries
pro expire state       source             virtual            destination        pe name          pe_data
SCTP 00:03  INIT1       10.0.1.10:7000     www.example:3868   10.0.2.11:3900
UDP 13171233:02 UDP         [2001:db8::1]:5060 [2001:db8::2]:domain localhost:domain sip                1234@x
`, ""})
}

// TestAbbreviate tests each change of unit.
func TestAbbreviate(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "        0", 99999999: " 99999999", 100000000: "  100000K", 999999999: "  999999K", 1000000000: "    1000M",
		99999999999: "   99999M", 100000000000: "     100G", 99999999999999: "   99999G", 100000000000000: "     100T",
		18446744073709551615: "18446744T",
	} {
		if got := abbreviate(n); got != want {
			t.Errorf("abbreviate(%d) = %q, want %q", n, got, want)
		}
	}
}

// TestRefusals has ipvsadm's message for each error of a director.
func TestRefusals(t *testing.T) {
	m := fullDirector(t)
	for _, tt := range []struct {
		line string
		want outcome
	}{
		{"-A -t 10.9.0.1:80", refused("Service already exists")},
		{"-A -t 10.9.0.9:80 -s bogus", refused("Scheduler or persistence engine not found")},
		{"-E -t 10.9.0.1:80 -s rr --pe bogus", refused("Scheduler or persistence engine not found")},
		{"-E -t 10.9.0.9:80", refused("No such service")},
		{"-D -f 2", refused("No such service")},
		{"-Z -u 10.9.0.1:80", refused("No such service")},
		{"-L -u 10.9.0.1:80", outcome{1, "", "No such service\n"}},
		{"-L -f 2", outcome{1, "", "No such service\n"}},
		{"-a -t 10.9.0.9:80 -r 10.0.0.1", refused("Service not defined")},
		{"-a -t 10.9.0.1:80 -r 192.168.1.4 -i", refused("Destination already exists")},
		{
			"-a -t 10.9.0.1:80 -r 224.0.0.1",
			refused("Invalid operation.  Possibly wrong module version, address not unicast, ..."),
		},
		{"-a -t 10.9.0.1:80 -r 10.0.0.1 -x 3 -y 4", refused("Numerical result out of range")},
		{"-e -t 10.9.0.1:80 -r 192.168.1.3:8080", refused("No such destination")},
		{"-d -t 10.9.0.1:80 -r 192.168.1.3", refused("No such destination")},
		{"-d -t 10.9.0.9:80 -r 192.168.1.3", refused("Service not defined")},
	} {
		m.expect(t, tt.line, tt.want)
	}
	for e, want := range map[syscall.Errno]string{
		syscall.EPERM:        "Permission denied (you must be root)",
		syscall.ENOPROTOOPT:  "Protocol not available",
		syscall.ENOMEM:       "Memory allocation problem",
		syscall.EOPNOTSUPP:   "refused: operation not supported", // the director's words
		syscall.EAFNOSUPPORT: "Operation not supported with specified address family",
		syscall.EMSGSIZE:     "Module is wrong version",
		syscall.ENODEV:       "No such device",
		syscall.EBUSY:        "refused: device or resource busy",
	} {
		m.err = errno(e)
		m.expect(t, "-C", refused(want))
	}
	m.err = errors.New("director hung up")
	m.expect(t, "--set 1 2 3", refused("director hung up"))
	for _, line := range []string{"-S", "-L", "-L --timeout", "-L -t 10.9.0.1:80"} {
		m.expect(t, line, outcome{1, "", "director hung up\n"})
	}
}

// TestPermissionDenied: who may not use the socket is not told to start a director.
func TestPermissionDenied(t *testing.T) {
	var out, errs bytes.Buffer
	exit := Main([]string{"-Ln"}, Stdio{strings.NewReader(""), &out, &errs}, func() (Director, error) {
		return nil, fmt.Errorf("%w on socket", fs.ErrPermission)
	})
	if exit != 2 || errs.String() != "Can't initialize ipvs: permission denied on socket\n" {
		t.Errorf("exit %d, %q", exit, errs.String())
	}
}

// TestNoDirector: commands that need a director say how to start one; the others work.
func TestNoDirector(t *testing.T) {
	run := func(line string) outcome {
		var out, errs strings.Builder
		exit := Main(strings.Fields(line), Stdio{strings.NewReader(""), &out, &errs},
			func() (Director, error) { return nil, errors.New("no director") })
		return outcome{exit, out.String(), errs.String()}
	}
	for _, line := range []string{"", "-Ln", "-C", "-R", "-S", "-A -f 1", "--start-daemon master"} {
		if got, want := run(line), usage("Can't initialize ipvs: no director\nNo director answers here; start one "+
			"with `uvs run'."); got != want {
			t.Errorf("ipvsadm %s\n got %+v\nwant %+v", line, got, want)
		}
	}
	version, help := run("-v -L"), run("--help")
	if version.exit != 0 || !strings.HasPrefix(version.out, "ipvsadm v1.31 (uvs ") ||
		!strings.HasSuffix(version.out, ", IPVS v1.2.1)\n") {
		t.Errorf("ipvsadm -v: %+v", version)
	}
	if help.exit != 0 || !strings.HasPrefix(help.out, version.out) {
		t.Errorf("ipvsadm -h: exit %d, %q", help.exit, help.err)
	}
	page := Manual(".Dd November 30, 2026")
	for _, s := range spellings {
		if !strings.Contains(help.out, "--"+s.long) {
			t.Errorf("ipvsadm -h does not mention --%s", s.long)
		}
		if !strings.Contains(page, "Fl -"+s.long) {
			t.Errorf("ipvsadm(8) does not mention --%s", s.long)
		}
		if s.short != 0 && !strings.Contains(help.out, "-"+string(s.short)) {
			t.Errorf("ipvsadm -h does not mention -%c", s.short)
		}
	}
}

// A drained server is listed with weight 0, and saved with the weight it gets back. One that
// is down keeps its weight.
func TestDrainedWeight(t *testing.T) {
	m := newMemory()
	m.must(t, "-A -t 10.9.0.1:80 -s rr", "-a -t 10.9.0.1:80 -r 192.168.1.3:80 -m -w 3",
		"-a -t 10.9.0.1:80 -r 192.168.1.4:80 -m -w 4")
	for i, v := range m.services[0].ServerStatuses {
		admin := map[int32]config.Admin{3: config.AdminDrain, 4: config.AdminDown}
		m.services[0].ServerStatuses[i].Admin = admin[v.Weight]
	}
	weights := func(line string, field int) (list string) {
		for text := range strings.Lines(m.do(line).out) {
			if words := strings.Fields(text); strings.Contains(text, "192.168.1.") {
				list += words[field] + " "
			}
		}
		return list
	}
	if listed, saved := weights("-L -n", 3), weights("-S -n", 7); listed != "0 4 " || saved != "3 4 " {
		t.Errorf("listed %s, saved %s", listed, saved)
	}
}
