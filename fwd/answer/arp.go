package answer

import (
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// ARPTarget returns the operation, the sender's address and the requested address of
// an ARP packet (KindARP).
func ARPTarget(f *wire.Frame, p *wire.Packet) (op uint16, sender, target wire.Addr) {
	a := wire.ARP(f.Bytes()[p.L3:])
	return a.Operation(), a.SenderIP(), a.TargetIP()
}

// ARP turns a request into the reply that the requested address is at mac. It also
// answers a probe, whose sender has no address yet: that is how another host learns
// that the address is in use (RFC 5227 section 2.1.1). It returns false for replies and
// announcements, and if the sender's MAC address is not that of one host.
func ARP(f *wire.Frame, p *wire.Packet, mac wire.MAC) bool {
	if p.Kind != wire.KindARP {
		return false
	}
	a := wire.ARP(f.Bytes()[p.L3:])
	requester, sender, target := a.SenderMAC(), a.SenderIP(), a.TargetIP()
	if a.Operation() != wire.ARPRequest || sender == target || requester.IsGroup() || requester.IsZero() {
		return false
	}
	a.SetOperation(wire.ARPReply)
	a.SetTargetMAC(requester)
	a.SetTargetIP(sender)
	a.SetSenderMAC(mac)
	a.SetSenderIP(target)
	leaveBy(&fwd.LinkHeader{Port: f.In, Dst: requester, Src: mac}, f)
	return true
}
