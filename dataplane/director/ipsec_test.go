package director

import (
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// ESP and AH follow the conn of IKE in both directions and by every method, and so do
// ICMP errors about them. They keep the conn alive.
func TestIPsecFollowsIKE(t *testing.T) {
	for _, r := range []struct {
		method           conntrack.Method
		verdict, return_ Verdict
		in, back, reply  string
	}{
		{
			conntrack.MethodNAT, ForwardedMasq, ReturnedMasq, "10.1.0.2>10.2.0.12 ttl 63", "10.2.0.12",
			"10.9.0.1>10.1.0.2 ttl 63",
		},
		{
			conntrack.MethodDR, ForwardedRoute, ReturnedAsIs, "10.1.0.2>10.9.0.1 ttl 63", "10.9.0.1",
			"10.9.0.1>10.1.0.2 ttl 63",
		},
		{
			conntrack.MethodTunnel, ForwardedTunnel, ReturnedAsIs, "10.2.0.1>10.2.0.12 ttl 63 10.1.0.2>10.9.0.1 ttl 63",
			"10.9.0.1", "10.9.0.1>10.1.0.2 ttl 63",
		},
	} {
		w := unusualTestbed(t, r.method)
		svc := w.table.serviceAt(Endpoint{addr("10.9.0.1"), wire.PortIKE, wire.ProtoUDP})
		svc.Picker = pickConstant(1)
		server := w.table.server(svc.Servers[1]).Counters
		for i := range w.lastID {
			w.table.server(i + 1).Port = 0 // IKE stays on its port
		}
		ike := wiretest.Packet{
			Src: "10.1.0.2:500", Dst: "10.9.0.1:500", Proto: wire.ProtoUDP, Payload: make([]byte, 28),
		}
		f := in(0, ike)
		if v := w.process(&f); v != r.verdict {
			t.Fatalf("method %d: IKE: %s", r.method, v)
		}
		for _, proto := range []uint8{wire.ProtoESP, wire.ProtoAH} {
			ah := []byte{wire.ProtoNoNext, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
			out := wiretest.Packet{
				Src: "10.1.0.2", Dst: "10.9.0.1", Proto: proto, Payload: append(ah, make([]byte, 40)...),
			}
			back := wiretest.Packet{
				SrcMAC: serverMAC[1], Src: r.back, Dst: "10.1.0.2", Proto: proto, Payload: out.Payload,
			}
			stranger := out
			stranger.Src = "10.1.0.3"
			about := wiretest.Packet{
				SrcMAC: serverMAC[1], Src: "10.2.0.254", Dst: "10.1.0.2", Proto: wire.ProtoICMP, ICMPType: 3,
				ICMPCode: 4, ICMPRest: 1400,
				Payload: wiretest.Quote(
					wiretest.Packet{Src: "10.1.0.2", Dst: r.back, Proto: proto, Payload: out.Payload}.Frame(), 28,
				),
			}
			w.now += 250 * conntrack.Second // of the 300 that UDP lives
			before := server.Totals()
			errorSource := "10.9.0.1"
			if r.method != conntrack.MethodNAT {
				errorSource = "10.2.0.254"
			}
			converse(t, w, []step{
				{"to the server", 0, out, r.verdict, "1 02:00:00:00:01:02: " + r.in},
				{"from it", 1, back, r.return_, "0 02:00:00:00:00:0c: " + r.reply},
				{"of another client", 0, stranger, DroppedIPsecNoConn, ""},
				{
					"an error about it", 1, about, ICMPErrorToClient,
					"0 02:00:00:00:00:0c: " + errorSource +
						">10.1.0.2 ttl 63 icmp DestinationUnreachable(FragmentationNeeded)",
				},
			})
			after := server.Totals()
			if after.InPkts != before.InPkts+1 || after.OutPkts != before.OutPkts+2 || after.Conns != 1 {
				t.Errorf("method %d: the server counted %+v, before %+v", r.method, after, before)
			}
		}
		if n := w.conns.Stats().Inserted; n != 1 {
			t.Errorf("method %d: %d conns, want that of IKE alone", r.method, n)
		}
	}
}

// ESP without a conn, from a server that the guard hides, is routed on as the host
// would have done.
func TestIPsecOfServersOwn(t *testing.T) {
	w := unusualTestbed(t, conntrack.MethodNAT)
	w.table.ReplySources.Set(Endpoint{Addr: addr("10.2.0.11"), Proto: wire.ProtoESP}, 1)
	converse(t, w, []step{
		{
			"a server's own tunnel", 1,
			wiretest.Packet{Src: "10.2.0.11", Dst: "192.0.2.7", Proto: wire.ProtoESP, Payload: make([]byte, 40)},
			PassedUnchanged,
			"0 02:00:00:00:00:fe: 10.2.0.11>192.0.2.7 ttl 63",
		},
		{
			"of a kind that is not hidden", 1,
			wiretest.Packet{Src: "10.2.0.11", Dst: "192.0.2.7", Proto: wire.ProtoAH, Payload: make([]byte, 40)},
			NotOurs, "",
		},
	})
}
