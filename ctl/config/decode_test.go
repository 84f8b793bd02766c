package config

import "testing"

// TestDecode: what is wrong with a text, and where.
func TestDecode(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{`{"services":[{"address":"10.9.0.1","port":80,"protocol":"tcp"}]}`, ""},
		{
			`{"services":[{"address":"10.9.0.1","prot":80}]}`,
			`services[0].prot: prot is not known here; did you mean port?`,
		},
		{
			`{"services":[{"scheduler":"rr","weights":1}]}`,
			`services[0].weights: weights is not known here; there are address, port, protocol, mark, ipv6, ` +
				`scheduler, scheduler_flags, persistent, netmask, persistence_engine, one_packet, settings, sorry, servers`,
		},
		{`{"services":[{"port":80000}]}`, `services[0].port: 80000 is not a whole number from 0 to 65535`},
		{`{"services":[{"port":"http"}]}`, `services[0].port: "http" is not a whole number from 0 to 65535`},
		{`{"services":[{"port":8.5}]}`, `services[0].port: 8.5 is not a whole number from 0 to 65535`},
		{
			`{"services":[{"servers":[{},{"weight":1e99}]}]}`,
			`services[0].servers[1].weight: 1e99 is not a whole number from -2147483648 to 2147483647`,
		},
		{`{"services":[{"address":"10.9.0.256"}]}`, `services[0].address: "10.9.0.256" is not an IP address`},
		{`{"services":[{"address":7}]}`, `services[0].address: 7 is not an IP address`},
		{`{"services":[{"one_packet":"yes"}]}`, `services[0].one_packet: "yes" is not true or false`},
		{
			`{"services":[{"protocol":"icmpx"}]}`,
			`services[0].protocol: protocol "icmpx" is not known; services are of tcp, udp and sctp`,
		},
		{`{"services":[{"protocol":6}]}`, `services[0].protocol: 6 is not a text`},
		{
			`{"services":[{"persistent":300}]}`,
			`services[0].persistent: 300 is not a time with its unit, such as 300s or 5m`,
		},
		{`{"marks":[{"destination":"192.0.2.1"},{"source":"2001:db8::/32"}]}`, ""},
		{`{"marks":[{"source":"web"}]}`, `marks[0].source: "web" is not an address or a net such as 192.0.2.0/24`},
		{`{"services":{"address":"10.9.0.1"}}`, `services: an object is not a list`},
		{`{"services":[1]}`, `services[0]: 1 is not an object (NAME: VALUE)`},
		{`{"services":[{"port":80,"port":81}]}`, `services[0].port: port is given twice`},
		{`{"settings":{"mss_clamp":"x"}}`, `settings.mss_clamp: setting mss_clamp: "x" is not 0, 1, or 48 to 65495`},
		{`{"settings":{"mss_clam":1}}`, "settings.mss_clam: there is no setting \"mss_clam\"; `uvs get` lists them"},
		{`{"services":[`, `services: this is not JSON: byte 13: unexpected EOF`},
		{`{"services":[}`, `services[0]: this is not JSON: byte 13: invalid character '}' at start of value`},
		{`services`, `this is not JSON: byte 0: invalid character 's' at start of value`},
		{``, `this is not JSON: byte 0: unexpected EOF`},
		{`{} {}`, `this is not JSON: byte 3: invalid character '{' after top-level value`},
	} {
		var doc struct {
			Services []Service  `json:"services"`
			Settings Values     `json:"settings"`
			Marks    []MarkRule `json:"marks"`
		}
		err := Decode([]byte(row.text), &doc)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("%s\n%s\nwant\n%s", row.text, got, row.want)
		}
	}
}

// What a wrong name may mean.
func TestNearest(t *testing.T) {
	known := []string{"list", "edit", "delete", "interface", "scheduler", "wait"}
	for name, want := range map[string]string{
		"lsit": "list", "lst": "list", "edti": "edit", "delet": "delete", "interfaces": "interface", "s": "scheduler",
		"sched": "scheduler", "schedular": "scheduler", "nat": "", "set": "", "": "", "restore": "",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
