package ctl

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// A path MTU that a router reports for a tunnel is used for all servers with the address,
// across tables, until the last of them is released. `uvs paths` shows who reported it.
func TestPathOutlivesTables(t *testing.T) {
	w := newFixture(t, 1)
	server := config.Server{
		ServerKey: config.ServerKey{Addr: testServer(0), Port: 80}, Method: config.MethodTunnel,
		Weight: 1,
	}
	w.must(add("10.9.0.1:80", "rr"), with("10.9.0.1:80", server), add("10.9.0.2:80", "rr"), with("10.9.0.2:80", server))
	long := wiretest.Packet{
		Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPSyn, DF: true,
		Payload: make([]byte, 1400),
	}
	sent := wiretest.Frame(w.exchange(0, long))
	report := wiretest.Packet{
		Src: "10.2.255.254", Dst: "10.2.255.1", Proto: wire.ProtoICMP, ICMPType: 3, ICMPCode: 4,
		ICMPRest: 1400, Payload: wiretest.Quote(sent, 100),
	}
	if w.exchange(1, report) == nil {
		t.Fatal("the client is told nothing")
	}
	w.must(edited("10.9.0.1:80", config.Server{ServerKey: server.ServerKey, Method: config.MethodTunnel, Weight: 2}))
	told := w.exchange(0, long)
	if told == nil || wire.Ethernet(told).Dst() != wiretest.ClientMAC {
		t.Error("after another table, the same packet is sent again")
	}
	for i, s := range w.Services() {
		p := s.ServerStatuses[0].Path
		want := api.PathStatus{
			Interface: "eth1", MTU: 1500, Learned: 1400, By: netip.MustParseAddr("10.2.255.254"),
			Seconds: p.Seconds, TooBig: uint64(1 - i),
		}
		if p != want || p.Seconds < 500 || p.Seconds > 600 {
			t.Errorf("service %d: %+v, want %+v", i, p, want)
		}
	}
	w.must(config.Op{Kind: config.Zero})
	if n := w.Services()[0].ServerStatuses[0].Path.TooBig; n != 0 {
		t.Errorf("zeroed, %d packets were too big", n)
	}

	w.must(without("10.9.0.1:80", server))
	w.runtime.Release([]uint32{w.runtime.Server(key(wire.ProtoTCP, "10.9.0.1:80"), server.ServerKey).ID})
	if len(w.runtime.Paths) != 1 {
		t.Error("the path was forgotten while a server has it")
	}
	w.must(without("10.9.0.2:80", server))
	w.runtime.Release([]uint32{w.runtime.Server(key(wire.ProtoTCP, "10.9.0.2:80"), server.ServerKey).ID})
	if len(w.runtime.Paths) != 0 {
		t.Error("the path is remembered without a server that has it")
	}
}

// With pmtu_disc 0 a service's tunnels fragment packets with DF.
func TestPathMTUDiscovery(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add("10.9.0.1:80", "rr"),
		with("10.9.0.1:80", config.Server{
			ServerKey: config.ServerKey{Addr: testServer(0), Port: 80},
			Method:    config.MethodTunnel, Weight: 1,
		}))
	long := wiretest.Packet{
		Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPSyn, DF: true,
		Payload: make([]byte, 1460),
	}
	for _, discover := range []uint32{1, 0, 1} {
		own := key(wire.ProtoTCP, "10.9.0.1:80")
		w.must(config.Op{
			Kind: config.SetSettings, Service: &config.Service{ServiceKey: own},
			Settings: config.Values{"pmtu_disc": discover},
		})
		out := w.exchange(0, long)
		if told := wire.Ethernet(out).Dst() == wiretest.ClientMAC; told != (discover == 1) {
			t.Errorf("pmtu_disc %d: the client is told: %t", discover, told)
		}
	}
}

// mss_clamp applies to a service's servers; values that are not an MSS are refused.
func TestMSSClamp(t *testing.T) {
	w := newWebFixture(t, "rr")
	mss := func() (all []uint16) {
		for id := 1; id < len(w.runtime.Servers); id++ {
			all = append(all, w.plane.table().Servers.Get(uint32(id)).MSS)
		}
		return all
	}
	w.must(config.Op{Kind: config.SetSettings, Settings: config.Values{"mss_clamp": director.AutoMSS}})
	if got := mss(); !slices.Equal(got, []uint16{director.AutoMSS, director.AutoMSS}) {
		t.Errorf("the director's: %v", got)
	}
	w.setSetting("mss_clamp", 1200)
	if got := mss(); !slices.Equal(got, []uint16{1200, 1200}) {
		t.Errorf("the service's own: %v", got)
	}
	w.setSetting("mss_clamp", 0)
	if got := mss(); !slices.Equal(got, []uint16{0, 0}) {
		t.Errorf("off for the service: %v", got)
	}
	for _, v := range []uint32{2, 47, 65496, 1 << 30} {
		err := w.Apply(config.Op{Kind: config.SetSettings, Settings: config.Values{"mss_clamp": v}})
		if want := fmt.Sprintf("setting mss_clamp: %d is not 0, 1, or 48 to 65495", v); err == nil ||
			err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
