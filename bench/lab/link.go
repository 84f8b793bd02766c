package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Features by ethtool's names: what a device leaves to the other side of the
// link, or does with many packets at once.
var (
	gsoFeatures = []string{
		"tx-generic-segmentation", "tx-tcp-segmentation", "tx-tcp-ecn-segmentation",
		"tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation",
	}
	groFeatures      = []string{"rx-gro", "rx-udp-gro-forwarding"}
	checksumFeatures = []string{
		"tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6", "tx-checksum-sctp",
		"tx-scatter-gather",
	}
)

// setOffloads turns the offloads of a device, in the namespace of the calling
// thread, on or off.
//
//   - gso: the stack gives the device GSO frames, which a veth link carries as they
//     are. Without it, frames have one MTU at most.
//   - gro: the device merges received segments into GSO frames, if the other side of
//     the link has gso off (veth_skb_is_eligible_for_gro, drivers/net/veth.c).
//   - checksum: the stack gives the device partial checksums, which a veth link also
//     carries as they are. Without checksum there is no gso either.
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

// queueLen is how many frames a loss-free link holds: those of a second of a
// slow generator. A veth's ring holds only 256 (VETH_RING_SIZE,
// drivers/net/veth.c), and a CPU's backlog 1000 (net.core.netdev_max_backlog).
const queueLen = 100_000

// linkQueue makes one side of a veth link queue where it would drop. A plain
// veth has no queue and drops when the receiving CPU's backlog is full. With
// GRO its peer receives through a ring instead, and stops this side when that
// is full (Linux 6.16 and later). A queueing discipline then holds what cannot
// be sent yet.
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
