package director

import (
	"math/rand/v2"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// setStandby puts VIPs, or if none are given the director, on standby or back.
func (w *testbed) setStandby(on bool, vips ...string) {
	w.table.Standby = StandbyNone
	for a, vip := range w.table.VIPs.All() {
		if len(vips) == 0 || a == addr(vips[0]) {
			vip.Standby, vip.Silent = on, on
			w.table.VIPs.Set(a, vip)
		}
	}
	switch {
	case on && len(vips) > 0:
		w.table.Standby = StandbyVIPs
	case on:
		w.table.Standby = StandbyAll
	}
}

// A director on standby takes no part in a conversation. When it is active again, the
// conversation goes on by the conn that it kept. With one VIP on standby, the others are
// served.
func TestStandby(t *testing.T) {
	const client, vip = "10.1.0.2:5000", "10.9.0.1:80"
	const answered = "0 02:00:00:00:00:0c: arp 2 10.9.0.1 is-at 02:00:00:00:00:0d"
	reply := wiretest.Packet{SrcMAC: serverMAC[0], Src: "10.2.0.11:8080", Dst: client, TCPFlags: wire.TCPAck}
	ping := wiretest.Packet{Src: "10.1.0.2", Dst: "10.9.0.1", Proto: wire.ProtoICMP, ICMPType: wire.ICMPEcho}
	unreachable := wiretest.Packet{
		Src: "10.3.0.1", Dst: "10.1.0.2", Proto: wire.ProtoICMP, ICMPType: 3, ICMPCode: 1, Payload: wiretest.Quote(
			wiretest.Packet{Src: client, Dst: "10.2.0.11:8080", TCPFlags: wire.TCPAck}.Frame(), 28),
	}
	own := wiretest.Packet{SrcMAC: serverMAC[0], Src: "10.2.0.11:8080", Dst: "192.0.2.1:99", TCPFlags: wire.TCPSyn}
	toSecond := step{
		"a service of another VIP", 0, syn("10.1.0.2:5001", "10.9.0.2:80"), ForwardedMasq,
		"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5001>8080",
	}
	segment := step{
		"a segment", 0,
		wiretest.Packet{Src: client, Dst: vip, TCPFlags: wire.TCPAck},
		ForwardedMasq,
		"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
	}
	toServer := step{"a connection begins", 0, syn(client, vip), segment.verdict, segment.out}
	w := newTestbed(t, conntrack.MethodNAT)
	converse(t, w, []step{toServer, segment})
	for _, only := range [][]string{nil, {"10.9.0.1"}} {
		w.setStandby(true, only...)
		dropped := []step{
			{"a segment", 0, segment.packet, DroppedStandby, ""},
			{"a new connection", 0, syn("10.1.0.3:5000", vip), DroppedStandby, ""},
			{"a port without a service", 0, syn("10.1.0.3:5000", "10.9.0.1:81"), DroppedStandby, ""},
			{"a ping", 0, ping, DroppedStandby, ""},
			{"a server's reply", 1, reply, DroppedStandby, ""},
			{"an error about the request", 1, unreachable, DroppedStandby, ""},
		}
		converse(t, w, dropped)
		who := wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.1.0.2", wire.MAC{}, "10.9.0.1")
		if v := w.process(&who); v != NotOurs || w.format(who) != "" {
			t.Errorf("who-has is %s", v)
		}
		if only == nil {
			toSecond.verdict, toSecond.out = DroppedStandby, ""
			converse(t, w, []step{
				{"a server's packet without a conn", 1, own, DroppedStandby, ""},
				{"a port of the host", 0, syn("10.1.0.3:5000", "10.9.0.2:22"), NotOurs, ""},
				{"an address of the host", 0, syn("10.1.0.3:5000", "10.1.0.1:80"), NotOurs, ""},
				toSecond,
			})
		} else {
			toSecond.verdict = ForwardedMasq
			toSecond.out = "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5001>8080"
			converse(t, w, []step{toSecond})
		}
		w.setStandby(false)
		converse(t, w, []step{segment})
		if v := w.process(&who); v != AnsweredARP || w.format(who) != answered {
			t.Errorf("who-has is %s, %s, when active again", v, w.format(who))
		}
	}
}

// With backup_only packets to a VIP that the host holds are the host's, for it may be one of
// the other director's servers.
func TestStandbyLeavesToHost(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.setStandby(true)
	toHost, toOther := syn("10.1.0.2:5000", "10.9.0.2:80"), syn("10.1.0.2:5000", "10.9.0.1:80")
	for _, backupOnly := range []bool{false, true} {
		w.table.Settings.BackupOnly = backupOnly
		want := map[bool]Verdict{false: DroppedStandby, true: NotOurs}[backupOnly]
		if v := w.verdict(0, toHost); v != want {
			t.Errorf("backup_only %v: to a VIP on the host: %s, want %s", backupOnly, v, want)
		}
		if v := w.verdict(0, toOther); v != DroppedStandby {
			t.Errorf("backup_only %v: to another VIP: %s", backupOnly, v)
		}
	}
}

// The director answers for its own addresses on VLANs while it is on standby.
func TestStandbyAnswersForItself(t *testing.T) {
	w := vlanTestbed(t, conntrack.MethodNAT)
	w.setStandby(true)
	w.table.VIPs.Set(addr("10.8.0.1"), VIP{DirectorOnly: true})
	who := wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.8.0.11", wire.MAC{}, "10.8.0.1")
	wire.PushVLAN(&who, wire.EtherTypeVLAN, 8)
	ping := in(0, wiretest.Packet{
		VLANs: []uint16{8}, Src: "10.8.0.11", Dst: "10.8.0.1", Proto: wire.ProtoICMP, ICMPType: wire.ICMPEcho,
	})
	if v := w.process(&who); v != AnsweredARP {
		t.Errorf("who-has is %s", v)
	}
	if v := w.process(&ping); v != AnsweredEcho {
		t.Errorf("a ping is %s", v)
	}
}

// A silent VIP is served, but does not answer ARP and neighbour solicitations.
func TestSilentVIP(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	for a, vip := range w.table.VIPs.All() {
		vip.Silent = true
		w.table.VIPs.Set(a, vip)
	}
	for _, f := range []wire.Frame{
		wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.1.0.2", wire.MAC{}, "10.9.0.1"),
		wiretest.Solicitation(wiretest.ClientMAC, "fd00:1::2", "fd00:9::1"),
		wiretest.Solicitation(wiretest.ClientMAC, "fd00:1::2", "fd00:9::2"), // on the host's loopback
	} {
		if v := w.process(&f); v != NotOurs || f.Out != wire.NoPort {
			t.Errorf("verdict %s", v)
		}
	}
	converse(t, w, []step{{
		"a client that knows where the VIP is", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq,
		"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
	}})
}

// Nothing leaves a director on standby, whatever arrives, and whatever waited or timed
// out. Its conns stay as they were.
func TestStandbySendsNothing(t *testing.T) {
	for _, method := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel} {
		w := newTestbed(t, method)
		s := &w.table.Settings
		s.ScheduleICMP, s.NATICMPSend, s.SloppyTCP, s.SloppySCTP = true, true, true, true
		w.resetForgotten(2*conntrack.Second, conntrack.TCPEstablished)
		w.mark(method, 7, 80, "10.2.0.12")
		w.rule(MarkRule{Dst: network("10.1.0.0/16"), In: wire.NoPort, Mark: 7}) // clients too
		k := &generator{rand.New(rand.NewPCG(7, uint64(method))), method}
		arrive := func(check func([]wire.Frame)) {
			for range 200 {
				var frames []wire.Frame
				for len(frames) < MaxBatch/2 {
					f := k.frame()
					f.MTU = 0
					frames = append(frames, f)
				}
				datagram := large(wire.ProtoUDP, "10.1.0.2:5000", "10.9.0.1:80")
				for _, f := range fragmentsOf(0, k.Uint32(), 1400, datagram) {
					if k.IntN(2) == 0 { // firsts are missing, or come later
						frames = append(frames, f)
					}
				}
				w.dir.Process(w.now, w.table, frames, w.verdicts[:len(frames)])
				check(w.sent(w.dir, frames))
				w.now += 5
			}
		}
		sent := 0
		arrive(func(out []wire.Frame) { sent += len(out) })
		w.removeWithGrace("10.2.0.11", 2000)
		arrive(func([]wire.Frame) {}) // some wait for the server
		inserted := w.conns.Stats().Inserted
		w.setStandby(true)
		nothing := func(out []wire.Frame) {
			for _, f := range out {
				t.Fatalf("method %d: sent %s", method, w.format(f))
			}
		}
		arrive(nothing)
		if sent := w.advance(10 * conntrack.Second); len(sent) != 0 { // conns time out
			t.Errorf("method %d: sent %s", method, sent)
		}
		if n := w.conns.Stats().Inserted; sent == 0 || n > inserted {
			t.Errorf("method %d: sent %d frames while active, made %d conns on standby", method, sent, n-inserted)
		}
	}
}

// A later fragment of a reply that began before its VIP went on standby is dropped too.
func TestStandbyBetweenFragments(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.verdict(0, datagram("10.1.0.2:5000", "10.9.0.1:80"))
	reply := fragmentsOf(1, 9, 1400, large(wire.ProtoUDP, "10.2.0.11:8080", "10.1.0.2:5000"))
	if _, v := w.separately(reply[:2]...); v[0] != ReturnedMasq || v[1] != ReturnedMasq {
		t.Fatalf("the first two fragments are %s", v)
	}
	w.setStandby(true, "10.9.0.1")
	if out, v := w.separately(reply[2:]...); v[0] != DroppedStandby || len(out) != 0 {
		t.Errorf("the others are %s", v)
	}
}
