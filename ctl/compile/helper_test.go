package compile

import (
	"net/netip"
	"slices"
	"testing"

	"uvs/ctl/config"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
)

// Which connections get a helper, by default and by setting.
func TestHelper(t *testing.T) {
	at := func(proto config.Proto, port uint16) config.ServiceKey {
		return config.ServiceKey{Proto: proto, Addr: netip.MustParseAddr("10.9.0.1"), Port: port}
	}
	mark := config.ServiceKey{FWMark: 5}
	tcp, udp := config.Proto(wire.ProtoTCP), config.Proto(wire.ProtoUDP)
	for _, row := range []struct {
		say    string
		key    config.ServiceKey
		method config.Method
		own    config.Values
		rules  []config.PortRange
		want   []helper.Port
	}{
		{"NAT at port 21", at(tcp, 21), config.MethodNAT, nil, nil, []helper.Port{{Helper: helper.FTP, Port: 21}}},
		{"direct routing at port 21", at(tcp, 21), config.MethodDR, nil, nil, nil},
		{"NAT at port 21, switched off", at(tcp, 21), config.MethodNAT, config.Values{"ftp": helper.Off}, nil, nil},
		{"NAT at another port", at(tcp, 2021), config.MethodNAT, nil, nil, nil},
		{
			"NAT at another port, switched on", at(tcp, 2021), config.MethodNAT,
			config.Values{"ftp": helper.On},
			nil,
			[]helper.Port{{Helper: helper.FTP, Port: 2021}},
		},
		{"UDP port 21", at(udp, 21), config.MethodNAT, nil, nil, nil},
		{"TFTP", at(udp, 69), config.MethodNAT, nil, nil, []helper.Port{{Helper: helper.TFTP, Port: 69}}},
		{"a mark with port 21", mark, config.MethodNAT, nil, []config.PortRange{
			{First: 21, Last: 21},
			{First: 2021, Last: 2021},
		}, []helper.Port{{Helper: helper.FTP, Port: 21}}},
		{
			"a mark, switched on", mark, config.MethodNAT,
			config.Values{"ftp": helper.On},
			[]config.PortRange{{First: 21, Last: 21}, {First: 2021, Last: 2021}, {First: 50000, Last: 51000}},
			[]helper.Port{{Helper: helper.FTP, Port: 21}, {Helper: helper.FTP, Port: 2021}},
		},
	} {
		s := config.State{
			Services: []*config.Service{{
				ServiceKey: row.key, Settings: row.own, Servers: []config.Server{{Method: row.method}},
			}},
		}
		if row.rules != nil {
			s.Marks = []config.MarkRule{{
				Dst: netip.MustParsePrefix("10.9.0.1/32"), Proto: tcp, DstPorts: row.rules,
				Mark: 5,
			}}
		}
		var got []helper.Port
		if h := compileHelper(&s, s.Services[0]); h != nil {
			got = h.Ports
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: helped are %v, want %v", row.say, got, row.want)
		}
	}
}
