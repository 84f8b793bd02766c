package fwd

import "uvs/dataplane/wire"

// ARPRequest is the operation of who-has.
const ARPRequest = wire.ARPRequest

// ARPTarget returns what an ARP packet (KindARP) is about: its operation, who
// sends it and which address it asks for.
func ARPTarget(f *wire.Frame, p *wire.Packet) (op uint16, sender, target wire.Addr) {
	a := wire.ARP(f.Bytes()[p.L3:])
	return a.Operation(), a.SenderIP(), a.TargetIP()
}

// ARPReply turns a request into the reply that the address asked for is at mac.
// A probe, whose sender has no address yet, is answered too: that is how another
// host learns that the address is taken (RFC 5227 section 2.1.1). False for
// anything but a question: replies, announcements, senders that are no one host.
func ARPReply(f *wire.Frame, p *wire.Packet, mac wire.MAC) bool {
	if p.Kind != wire.KindARP {
		return false
	}
	a := wire.ARP(f.Bytes()[p.L3:])
	asker, sender, target := a.SenderMAC(), a.SenderIP(), a.TargetIP()
	if a.Operation() != wire.ARPRequest || sender == target || asker.IsGroup() || asker.IsZero() {
		return false
	}
	a.SetOperation(wire.ARPReply)
	a.SetTargetMAC(asker)
	a.SetTargetIP(sender)
	a.SetSenderMAC(mac)
	a.SetSenderIP(target)
	back := LinkHeader{Port: f.In, Dst: asker, Src: mac}
	back.sendOwn(f)
	return true
}
