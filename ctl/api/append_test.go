package api

import (
	"net/netip"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"uvs/ctl/config"
	"uvs/fwd/tunnel"
)

// AppendJSON writes what json.Marshal writes.
func TestAppendJSON(t *testing.T) {
	server := ServerStatus{
		Server: config.Server{
			ServerKey: config.ServerKey{Addr: netip.MustParseAddr("fe80::1%eth0"), Port: 8080},
			Method:    config.MethodTunnel, Weight: -3, Upper: 7, Admin: config.AdminDrain,
			Tunnel: config.Tunnel{Type: tunnel.GUE, Port: 6080, Checksum: 1},
		},
		Active: 1, Persist: 1 << 31, Stats: Stats{Conns: 1 << 63, OutBPS: 10}, State: "up", NextHop: "a \"<b>\n\u2028",
		Path: PathStatus{MTU: 1500, By: netip.MustParseAddr("10.0.0.1"), Split: 1},
	}
	service := config.Service{
		ServiceKey: config.ServiceKey{Addr: netip.MustParseAddr("192.0.2.1"), Port: 80, Proto: 6}, Scheduler: "mh",
		SchedFlags: 3, Persist: 300, Netmask: config.Mask4(0xffffff00), PE: "sip", OPS: true,
		Settings: config.Values{"tcp_established": 900, "conn_reuse_mode": 1}, Servers: []config.Server{server.Server},
	}
	for _, v := range []any{
		&ServerStatus{}, &ServiceStatus{}, &server, server,
		[]ServerStatus{},
		&[]ServerStatus{server, {}},
		&ServiceStatus{
			Service: service, Revision: 7, Stats: server.Stats,
			ServerStatuses: []ServerStatus{{}, server}, Sorry: &server,
		},
		ServiceStatus{Service: config.Service{ServiceKey: config.ServiceKey{FWMark: 1, IPv6: true}}},
		&ConnStatus{Proto: 17, Expires: 7, Client: netip.MustParseAddrPort("[::1]:1"), Live: true, PEData: "x"},
		&service, "text",
		map[string]any{"b": 1, "a": []int{2}},
		&struct{}{},
	} {
		for indent := -1; indent < 5; indent++ {
			options := []json.Options{json.Deterministic(true)}
			if indent >= 0 {
				options = append(options, jsontext.WithIndent("  "), jsontext.WithIndentPrefix("    "[:indent]))
			}
			want, err := json.Marshal(v, options...)
			if err != nil {
				t.Fatal(err)
			}
			if got := AppendJSON([]byte("before"), v, indent); string(got) != "before"+string(want) {
				t.Errorf("%T, indent %d:\n%s\nwant\n%s", v, indent, got, want)
			}
		}
	}
}
