package ctl

import (
	"net/netip"
	"testing"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/helper/sip"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// Messages of clients and servers of a service of SIP calls make templates. Listings show
// their Call-ID and the client's address or, if the call is not known, a part of the hash.
func TestCallsAreListed(t *testing.T) {
	w := newFixture(t, 1)
	phones := &config.Service{
		ServiceKey: key(wire.ProtoUDP, "10.9.0.1:5060"), Scheduler: "rr", Persist: 30,
		PE: "sip",
	}
	phone := config.Server{
		ServerKey: config.ServerKey{Addr: testServer(0), Port: 5060}, Method: config.MethodNAT,
		Weight: 1,
	}
	w.must(config.Op{Kind: config.AddService, Service: phones},
		config.Op{Kind: config.AddServer, Service: phones, Server: &phone})
	message := wiretest.Packet{
		Src: "10.1.0.2:5060", Dst: "10.9.0.1:5060", Proto: wire.ProtoUDP,
		Payload: []byte("BYE sip:x SIP/2.0\r\nCall-ID: a@x\r\n\r\n"),
	}
	if got := w.exchange(0, message); phone.Addr != server(got) {
		t.Fatalf("sent % x", got)
	}
	out := wiretest.Packet{
		Src: phone.ServerKey.String(), Dst: "10.1.0.2:6000", Proto: wire.ProtoUDP,
		Payload: []byte("BYE sip:x SIP/2.0\r\ni: b@x\r\n\r\n"),
	}
	if got := w.exchange(1, out); got == nil || netip.AddrFrom4([4]byte(got[26:30])) != phones.Addr {
		t.Errorf("a server's call left as % x", got)
	}
	listed := func() (list map[string]api.ConnStatus) {
		list = map[string]api.ConnStatus{}
		w.Conns(api.ConnFilter{}, func(c api.ConnStatus) error {
			if c.PEName != "" {
				list[c.PEData] = c
			}
			return nil
		})
		return list
	}
	list := listed()
	for _, call := range []string{"a@x", "b@x"} {
		c := list[call]
		if c.PEName != "sip" || c.Client != netip.MustParseAddrPort("10.1.0.2:0") ||
			c.Virtual != netip.MustParseAddrPort("10.9.0.1:5060") || c.Server.Addr() != phone.Addr {
			t.Errorf("call %s is listed as %+v", call, c)
		}
	}
	w.runtime.SIPCalls = new(sip.Calls)
	for data, c := range listed() {
		if data[0] != '?' || c.Client != netip.MustParseAddrPort("0.0.0.0:0") || c.PEName != "sip" {
			t.Errorf("an unknown call is listed as %+v", c)
		}
	}
	// An engine without persistence has no effect, as in IPVS.
	phones.Persist = 0
	w.must(config.Op{Kind: config.EditService, Service: phones})
	end := director.Endpoint{Addr: wire.AddrFrom(phones.Addr), Port: 5060, Proto: wire.ProtoUDP}
	table := w.plane.table()
	if svc, _ := table.Services.Get(end); len(table.ReplyServices) != 0 || svc.SIPCalls != nil {
		t.Error("calls are held without persistence")
	}
}
