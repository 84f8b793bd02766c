package e2e

import (
	"fmt"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// A host of the clients' net cannot inject packets as a server, and what a server sends
// without a connection passes only while the host forwards.
func TestForgedServer(t *testing.T) {
	needs(t)
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%t", v6), func(t *testing.T) {
			e := newClientServerOn(&topology{network: newNetwork(t), method: "nat", v6: v6}, 1)
			e.run("director", "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 "+
				"net.ipv4.conf.all.rp_filter=0")
			lan1 := e.portMAC("director", "eth0")
			lan2 := e.portMAC("director", "eth1")
			attack := func(from string, to wire.MAC, dst, counter string) {
				t.Helper()
				f := wiretest.Packet{
					SrcMAC: e.macOf(from), DstMAC: to, Proto: wire.ProtoUDP,
					Src: e.url(e.rip(0)) + ":7", Dst: e.url(dst) + ":7777",
				}.Frame()
				before := e.counters()[counter]
				eventually(t, from+"'s packet is "+counter, func() bool {
					must(t, e.sendFrames(from, []wire.Frame{f}))
					return e.counters()[counter] > before
				})
			}
			attack("client", lan1, e.addr(1, 2), "dropped_reverse_path")
			attack("s1", lan2, e.addr(1, 2), "dropped_not_forwarding")
			if n := e.counters()["passed_unchanged"]; n != 0 {
				t.Errorf("%d packets passed", n)
			}
			client, server := e.connect() // the director's own work goes on
			must(t, exchange(client, server))
			e.run("director", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
			attack("s1", lan2, e.addr(1, 2), "passed_unchanged")
			attack("client", lan1, e.addr(1, 2), "dropped_reverse_path")
			e.run("director", uvsBinary+" set reverse_path=off")
			attack("client", lan1, e.addr(1, 2), "passed_unchanged")
		})
	}
}

// exchange sends a byte through a connection.
func exchange(from, to interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
},
) error {
	if _, err := from.Write([]byte{1}); err != nil {
		return err
	}
	_, err := to.Read(make([]byte, 1))
	return err
}
