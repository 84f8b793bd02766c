package director

import (
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

func datagram(src, dst string) wiretest.Packet {
	return wiretest.Packet{Src: src, Dst: dst, Proto: wire.ProtoUDP, Payload: []byte("hello")}
}

// exhaust leaves a service without a server that takes anything.
func (w *world) exhaust(proto uint8) *Service {
	svc := w.table.Services[ServiceKey{addr("10.9.0.1"), 80, proto}]
	svc.Picker = none{}
	return svc
}

// A connection no server can take is refused by ICMP as IPVS does, or by a reset
// if the service says so; datagrams know only ICMP.
func TestNoServer(t *testing.T) {
	const unreachable = "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp DestinationUnreachable(Port)"
	for _, r := range []struct {
		sentence string
		proto    uint8
		reset    bool
		packet   wiretest.Packet
		out      string
	}{
		{"TCP", wire.ProtoTCP, false, syn("10.1.0.2:5000", "10.9.0.1:80"), unreachable},
		{"TCP with reset", wire.ProtoTCP, true, syn("10.1.0.2:5000", "10.9.0.1:80"), "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 tcp 80>5000 rst"},
		{"UDP", wire.ProtoUDP, true, datagram("10.1.0.2:5000", "10.9.0.1:80"), unreachable},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			w := newWorld(t, conntrack.MethodMasq)
			w.now += 1000
			w.exhaust(r.proto).Reset = r.reset
			converse(t, w, []step{{r.sentence, 0, r.packet, RefusedNoServer, r.out}})
		})
	}
}
