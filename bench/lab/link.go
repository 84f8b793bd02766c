package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// offloadsOff makes a device send finished frames of at most one MTU and hand
// received ones on as they came.
func offloadsOff(name string) error {
	for _, cmd := range []uint32{unix.ETHTOOL_SGRO, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_SSG, unix.ETHTOOL_STXCSUM} {
		if err := setOffload(name, cmd, 0); err != nil {
			return err
		}
	}
	return nil
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
	return setOffload(link.Attrs().Name, unix.ETHTOOL_SGRO, 1)
}
