package routes

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/packet"

	"uvs/ctl/nettest"
	"uvs/dataplane/wire"
)

// announced is the content of an announcement, decoded by gopacket.
type announced struct {
	kind string // request, reply, advertisement
	vip  netip.Addr
	mac  wire.MAC
}

// expectAnnouncements counts announcements on a tap until each has come as
// often as want has it. It fails on any other.
func expectAnnouncements(t *testing.T, tap *packet.Conn, want map[announced]int) {
	t.Helper()
	got := map[announced]int{}
	tap.SetReadDeadline(time.Now().Add(timeout))
	for b := make([]byte, 2048); ; {
		n, _, err := tap.ReadFrom(b)
		if err != nil {
			t.Fatalf("received %v, want %v: %v", got, want, err)
		}
		h, ok := decodeAnnouncement(t, b[:n])
		if !ok {
			continue
		}
		if got[h]++; got[h] > want[h] {
			t.Fatalf("received %v more than %d times", h, want[h])
		}
		enough := true
		for h, n := range want {
			enough = enough && got[h] == n
		}
		if enough {
			return
		}
	}
}

// decodeAnnouncement checks every field of an announcement.
func decodeAnnouncement(t *testing.T, frame []byte) (h announced, ok bool) {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	eth := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	h.mac = wire.MAC(eth.SrcMAC)
	if a, isARP := p.Layer(layers.LayerTypeARP).(*layers.ARP); isARP {
		h.vip, _ = netip.AddrFromSlice(a.SourceProtAddress)
		h.kind = map[uint16]string{layers.ARPRequest: "request", layers.ARPReply: "reply"}[a.Operation]
		target := map[string][]byte{"request": make([]byte, 6), "reply": h.mac[:]}[h.kind]
		if !bytes.Equal(a.SourceHwAddress, h.mac[:]) || !bytes.Equal(a.DstProtAddress, a.SourceProtAddress) ||
			!bytes.Equal(a.DstHwAddress, target) || !bytes.Equal(eth.DstMAC, broadcast[:]) {
			t.Errorf("ARP announcement %+v in %+v", a, eth)
		}
		return h, true
	}
	na, isNA := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
	if !isNA {
		return h, false
	}
	ip := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	if ip.SrcIP.IsLinkLocalUnicast() {
		return h, false // sent by the kernel
	}
	h.kind = "advertisement"
	h.vip, _ = netip.AddrFromSlice(na.TargetAddress)
	switch {
	case na.Flags != 0x20, len(na.Options) != 1, na.Options[0].Type != layers.ICMPv6OptTargetAddress,
		!bytes.Equal(na.Options[0].Data, h.mac[:]):
		t.Errorf("advertisement %+v", na)
	case !ip.SrcIP.Equal(na.TargetAddress), !ip.DstIP.Equal(net.IPv6linklocalallnodes), ip.HopLimit != 255,
		eth.DstMAC.String() != "33:33:00:00:00:01":
		t.Errorf("advertisement in %+v, %+v", ip, eth)
	}
	icmp := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	icmp.SetNetworkLayerForChecksum(ip)
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true}, icmp,
		gopacket.Payload(icmp.Payload)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buf.Bytes()[2:4], icmp.Contents[2:4]) {
		t.Errorf("ICMPv6 checksum % x, want % x", icmp.Contents[2:4], buf.Bytes()[2:4])
	}
	return h, true
}

// TestAnnounce listens on both ports of a host while VIPs are added, and while
// a port gets another hardware address.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	host, peer := newHostAndPeer(t)
	nettest.Join(host.Namespace, "h1", peer.Namespace, "p1")
	host.Addr("h0", "10.7.0.101/24") // a VIP the host owns
	w := host.watch("h0", "h1")
	taps := []*packet.Conn{peer.Tap("p0"), peer.Tap("p1")}
	vip4, vip6 := netip.MustParseAddr("10.7.0.100"), netip.MustParseAddr("fd07::100")
	all := func(mac wire.MAC) map[announced]int {
		return map[announced]int{
			{"request", vip4, mac}: announceCount, {"reply", vip4, mac}: announceCount,
			{"advertisement", vip6, mac}: announceCount,
		}
	}
	w.Announce([]netip.Addr{vip4, vip6, netip.MustParseAddr("10.7.0.101")})
	expectAnnouncements(t, taps[0], all(host.mac("h0")))
	expectAnnouncements(t, taps[1], all(host.mac("h1")))

	w.Announce([]netip.Addr{vip4, vip6}) // not new, so not announced
	mac := wire.MAC{2, 7, 7, 7, 7, 7}
	host.Must(host.NL.LinkSetHardwareAddr(host.Link("h0"), mac[:]))
	expectAnnouncements(t, taps[0], all(mac))
}

// A VIP that is taken away is not announced any more, although repetitions were to come.
// Added again, it is announced again.
func TestAnnounceNoMore(t *testing.T) {
	t.Parallel()
	host, peer := newHostAndPeer(t)
	w := host.watch("h0")
	tap := peer.Tap("p0")
	vip4, vip6 := netip.MustParseAddr("10.7.0.100"), netip.MustParseAddr("fd07::100")
	again := announced{"advertisement", vip6, host.mac("h0")}
	w.Announce([]netip.Addr{vip4})
	w.Announce(nil)
	w.Announce([]netip.Addr{vip6})
	w.Announce(nil)
	w.Announce([]netip.Addr{vip6})
	tap.SetReadDeadline(time.Now().Add(timeout))
	got := map[announced]int{}
	for b := make([]byte, 2048); got[again] < announceCount; {
		n, _, err := tap.ReadFrom(b)
		if err != nil {
			t.Fatalf("received %v: %v", got, err)
		}
		if h, ok := decodeAnnouncement(t, b[:n]); ok {
			got[h]++
		}
	}
	if n := got[announced{"request", vip4, host.mac("h0")}]; n > 1 {
		t.Errorf("announced %d times after it was taken away", n-1)
	}
}
