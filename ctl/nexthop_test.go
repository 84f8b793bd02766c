package ctl

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gaissmai/bart"
	"github.com/rs/zerolog"

	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// The next hop of a server, or why there is none, in words.
func TestNextHopStatus(t *testing.T) {
	routes := new(bart.Table[director.Route])
	routes.Insert(netip.MustParsePrefix("10.2.0.0/24"), director.Route{Port: 0})
	neighbour := wire.AddrFrom(netip.MustParseAddr("10.2.0.11"))
	fib := director.NewFIB(&director.HostNet{
		Ports:      []director.Port{{Name: "eth1", MAC: wire.MAC{2, 0, 0, 0, 0, 1}, MTU: 1500}},
		Routes:     routes,
		Neighbours: map[director.NeighbourKey]wire.MAC{{Port: 0, Addr: neighbour}: {2, 0, 0, 0, 0, 11}},
		HostAddrs:  map[wire.Addr]int{wire.AddrFrom(netip.MustParseAddr("10.2.0.1")): 2},
	})
	for addr, want := range map[string]string{
		"10.2.0.11": "eth1 02:00:00:00:00:0b",
		"10.2.0.12": "eth1 unresolved",
		"10.77.0.1": "no route by an interface of the director",
		"10.2.0.1":  localNodeText(director.NextHop{}),
	} {
		a := netip.MustParseAddr(addr)
		v := &compile.RunningServer{Config: config.Server{ServerKey: config.ServerKey{Addr: a}}}
		if got := nextHopStatus(fib, v.NextHop(fib), a); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}

// A server on the host itself gets no packets unless the operator does something, so the log
// says what. Other servers without a next hop get packets as soon as there is one; the log says
// so once, when they have had time to answer.
func TestWarningOfServersWithoutNextHop(t *testing.T) {
	for addr, want := range map[string]string{
		"10.1.0.1":  "needs uvs run --localnode",
		"10.77.0.1": "as soon as it can",
	} {
		w := newWebFixture(t, "rr")
		var text bytes.Buffer
		w.log = zerolog.New(&text).Level(zerolog.WarnLevel)
		w.must(with(vip, config.Server{
			ServerKey: config.ServerKey{Addr: netip.MustParseAddr(addr)}, Method: config.MethodDR, Weight: 1,
		}))
		now := time.Now()
		w.maintain(now)
		w.maintain(now)
		w.maintain(now)
		if log := text.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, want) ||
			strings.Contains(log, "--localnode") == strings.Contains(log, "as soon as it can") {
			t.Errorf("%s: logged %s", addr, log)
		}
	}
}

// A server that answers no ARP, or has no route, is not listed as up.
func TestUnreachableServerIsNotUp(t *testing.T) {
	w := newWebFixture(t, "rr")
	for addr, want := range map[string]string{"10.2.77.77": "unreachable", "10.77.0.1": "unreachable"} {
		v := config.Server{
			ServerKey: config.ServerKey{Addr: netip.MustParseAddr(addr), Port: 80},
			Method:    config.MethodDR, Weight: 1,
		}
		w.must(with(vip, v))
		if got := w.status(v).State; got != want {
			t.Errorf("%s is %s, want %s", addr, got, want)
		}
	}
	if got := w.status(one).State; got != "up" {
		t.Errorf("a server that answers is %s", got)
	}
}
