package routes

import (
	"net/netip"
	"time"

	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// announceCount is how often a VIP is announced, one second apart:
// MAX_NEIGHBOR_ADVERTISEMENT and RETRANS_TIMER of RFC 4861 section 10. RFC 5227
// section 2.3 wants two ARP announcements.
const announceCount = 3

// announcement is one VIP on one port.
type announcement struct {
	port uint16
	vip  netip.Addr
}

// repetition is how often an announcement is still to be sent, and when next.
type repetition struct {
	left int
	due  time.Time
}

// Announce sets the VIPs that uvs answers for. The Watcher announces new ones
// on every port. It announces all of them on a port that comes up or gets
// another hardware address. It leaves out addresses that the host owns. After
// Announce returns, no other VIP is announced.
func (w *Watcher) Announce(vips []netip.Addr) {
	announced := make(map[netip.Addr]bool, len(vips))
	w.mu.Lock()
	for _, vip := range vips {
		vip = vip.Unmap()
		announced[vip] = true
		if !w.vips[vip] {
			w.newVIPs = append(w.newVIPs, vip)
		}
	}
	w.vips = announced
	w.mu.Unlock()
	w.wake()
}

// setAnnounced replaces the announced VIPs. New ones are due at once.
func (w *Watcher) setAnnounced(vips map[netip.Addr]bool, added []netip.Addr) {
	w.announced = vips
	for _, vip := range added {
		for port := range w.hostNet.Ports {
			w.pending[announcement{uint16(port), vip}] = repetition{left: announceCount}
		}
	}
}

// announce sends the announcements that are due.
func (w *Watcher) announce(now time.Time) {
	due := map[uint16][]netip.Addr{}
	for a, r := range w.pending {
		switch {
		case !w.announced[a.vip], r.left == 0, w.hostNet.IsLocal(wire.AddrFrom(a.vip)):
			delete(w.pending, a)
		case now.Sub(r.due) >= 0 && w.up[a.port]:
			due[a.port] = append(due[a.port], a.vip)
			w.pending[a] = repetition{r.left - 1, now.Add(retransTime - coalesceDelay)} // ticks are not exact
		}
	}
	for port, vips := range due {
		if err := w.sendAnnouncements(w.hostNet.Ports[port], vips); err != nil {
			w.log.Warn().Err(err).Str("interface", w.hostNet.Ports[port].Name).Msg("routes: cannot announce VIPs")
		}
	}
}

// announceOn makes the announcements of all VIPs on a port due.
func (w *Watcher) announceOn(port uint16) {
	for vip := range w.announced {
		w.pending[announcement{port, vip}] = repetition{left: announceCount}
	}
}

// sendAnnouncements announces VIPs on a port, unless Announce took them away.
func (w *Watcher) sendAnnouncements(port director.Port, vips []netip.Addr) error {
	c, err := w.privileged.PacketSocket(port.Index, 0, nil) // protocol 0: it receives nothing
	if err != nil {
		return err
	}
	defer c.Close()
	send := func(vip netip.Addr) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.vips[vip] {
			return nil
		}
		for _, frame := range announcements(port.MAC, wire.AddrFrom(vip)) {
			if _, err := c.Write(tagFrame(frame, port.VLAN)); err != nil {
				return err
			}
		}
		return nil
	}
	for _, vip := range vips {
		if err := send(vip); err != nil {
			return err
		}
	}
	return nil
}

var (
	broadcast = wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = wire.AddrFrom(netip.IPv6LinkLocalAllNodes())
)

// announcements returns the frames that tell a link which host has an address
// now. In IPv4 these are a request and a reply, because some hosts learn from
// one kind only (RFC 5944 section 4.6). In IPv6 it is an unsolicited
// advertisement (RFC 4861 section 7.2.6).
func announcements(mac wire.MAC, vip wire.Addr) [][]byte {
	if !vip.Is4() {
		return [][]byte{advertisement(mac, vip)}
	}
	return [][]byte{
		arp(wire.ARPRequest, mac, vip, wire.MAC{}, vip),
		arp(wire.ARPReply, mac, vip, mac, vip),
	}
}

// newFrame makes a frame with n bytes after the Ethernet header.
func newFrame(dst, src wire.MAC, etherType uint16, n int) (frame, body []byte) {
	frame = make([]byte, wire.EthernetLen+n)
	e := wire.Ethernet(frame)
	e.SetDst(dst)
	e.SetSrc(src)
	e.SetType(etherType)
	return frame, frame[wire.EthernetLen:]
}

// arp makes a broadcast ARP frame.
func arp(op uint16, sender wire.MAC, senderIP wire.Addr, target wire.MAC, targetIP wire.Addr) []byte {
	frame, body := newFrame(broadcast, sender, wire.EtherTypeARP, wire.ARPLen)
	a := wire.ARP(body)
	a.SetEthernetIPv4()
	a.SetOperation(op)
	a.SetSenderMAC(sender)
	a.SetSenderIP(senderIP)
	a.SetTargetMAC(target)
	a.SetTargetIP(targetIP)
	return frame
}

// advertisement makes an unsolicited neighbour advertisement that overrides
// what other nodes have cached.
func advertisement(mac wire.MAC, vip wire.Addr) []byte {
	frame, n := neighbourFrame(wire.ICMPv6Advertise, mac, vip, allNodes, vip, wire.NeighbourOptionLen)
	n.SetFlags(wire.NeighbourOverride)
	n.SetOption(wire.OptionTargetMAC, mac)
	setChecksum(frame)
	return frame
}

// neighbourFrame makes a neighbour discovery message to a multicast address.
// The caller fills it in and calls setChecksum.
func neighbourFrame(kind uint8, mac wire.MAC, src, dst, target wire.Addr, options int) ([]byte, wire.Neighbour) {
	// RFC 2464 section 7: 33:33 and the last four bytes of the address.
	group := wire.MAC{0x33, 0x33, dst[12], dst[13], dst[14], dst[15]}
	frame, body := newFrame(group, mac, wire.EtherTypeIPv6, wire.IPv6Len+wire.NeighbourLen+options)
	ip := wire.IPv6(body)
	ip.SetVersionClassFlow(0, 0)
	ip.SetPayloadLen(uint16(wire.NeighbourLen + options))
	ip.SetNextHeader(wire.ProtoICMPv6)
	ip.SetHopLimit(255) // RFC 4861 section 4.4: proves that no router forwarded it
	ip.SetSrc(src)
	ip.SetDst(dst)
	n := wire.Neighbour(body[wire.IPv6Len:])
	wire.ICMP(n).SetType(kind)
	n.SetTarget(target)
	return frame, n
}

// setChecksum writes the checksum of an ICMPv6 message.
func setChecksum(frame []byte) {
	ip := wire.IPv6(frame[wire.EthernetLen:])
	m := wire.ICMP(ip[wire.IPv6Len:])
	m.SetChecksum(0)
	sum := wire.PseudoSum(ip.Src(), ip.Dst(), wire.ProtoICMPv6, uint32(len(m)))
	m.SetChecksum(^wire.Fold(wire.Sum(m, sum)))
}
