package ipvsadm

import (
	"regexp"
	"strings"
	"testing"

	"uvs/ctl/config"
)

// TestSession is a long session like those of the ipvsts suite: commands with their exit
// codes, including errors and duplicates.
func TestSession(t *testing.T) {
	m := newMemory()
	for _, tt := range []struct {
		exit int
		line string
	}{
		// Services.
		{0, "-C"},
		{0, ""},
		{2, "-A"},
		{255, "-A -t"},
		{2, "-A -s rr"},
		{2, "-A -t 192.168.0.1"},
		{2, "-A -t 192.168.0.1:port"},
		{2, "-A -t 192.168.0.300:80"},
		{255, "-A -t 192.168.0.1:80 -s"},
		{255, "-A -t 192.168.0.1:80 -s bogus"},
		{2, "-A -t 192.168.0.1:80 -r 10.0.0.1"},
		{2, "-A -t 192.168.0.1:80 -m"},
		{0, "-A -t 192.168.0.1:80"},
		{255, "-A -t 192.168.0.1:80"},
		{255, "-A -t 192.168.0.1:80 -s rr"},
		{0, "-A -u 192.168.0.1:80 -s rr"},
		{0, "-A -t 192.168.0.1:81 -s wrr -p"},
		{0, "-A -t 192.168.0.1:0 -s wrr -p 100 -M 255.255.0.0"},
		{2, "-A -t 192.168.0.2:80 -p test"},
		{2, "-A -t 192.168.0.2:80 -p 100 -M test"},
		{2, "-A -t 192.168.0.2:80 -o"},
		{0, "-A -u 192.168.0.2:53 -o"},
		{0, "-A -t [fc00::1]:80"},
		{255, "-A -t [fc00::1]:80"},
		{2, "-A -t [fc00::1] -p"},
		{0, "-A -f 1"},
		{0, "-A -f 1 -6"},
		{255, "-A -f 1 -6"},
		{2, "-A -6 -f 2"},
		{2, "-A -f test"},

		{2, "-E"},
		{255, "-E -t 192.168.0.9:80 -s rr"},
		{255, "-E -t 192.168.0.1:80 -s bogus"},
		{0, "-E -t 192.168.0.1:80 -s rr -p 10"},
		{0, "-E -t 192.168.0.1:80"},
		{0, "-E -f 1 -6 -s lc"},

		// Servers.
		{2, "-a"},
		{2, "-a -t 192.168.0.1:80"},
		{2, "-a -r 10.0.0.1"},
		{255, "-a -t 192.168.0.1:80 -r"},
		{255, "-a -t 192.168.0.9:80 -r 10.0.0.1"},
		{0, "-a -t 192.168.0.1:80 -r 10.0.0.1"},
		{255, "-a -t 192.168.0.1:80 -r 10.0.0.1"},
		{255, "-a -t 192.168.0.1:80 -r 10.0.0.1:81"}, // DR has the service's port
		{0, "-a -t 192.168.0.1:80 -r 10.0.0.1:81 -m"},
		{2, "-a -t 192.168.0.1:80 -r 10.0.0.2 -w test"},
		{255, "-a -t 192.168.0.1:80 -r 10.0.0.2 -w"},
		{2, "-a -t 192.168.0.1:80 -r 10.0.0.2 -x test"},
		{2, "-a -t 192.168.0.1:80 -r 10.0.0.2 -y test"},
		{255, "-a -t 192.168.0.1:80 -r 10.0.0.2 -x 1 -y 2"},
		{2, "-a -t 192.168.0.1:80 -r 10.0.0.2 -g -i"},
		{2, "-a -t 192.168.0.1:80 -r 10.0.0.2:bogus"},
		{2, "-a -t 192.168.0.1:80 -r 255.255.255.999:80"},
		{255, "-a -t 192.168.0.1:80 -r 255.255.255.255:80"},
		{0, "-a -t 192.168.0.1:80 -r 10.0.0.2 -i -w 0 -x 20 -y 10"},
		{2, "-a -t [fc00::1]:80 -r 10.0.0.1"},
		{0, "-a -t [fc00::1]:80 -r [fc00::2]:80"},
		{0, "-a -f 1 -r 10.0.0.1"},
		{2, "-a -f 1 -6 -r 10.0.0.1"},

		{2, "-e -t 192.168.0.1:80"},
		{255, "-e -t 192.168.0.1:80 -r 10.0.0.9"},
		{255, "-e -t 192.168.0.9:80 -r 10.0.0.1"},
		{0, "-e -t 192.168.0.1:80 -r 10.0.0.2 -w 5"},
		{2, "-e -t 192.168.0.1:80 -r 10.0.0.2 -w test"},

		{2, "-d -t 192.168.0.1:80"},
		{255, "-d -t 192.168.0.1:80 -r 10.0.0.9"},
		{255, "-d -t 192.168.0.1:80 -r 10.0.0.1:82"},
		{0, "-d -t 192.168.0.1:80 -r 10.0.0.1:81"},
		{255, "-d -t 192.168.0.1:80 -r 10.0.0.1:81"},

		// Other commands.
		{0, "-L"},
		{0, "-Ln"},
		{0, "-Lc"},
		{0, "-L --timeout"},
		{0, "-L --daemon"},
		{0, "-L --stats"},
		{0, "-L --rate"},
		{0, "-L -t 192.168.0.1:80"},
		{1, "-L -t 192.168.0.9:80"},
		{2, "-L -s rr"},
		{2, "--set"},
		{2, "--set 1"},
		{2, "--set 1 2"},
		{2, "--set 1 2 3 4"},
		{0, "--set 1 2 3"},
		{2, "--set a b c"},
		{0, "-Z"},
		{0, "-Z -t 192.168.0.1:80"},
		{255, "-Z -t 192.168.0.9:80"},
		{255, "--start-daemon"},
		{2, "--start-daemon bogus"},
		{255, "--start-daemon master"},
		{255, "--start-daemon master"},
		{255, "--stop-daemon"},
		{2, "--stop-daemon bogus"},
		{255, "--stop-daemon master"},
		{2, "-D"},
		{255, "-D -t 192.168.0.9:80"},
		{0, "-D -t 192.168.0.1:80"},
		{255, "-D -t 192.168.0.1:80"},
		{2, "-D -f 1 -s rr"},
		{0, "-D -f 1"},
		{0, "-D -f 1 -6"},
		{255, "-D -f 1"},
		{2, "-C -t 192.168.0.1:80"},
		{0, "-S"},
		{0, "-C"},
	} {
		if got := m.do(tt.line); got.exit != tt.exit {
			t.Errorf("ipvsadm %s: exit %d (%s), want %d", tt.line, got.exit, strings.TrimSpace(got.err), tt.exit)
		}
	}
	if len(m.services) != 0 || m.timeouts != (config.Timeouts{TCP: 1, TCPFin: 2, UDP: 3}) {
		t.Errorf("left behind: %v, %v", m.services, m.timeouts)
	}
}

// TestEditReplaces: an edit resets what it does not give.
func TestEditReplaces(t *testing.T) {
	m := newMemory()
	m.must(t,
		"-A -u 10.9.0.1:53 -s sh -b sh-port -p 5 -M 255.0.0.0 --pe sip -o",
		"-a -u 10.9.0.1:53 -r 10.0.0.1 -i --tun-type gre --tun-csum -w 7 -x 9 -y 8",
		"-e -u 10.9.0.1:53 -r 10.0.0.1",
		"-E -u 10.9.0.1:53")
	m.expect(t, "-S -n", outcome{0, "-A -u 10.9.0.1:53 -s wlc\n-a -u 10.9.0.1:53 -r 10.0.0.1:53 -g -w 1\n", ""})
}

// TestLdirectord runs the calls of a trace of ldirectord, and parses the listings as it does:
// it skips three lines and matches the others.
func TestLdirectord(t *testing.T) {
	m := newMemory()
	m.must(t,
		"-A -t 10.9.0.1:80 -s wlc -p 600 -M 255.255.255.0",
		"-E -t 10.9.0.1:80 -s wlc -p 600 -M 255.255.255.0",
		"-A -u 10.9.0.1:53 -o -s rr",
		"-A -f 7 -s sh",
		"-A -f 7 -6 -s rr",
		"-A -t [::5]:8080 -s mh -b mh-port,mh-fallback",
		"-a -t 10.9.0.1:80 -x 20 -y 10 -r 10.0.0.1:80 -g -w 1",
		"-a -t 10.9.0.1:80 -x 0 -y 0 -r 10.0.0.2:8080 -m -w 5",
		"-e -t 10.9.0.1:80 -x 20 -y 10 -r 10.0.0.1:80 -i -w 3",
		"-a -f 7 -r 127.0.0.1:0 -g -w 1",
		"-e -t 10.9.0.1:80 -r 10.0.0.2:8080 -m -w 0",
	)
	var (
		service    = regexp.MustCompile(`^(\w+)\s+(\d+\.\d+\.\d+\.\d+:\d+|\[[0-9a-f:]+\]:\d+|\d+)( IPv6)?\s+(\w+)( persistent (\d+))?( mask (\S+))?`)
		server     = regexp.MustCompile(`^  ->\s+(\S+:\d+)\s+(Route|Tunnel|Masq)\s+(\d+)`)
		thresholds = regexp.MustCompile(`^  ->\s+(\S+:\d+)\s+(\d+)\s+(\d+)\s+(\d+)`)
	)
	read := func(line string, server *regexp.Regexp) (found []string) {
		for _, l := range strings.Split(strings.TrimSuffix(m.do(line).out, "\n"), "\n")[3:] {
			match := server.FindStringSubmatch(l)
			if match == nil {
				match = service.FindStringSubmatch(l)
			}
			if match == nil {
				t.Fatalf("ipvsadm %s: nothing ldirectord knows: %q", line, l)
			}
			found = append(found, strings.Join(match[1:], "/"))
		}
		return found
	}
	for _, tt := range []struct {
		line   string
		server *regexp.Regexp
		want   string
	}{
		{"-L -n", server, `TCP/10.9.0.1:80//wlc/ persistent 600/600/ mask 255.255.255.0/255.255.255.0
10.0.0.1:80/Tunnel/3
10.0.0.2:8080/Masq/0
UDP/10.9.0.1:53//rr////
TCP/[::5]:8080//mh////
FWM/7//sh////
127.0.0.1:0/Route/1
FWM/7/ IPv6/rr////`},
		{"-L -n --thresholds", thresholds, `TCP/10.9.0.1:80//wlc/ persistent 600/600/ mask 255.255.255.0/255.255.255.0
10.0.0.1:80/20/10/0
10.0.0.2:8080/0/0/0
UDP/10.9.0.1:53//rr////
TCP/[::5]:8080//mh////
FWM/7//sh////
127.0.0.1:0/0/0/0
FWM/7/ IPv6/rr////`},
	} {
		if got := strings.Join(read(tt.line, tt.server), "\n"); got != tt.want {
			t.Errorf("ipvsadm %s\n got\n%s\nwant\n%s", tt.line, got, tt.want)
		}
	}
	m.must(t, "-d -t 10.9.0.1:80 -r 10.0.0.1:80", "-D -t 10.9.0.1:80", "-D -f 7", "-D -f 7 -6", "-D -u 10.9.0.1:53",
		"-D -t [::5]:8080")
}

// TestMonAlerts runs the calls of mon's ipvs.alert, and counts the lines of a service's listing
// as its ipvs.monitor does.
func TestMonAlerts(t *testing.T) {
	m := newMemory()
	m.must(t, "-A -t 10.9.0.1:80 -s wrr", "-a -t 10.9.0.1:80 -r 10.0.0.1 -w 3 -m",
		"-a -m -t 10.9.0.1:80 -r 10.0.0.2:80")
	if got := m.do("-l -t 10.9.0.1:80"); strings.Count(got.out, "\n") != 5 {
		t.Errorf("two titles, a service and two servers expected:\n%s", got.out)
	}
	m.must(t, "-d -t 10.9.0.1:80 -r 10.0.0.1", "-D -t 10.9.0.1:80")
}
