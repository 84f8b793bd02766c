package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// offload is what a port does with many packets at once, or leaves to the other
// side of the link, by the names of ethtool.
var (
	gsoFeatures = []string{"tx-generic-segmentation", "tx-tcp-segmentation", "tx-tcp-ecn-segmentation",
		"tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation"}
	groFeatures      = []string{"rx-gro", "rx-udp-gro-forwarding"}
	checksumFeatures = []string{"tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6", "tx-checksum-sctp",
		"tx-scatter-gather"}
)

// setOffloads turns the offloads of a device, in the namespace of the calling
// thread, on and off.
//
// gso: it is given super-frames, which a veth link carries as they are; without,
// frames of at most one MTU. gro: it joins what comes in to super-frames, if the
// other end of the link has gso off (veth_skb_is_eligible_for_gro,
// drivers/net/veth.c). csum: it is given half-made checksums, which a veth link
// carries likewise; without there is no gso either.
func setOffloads(name string, gso, gro, checksum bool) error {
	features := map[string]bool{}
	for _, group := range []struct {
		names []string
		on    bool
	}{{gsoFeatures, gso}, {groFeatures, gro}, {checksumFeatures, checksum}} {
		for _, feature := range group.names {
			features[feature] = group.on
		}
	}
	return setFeatures(name, features)
}

// queueLen is how many frames a loss-free link holds: a second of a slow
// generator, and far more than the 256 a veth's ring holds (VETH_RING_SIZE,
// drivers/net/veth.c) or the 1000 of a CPU's backlog (net.core.netdev_max_backlog).
const queueLen = 100_000

// linkQueue makes one end of a veth link queue where it would drop. A plain
// veth has no queue of its own and drops when the receiving CPU's backlog is
// full. With generic receive offload its peer receives through a ring instead,
// and stops this end when that is full (Linux 6.16 and later); a queueing
// discipline then holds what cannot be sent yet.
func linkQueue(link netlink.Link) error {
	if err := netlink.LinkSetTxQLen(link, queueLen); err != nil {
		return fmt.Errorf("set queue length: %w", err)
	}
	// pfifo's limit is the device's queue length.
	fifo := &netlink.GenericQdisc{QdiscType: "pfifo", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index,
		Handle:    netlink.MakeHandle(1, 0),
		Parent:    netlink.HANDLE_ROOT,
	}}
	if err := netlink.QdiscAdd(fifo); err != nil {
		return fmt.Errorf("add queue: %w", err)
	}
	return setFeatures(link.Attrs().Name, map[string]bool{"rx-gro": true})
}
