package ipvsadm

import (
	"strings"
	"testing"
)

// hint and the others are outcomes of many rows.
var (
	ok   = outcome{}
	hint = outcome{255, "", "Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n"}
)

func usage(text string) outcome   { return outcome{2, "", text + "\n"} }
func refused(text string) outcome { return outcome{255, "", text + "\n"} }

// unquote splits a line on blanks; ” stands for an empty word.
func unquote(line string) []string {
	words := strings.Fields(line)
	for i, w := range words {
		words[i] = strings.ReplaceAll(w, "''", "")
	}
	return words
}

// TestGrammar runs command lines that mean the same in different forms.
func TestGrammar(t *testing.T) {
	const timeout = "invalid timeout value `%s' specified"
	with := func(value string) outcome { return usage(strings.Replace(timeout, "%s", value, 1)) }
	for _, tt := range []struct {
		line string
		want outcome
	}{
		// A persistence time in all forms.
		{"-A -t 10.9.0.9:80 -p 300", ok},
		{"-A -t 10.9.0.9:80 -p300", ok},
		{"-A -t 10.9.0.9:80 -p=300", ok},
		{"-A -t 10.9.0.9:80 --persistent=300", ok},
		{"-A -t 10.9.0.9:80 --persistent 300", ok},
		{"-A -t 10.9.0.9:80 -p -s rr", ok},
		{"-A -t 10.9.0.9:80 -p", ok},
		{"-A -t 10.9.0.9:80 -p --", ok},
		{"-A -t 10.9.0.9:80 -p ''", with("")},
		{"-A -t 10.9.0.9:80 -p=", with("")},
		{"-A -t 10.9.0.9:80 --persistent=", with("")},
		{"-A -u 10.9.0.9:80 -po 10", with("o")},
		{"-A -u 10.9.0.9:80 -op 10", ok},
		{"-A -t 10.9.0.9:80 -p -1", refused("-1: unknown option")},
		{"-A -t 10.9.0.9:80 -p -- 300", usage("unexpected argument 300")},
		{"-A -t 10.9.0.9:80 -p -", usage("unexpected argument -")},
		{"-A -t 10.9.0.9:80 -p 5 6", usage("unexpected argument 6")},
		{"-A 6 -t 10.9.0.9:80 -p 5", usage("unexpected argument 6")},

		// Joined options and attached values.
		{"-At 10.9.0.9:80 -swlc", ok},
		{"-At10.9.0.9:80", ok},
		{"-At=10.9.0.9:80", ok},
		{"-A --tcp-service=10.9.0.9:80", ok},
		{"-Atp 1.1.1.1:80 300", usage("illegal virtual server address[:port] specified")},
		{"-a -t 10.9.0.1:80 -r 10.0.0.2 -w -5", usage("illegal weight specified")},
		{"-a -t 10.9.0.1:80 -r 10.0.0.2 -w=5", ok},
		{"-A -t 10.9.0.9:80 -so rr", usage("unexpected argument rr")},
		{"-A -t 10.9.0.9:80 -s ''", ok},
		{"-A -t 10.9.0.9:80 --scheduler=", ok},
		{"-list", usage("Illegal 'scheduler' option with the 'list' command")},

		// Missing and unexpected values.
		{"-A -t", refused("-t: missing argument")},
		{"-A -t 10.9.0.9:80 -M", refused("-M: missing argument")},
		{"-A -t 10.9.0.9:80 --scheduler", refused("--scheduler: missing argument")},
		{"-a -t 10.9.0.1:80 -r 1.1.1.1 -mw", refused("-mw: missing argument")},
		{"-L --numeric=4", refused("--numeric=4: option does not take an argument")},
		{"-Ln=4", refused("-Ln=4: option does not take an argument")},

		// Words that are not options: there are no abbreviations.
		{"-L --bogus", refused("--bogus: unknown option")},
		{"-L --stat", refused("--stat: unknown option")},
		{"-Lq", refused("-Lq: unknown option")},
		{"-Sn --", outcome{0, "-A -t 10.9.0.1:80 -s wlc\n", ""}},
		{"-A -t 10.9.0.9:80 --=3", refused("--=3: unknown option")},
		{"-A -t 10.9.0.9:80 -=3", refused("-=3: unknown option")},
		{"-L -- -n", usage("unexpected argument -n")},
		{"-L -", usage("unexpected argument -")},

		// The command comes first, and there is only one.
		{"--bogus", hint},
		{"--add-serv -t 1.1.1.1:1", hint},
		{"-n -L", hint},
		{"-nL", hint},
		{"-6 -L", hint},
		{"-V", hint},
		{"-L=x", hint},
		{"--help=3", hint},
		{"--set=900 120 300", hint},
		{"--start-daemon", hint},
		{"--stop-daemon", hint},
		{"foo", hint},
		{"''", hint},
		{"-", hint},
		{"--", hint},
		{"-- -L", hint},
		{"foo -L", usage("unexpected argument foo")},
		{"-A -D -t 10.9.0.1:80", usage("invalid option `-D'")},
		{"-Ln -D", usage("invalid option `-D'")},
		{"-LL", usage("invalid option `-LL'")},
		{"-L --list", usage("invalid option `--list'")},
		{"-L -h", usage("invalid option `-h'")},
		{"-A --start-daemon", refused("--start-daemon: missing argument")},

		// --set takes three arguments, in any place.
		{"--set 900 120 300", ok},
		{"--set 0 0 0", ok},
		{"--set 900 -- 120 300", ok},
		{"--set", usage("--set option requires 3 timeout values")},
		{"--set 900", usage("--set option requires 3 timeout values")},
		{"--set x 120", usage("--set option requires 3 timeout values")},
		{"--set 900 x 300", with("x")},
		{"--set 2678401 1 300", with("2678401")},
		{"--set 900 120 300 4", usage("unexpected argument 4")},
		{"--set 900 -1 300", refused("-1: unknown option")},
		{"--set -n 900 120 300", usage("Illegal 'numeric' option with the 'set' command")},
	} {
		m := newMemory()
		m.must(t, "-A -t 10.9.0.1:80")
		if got := m.words(unquote(tt.line), ""); got != tt.want {
			t.Errorf("ipvsadm %s\n got %d %q %q\nwant %d %q %q", tt.line, got.exit, got.out, got.err, tt.want.exit,
				tt.want.out, tt.want.err)
		}
	}
}

// TestOptionsOfCommands has a row for each error of options that exclude each other.
func TestOptionsOfCommands(t *testing.T) {
	for line, want := range map[string]string{
		"-A": "You need to supply the 'service-address' option for the 'add-service' " +
			"command",
		"-D": "You need to supply the 'service-address' option for the " +
			"'delete-service' command",
		"-a -r 10.0.0.2": "You need to supply the 'service-address' option for the 'add-server' " +
			"command",
		"-a -t 10.9.0.1:80":               "You need to supply the 'real-server' option for the 'add-server' command",
		"-A -t 10.9.0.9:80 -w 3":          "Illegal 'weight' option with the 'add-service' command",
		"-A -t 10.9.0.9:80 -n":            "Illegal 'numeric' option with the 'add-service' command",
		"-E -t 10.9.0.9:80 --stats":       "Illegal 'stats' option with the 'edit-service' command",
		"-D -s rr -n":                     "Illegal 'numeric' option with the 'delete-service' command",
		"-C -n":                           "Illegal 'numeric' option with the 'flush' command",
		"-R -n":                           "Illegal 'numeric' option with the 'restore' command",
		"-S -X":                           "Illegal 'exact' option with the 'save' command",
		"-Z -n":                           "Illegal 'numeric' option with the 'zero' command",
		"-L -M 24":                        "Illegal 'netmask' option with the 'list' command",
		"-L -p":                           "Illegal 'persistent' option with the 'list' command",
		"-L --tun-type gue":               "Illegal 'tun-type' option with the 'list' command",
		"-L --timeout --rate -s rr":       "Illegal 'scheduler' option with the 'list' command",
		"-a -t 1.1.1.1:1 -r 2.2.2.2 -p":   "Illegal 'persistent' option with the 'add-server' command",
		"-d -t 1.1.1.1:1 -r 2.2.2.2 -w 1": "Illegal 'weight' option with the 'delete-server' command",
		"-d -t 1.1.1.1:1 -r 2.2.2.2 -m":   "Illegal 'forwarding-method' option with the 'delete-server' command",
		"--start-daemon backup -n":        "Illegal 'numeric' option with the 'start-daemon' command",
		"--stop-daemon backup --mcast-interface eth0": "Illegal 'mcast-interface' option with the 'stop-daemon' " +
			"command",
		"-L -t 1.1.1.1:1 -c": "The option 'service-address' conflicts with the " +
			"'connection' option in the 'list' command",
		"-L -c --timeout": "The option 'timeout' conflicts with the 'connection' " +
			"option in the 'list' command",
		"-L --timeout --daemon": "The option 'daemon' conflicts with the 'timeout' option in " +
			"the 'list' command",
		"-L -c --stats":                               "options conflicts in the list command",
		"-L --timeout --rate":                         "options conflicts in the list command",
		"-L --daemon --thresholds":                    "options conflicts in the list command",
		"-L --timeout --persistent-conn":              "options conflicts in the list command",
		"-A -t 1.1.1.1:1 -u 1.1.1.1:1":                "multiple 'service-address' options specified",
		"-A -t 1.1.1.1:1 -t bad":                      "multiple 'service-address' options specified",
		"-L -n -n":                                    "multiple 'numeric' options specified",
		"-A -f 1 -p 5 -p 6":                           "multiple 'persistent' options specified",
		"-A -f 1 --pe sip --pe sip":                   "multiple 'pe' options specified",
		"-A -f 1 -b flag-1 -b flag-2":                 "multiple 'sched-flags' options specified",
		"-a -w 1 -w x":                                "multiple 'weight' options specified",
		"-a -t 1.1.1.1:1 -r 2.2.2.2 -m -i":            "multiple 'forwarding-method' options specified",
		"-a -t 1.1.1.1:1 -r 2.2.2.2 -r 2.2.2.3":       "multiple 'real-server' options specified",
		"--start-daemon backup --syncid 3 --syncid 4": "multiple 'syncid' options specified",
		"-C -n foo":                                   "unexpected argument foo",
		"-A -b bad foo":                               "unexpected argument foo",
		"-C -b sh-port":                               "incompatible scheduler flag `sh-port'",
		"-L -6":                                       "-6 used before -f\n",
		"-A -6 -f 5":                                  "-6 used before -f\n",
		"-A -t [::1]:80 -6":                           "-6 used before -f\n",
		"-a -t 1.1.1.1:1 -r 2.2.2.2 --tun-type ipip":  "Tunnel options conflict with forward method",
		"-e -t 1.1.1.1:1 -r 2.2.2.2 -m --tun-csum":    "Tunnel options conflict with forward method",
		"-a -t 1.1.1.1:1 -r 2.2.2.2 -i --tun-type gue": "You need to supply the 'tun-port' option for the 'gue' " +
			"tunnel type",
		"-a -t 1.1.1.1:1 -r 2.2.2.2 -i --tun-port 5": "Illegal 'tun-port' " +
			"option with the 'ipip' tunnel type",
		"-a -t 1.1.1.1:1 -r 2.2.2.2 -i --tun-csum": "Illegal 'tun-csum' " +
			"option with the 'ipip' tunnel type",
		"-a -t 1.1.1.1:1 -r 2.2.2.2 -i --tun-type gre --tun-port 5": "Illegal 'tun-port' " +
			"option with the 'gre' tunnel type",
		"-a -t 1.1.1.1:1 -r 2.2.2.2 -i --tun-type gre --tun-remcsum": "Illegal 'tun-remcsum' option with the 'gre' " +
			"tunnel type",
		"-a -t 1.1.1.1:1 -r 2.2.2.2 -i --tun-type gre --tun-csum --tun-nocsum": "The option " +
			"'tun-csum' conflicts with the 'tun-nocsum' option in the 'gre' tunnel type",
		"-a -t 1.1.1.1:1 -r 2.2.2.2 -i --tun-type gue --tun-port 5 --tun-remcsum --tun-nocsum": "The option " +
			"'tun-remcsum' conflicts with the 'tun-nocsum' option in the 'gue' tunnel type",
		"-a -t 1.1.1.1:1 -r [2001:db8::1]:80 -m --tun-type gue": "Different address family is allowed only for " +
			"tunneling servers",
		"-a -f 3 -6 -r 10.0.0.2:99": "Different address family is allowed only for tunneling servers",
	} {
		newMemory().expect(t, line, usage(want))
	}
}

// TestValues has each value that is checked, at its limits and beyond.
func TestValues(t *testing.T) {
	const (
		server = "-a -t 1.1.1.1:80 -r 2.2.2.2 "
		daemon = "--start-daemon master "
	)
	for _, tt := range []struct {
		before    string // of the value
		good, bad []string
		complaint string // %s is the value
		after     string
	}{
		{
			"-A -f ",
			[]string{"1", "4294967295", "+7"},
			[]string{"0", "-1", "4294967296", "x", "0x10", "1x"},
			"invalid fwmark value `%s' specified", "",
		},
		{
			"-A -f 1 -p ",
			[]string{"1", "2678400", "010"},
			[]string{"0", "2678401", "0x10", "10x"},
			"invalid timeout value `%s' specified", "",
		},
		{
			"-A -t 1.1.1.1:1 -M ",
			[]string{"255.255.255.0", "24", "0.0.0.0", "0xffffff00"},
			[]string{"foo", "255.255.255.256", "1.2.3.4.5"},
			"illegal virtual server persistent mask specified", "",
		},
		{
			"-A -t [2001:db8::1]:1 -M ",
			[]string{"1", "128"},
			[]string{"0", "129", "-1", "64x", "255.255.255.0", "0x40"},
			"illegal ipv6 netmask specified", "",
		},
		{
			"-A -t 1.1.1.1:1 -s sh -b ",
			[]string{"sh-port", "sh-fallback,sh-port", "flag-3,flag-1", ",sh-port,,"},
			[]string{"foo", "SH-port"},
			"invalid scheduler flag `%s'", "",
		},
		{
			"-A -t 1.1.1.1:1 -s mh -b ",
			[]string{"mh-port,mh-fallback"},
			[]string{"sh-port"},
			"incompatible scheduler flag `%s'", "",
		},
		{
			server + "-w ",
			[]string{"0", "65536", "2147483647"},
			[]string{"2147483648", "300000000000", "-5", "test", "1.5"},
			"illegal weight specified", "",
		},
		{
			server + "-x ",
			[]string{"0", "2147483647"},
			[]string{"2147483648", "-1", "x"},
			"illegal u_threshold specified", "",
		},
		{
			server + "-x 2147483647 -y ",
			[]string{"0", "2147483647"},
			[]string{"2147483648", "-1", "x"},
			"illegal l_threshold specified", "",
		},
		{
			server + "-i --tun-type ",
			[]string{"gre", "ipip"},
			[]string{"foo", "IPIP"},
			"illegal tunnel type specified", "",
		},
		{
			server + "-i --tun-type gue --tun-port ",
			[]string{"1", "65535"},
			[]string{"0", "65536", "x"},
			"illegal tunnel port specified", "",
		},
		{
			"--start-daemon ", nil,
			[]string{"foo", "mast", "masterx", "''"},
			"illegal start-daemon parameter specified", "",
		},
		{"--stop-daemon ", nil, []string{"foo"}, "illegal start_daemon specified", ""},
		{daemon + "--syncid ", nil, []string{"256", "-1", "x"}, "illegal syncid specified", ""},
		{daemon + "--mcast-group ", nil, []string{"10.0.0.1", "foo", "224.0.0"}, "invalid IPv4 mcast-group `%s'", ""},
		{
			daemon + "--mcast-group ", nil,
			[]string{"2001:db8::1", "foo:", "[ff02::1]", "ff02::1%eth0"},
			"invalid IPv6 mcast-group `%s'", "",
		},
		{daemon + "--mcast-port ", nil, []string{"0", "65536"}, "illegal mcast-port specified", ""},
		{daemon + "--mcast-ttl ", nil, []string{"0", "256"}, "illegal mcast-ttl specified", ""},
		{daemon + "--sync-maxlen ", nil, []string{"0", "65508"}, "illegal sync-maxlen specified", ""},
		{
			"-A -t ",
			[]string{
				"1.2:80", "0x0a.1:80", "10.9.0.9:http", "10.9.0.9:cmd", "10.9.0.9:+80", "10.9.0.9:0120",
				"10.9.0.9:65535", "www.example:80", "80:80", "[2001:db8::1]:http", "[six.example]:80",
			},
			[]string{
				"80", "1080", "''", ":80", "10.9.0.9:", "10.9.0.9:65536", "10.9.0.9:-1", "10.9.0.9:x",
				"10.9.0.9:80x", "10.9.0.9:80:90", "256.1.1.1:80", "1.2.3.4.5:80", "no.example:80",
				"[2001:db8::1]", "[2001:db8::1]:", "[2001:db8::1", "[fe80::1%lo]:80", "[::ffff:1.2.3.4]:80",
				"[10.9.0.1]:80", "[localhost]:80", "10.9.0.9:0x50",
			},
			"illegal virtual server address[:port] specified", "",
		},
		{"-a -r ", []string{"10.0.0.2", "10.0.0.2:99", "10.0.0.2:0"}, []string{
			"80", "10.0.0.2:65536", "10.0.0.2:",
			"10.0.0.2:http",
		}, "illegal real server address[:port] specified", " -t 1.1.1.1:80 -m"},
		{
			"-A -t ", nil,
			[]string{"10.9.0.9", "10.9.0.9:0", "2001:db8::1", "2001:db8::1:80", "localhost", "1.2"},
			"Zero port specified for non-persistent service", "",
		},
		{
			"-A ",
			[]string{"-u 10.9.0.9:53", "-f 1"},
			[]string{"-t 10.9.0.9:53", "--sctp-service 10.9.0.9:53"},
			"One-Packet Scheduling is only for UDP virtual services", " -o",
		},
	} {
		try := func(value string, want outcome) {
			m := newMemory()
			if !strings.HasPrefix(tt.before, "-A") {
				m.must(t, "-A -t 1.1.1.1:80")
			}
			line := tt.before + value + tt.after
			if got := m.words(unquote(line), ""); got != want {
				t.Errorf("ipvsadm %s\n got %+v\nwant %+v", line, got, want)
			}
		}
		for _, value := range tt.good {
			try(value, ok)
		}
		for _, value := range tt.bad {
			try(value, usage(strings.Replace(tt.complaint, "%s", value, 1)))
		}
	}
}
