package config

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"uvs/fwd/tunnel"
)

// TestWords: a service and a rule are words in JSON and come back as they were.
func TestWords(t *testing.T) {
	for _, row := range []struct {
		value any
		text  string
	}{
		{
			&Service{
				ServiceKey: key(6, "10.9.0.1:80"), Scheduler: "sh", SchedFlags: 0x30,
				Persist: 300, Netmask: Mask4(0xffffff00),
				Servers: []Server{{
					ServerKey: ServerKey{Addr: netip.MustParseAddr("10.0.0.2"), Port: 8080},
					Method:    MethodTunnel, Weight: 3, Upper: 10, Lower: 5,
					Tunnel: Tunnel{Type: tunnel.GUE, Port: 6080, Checksum: tunnel.Csum},
				}},
			},
			`{"address":"10.9.0.1","port":80,"protocol":"tcp","scheduler":"sh","scheduler_flags":["port","flag-3"],` +
				`"persistent":"300s","netmask":"255.255.255.0","servers":[{"address":"10.0.0.2","port":8080,` +
				`"method":"tunnel","weight":3,"upper_threshold":10,"lower_threshold":5,` +
				`"tunnel":{"type":"gue","port":6080,"checksum":"csum"},"admin":"up"}]}`,
		},
		{
			&Service{
				ServiceKey: ServiceKey{FWMark: 7, IPv6: true}, Scheduler: "wlc", Persist: 1, Netmask: PrefixLen6(64),
				PE: EngineSIP, OPS: true,
			},
			`{"mark":7,"ipv6":true,"scheduler":"wlc","persistent":"1s","netmask":"64","persistence_engine":"sip",` +
				`"one_packet":true}`,
		},
		{
			&MarkRule{
				Dst: netip.MustParsePrefix("192.0.2.0/24"), Proto: 17, Interface: "eth0", Mark: 7,
				DstPorts: Ports{{First: 80, Last: 80}, {First: 100, Last: 200}},
			},
			`{"destination":"192.0.2.0/24","protocol":"udp","destination_ports":[80,"100:200"],"interface":"eth0","mark":7}`,
		},
	} {
		text, err := json.Marshal(row.value)
		if err != nil || string(text) != row.text {
			t.Errorf("%s, %v\nwant\n%s", text, err, row.text)
		}
		var back any = &Service{}
		if _, ok := row.value.(*MarkRule); ok {
			back = &MarkRule{}
		}
		if err := json.Unmarshal(text, back); err != nil || !reflect.DeepEqual(back, row.value) {
			t.Errorf("%s comes back as %+v, %v", text, back, err)
		}
	}
}

// TestOtherWords: what people may write besides the words that are listed.
func TestOtherWords(t *testing.T) {
	var s Service
	var server Server
	var rule MarkRule
	for text, into := range map[string]any{
		`{"persistent":"5m","netmask":64,"scheduler_flags":["sh-port"]}`: &s,
		`{"method":"masq"}`:                                  &server,
		`{"destination_ports":"80","mark":1}`:                &rule,
		`{"protocol":"17","destination_ports":[ 1, "7:9" ]}`: &MarkRule{},
	} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if s.Persist != 300 || s.Netmask != PrefixLen6(64) || s.SchedFlags != 0x10 || server.Method != MethodNAT ||
		len(rule.DstPorts) != 1 {
		t.Errorf("%+v %+v %+v", s, server, rule)
	}
}

// TestWrongWords: an error names the value and what would be right.
func TestWrongWords(t *testing.T) {
	for text, want := range map[string]string{
		`{"protocol":"icmpx"}`:                      `protocol "icmpx" is not known; services are of tcp, udp and sctp`,
		`{"persistent":300}`:                        `300 is not a time with its unit, such as 300s or 5m`,
		`{"persistent":"1500ms"}`:                   `1500ms is not a number of whole seconds`,
		`{"persistent":"-1s"}`:                      `-1s is not a number of whole seconds`,
		`{"netmask":"255.255.255"}`:                 `netmask 255.255.255 is neither a mask for IPv4`,
		`{"netmask":129}`:                           `netmask 129 is neither`,
		`{"scheduler_flags":"port"}`:                `scheduler flags "port" are no list of words`,
		`{"scheduler_flags":["sh"]}`:                `scheduler flag "sh" is not fallback, port or flag-3`,
		`{"servers":[{"method":"-m"}]}`:             `forwarding method "-m" is not nat, dr or tunnel`,
		`{"servers":[{"tunnel":{"type":"l2tp"}}]}`:  `tunnel type is "l2tp"; want ipip, gue or gre`,
		`{"servers":[{"tunnel":{"checksum":"x"}}]}`: `tunnel checksum "x" is not none, csum or remcsum`,
	} {
		var s Service
		err := json.Unmarshal([]byte(text), &s)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	var r MarkRule
	if err := json.Unmarshal([]byte(`{"source_ports":[80,"http"]}`), &r); err == nil || !strings.Contains(err.Error(),
		`"http" is not a port or a range`) {
		t.Error(err)
	}
}
