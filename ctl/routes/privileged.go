package routes

import (
	"net"
	"net/netip"
	"os"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"

	"uvs/dataplane/ring"
)

// Privileged is what a Watcher needs CAP_NET_RAW and CAP_NET_ADMIN for.
type Privileged interface {
	// PacketSocket opens a packet socket on the interface of an index. It receives frames of
	// an EtherType (0: none) that pass the filter, and sends whole frames.
	PacketSocket(index int, etherType uint16, filter []bpf.RawInstruction) (*os.File, error)
	// Solicit makes the kernel resolve an address on the interface of an index. The neighbour
	// keeps the flags (netlink.NTF_*).
	Solicit(index int, addr netip.Addr, flags int) error
}

// ThisProcess is Privileged by the capabilities of the calling process.
type ThisProcess struct{}

// PacketSocket opens a packet socket.
func (ThisProcess) PacketSocket(index int, etherType uint16, filter []bpf.RawInstruction) (*os.File, error) {
	conn, err := packet.Listen(&net.Interface{Index: index}, packet.Raw, int(etherType),
		&packet.Config{Filter: filter})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	fd, err := ring.CopyFD(conn)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "packet socket"), nil // non-blocking, as conn was
}

// Solicit asks the kernel.
func (ThisProcess) Solicit(index int, addr netip.Addr, flags int) error {
	return netlink.NeighSet(&netlink.Neigh{
		LinkIndex: index, IP: addr.AsSlice(), State: netlink.NUD_NONE, Flags: netlink.NTF_USE | flags,
	})
}
