package ring

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// blockTimer returns the time in ms after which the kernel closes a block that is not
// full. While the worker is away, each tick uses up a block. So where open blocks are
// read, the timer is as long as kernels before 6.18 can have it (they keep 16 bits).
// Elsewhere it is how long a single frame waits.
func blockTimer(readOpen bool) uint32 {
	if readOpen {
		return 65_000
	}
	return 1
}

// Open opens the link of a single worker.
func Open(cfg Config) (*Link, error) {
	links, err := OpenGroup(cfg, 1)
	if err != nil {
		return nil, err
	}
	return links[0], nil
}

// OpenGroup opens one link for each worker. Each frame of the interfaces goes to
// exactly one of them, which Config.Steer selects.
func OpenGroup(cfg Config, workers int) ([]*Link, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if workers < 1 || workers > maxWorkers {
		return nil, fmt.Errorf("ring: %d workers: want 1 to %d", workers, maxWorkers)
	}
	links, err := openGroup(cfg, workers, readsOpenBlocks)
	if err != nil {
		for _, l := range links {
			_ = l.release()
		}
		return nil, fmt.Errorf("ring: %w", err)
	}
	return links, nil
}

// maxWorkers is the kernel's default limit for the members of a fanout group
// (net/packet/af_packet.c, fanout_add).
const maxWorkers = 256

// openGroup does the work of OpenGroup. On error the links may be partly open. All wake
// sockets of an interface are bound before its first ring socket, because taps run newest
// first. The order stays when an interface goes down and up: the kernel then attaches the
// sockets in the order in which they were made.
func openGroup(cfg Config, workers int, readOpen bool) (links []*Link, err error) {
	for range workers {
		l := &Link{spin: cfg.Spin, idle: int(cfg.Idle / time.Millisecond), event: -1}
		links = append(links, l)
		if l.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return links, fmt.Errorf("make eventfd: %w", err)
		}
		l.polls = []unix.PollFd{{Fd: int32(l.event), Events: unix.POLLIN}}
		l.tx.init(len(cfg.Interfaces))
		l.replacements = make([]atomic.Pointer[port], len(cfg.Interfaces))
	}
	for i := range cfg.Interfaces {
		ports, err := openInterface(workers, i, cfg, readOpen)
		if err != nil {
			return links, err
		}
		for w, l := range links {
			l.ports = append(l.ports, ports[w])
			l.polls = append(l.polls, unix.PollFd{Fd: int32(ports[w].wakeFD), Events: unix.POLLIN})
		}
	}
	return links, nil
}

// openInterface opens port i of every worker, or of none.
func openInterface(workers, i int, cfg Config, readOpen bool) (ports []*port, err error) {
	var sockets []Sockets
	if cfg.Open != nil {
		sockets, err = cfg.Open(i)
	} else {
		sockets, err = openSockets(cfg, workers, i, readOpen)
	}
	if err != nil {
		return nil, err
	}
	for _, s := range sockets {
		ports = append(ports, &port{name: cfg.Interfaces[i].Name, fd: s.Ring, wakeFD: s.Wake})
	}
	for _, p := range ports {
		size := cfg.BlockSize * cfg.Blocks
		if p.mem, err = unix.Mmap(p.fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
			closePorts(ports)
			return nil, fmt.Errorf("interface %s: map ring of %d bytes: %w", p.name, size, err)
		}
		p.rx = newReader(p.mem, cfg.BlockSize, uint16(i), &p.counts)
		p.rx.readsOpen = readOpen
		if !readOpen {
			p.wakeFD = p.fd
		}
	}
	return ports, nil
}

// Sockets are the descriptors of one worker on one interface: a packet socket with a ring that
// is not mapped yet, and the wake socket. -1: there is none.
type Sockets struct{ Ring, Wake int }

// Close closes both.
func (s Sockets) Close() {
	_ = closeFD(s.Wake)
	_ = closeFD(s.Ring)
}

func closeSockets(sockets []Sockets) {
	for _, s := range sockets {
		s.Close()
	}
}

// OpenSockets opens the sockets of every worker on interface i, or none. It does what needs
// CAP_NET_RAW, and for Config.Mark CAP_NET_ADMIN. A process without them can use the sockets.
func OpenSockets(cfg Config, workers, i int) ([]Sockets, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return openSockets(cfg, workers, i, readsOpenBlocks)
}

func openSockets(cfg Config, workers, i int, readOpen bool) (sockets []Sockets, err error) {
	err = inNamespace(cfg.Interfaces[i].Netns, func() (err error) {
		sockets, err = openInCurrentNetns(workers, i, cfg, readOpen)
		return err
	})
	return sockets, err
}

// openInCurrentNetns is openSockets in the namespace of the calling thread.
//
// While the kernel sets up a ring, its socket has no protocol (packet_set_ring). An
// interface that comes up at that moment does not attach the socket
// (packet_notifier), which then never receives. So sockets that were opened while the
// interface came up are opened again.
func openInCurrentNetns(workers, i int, cfg Config, readOpen bool) (sockets []Sockets, err error) {
	for {
		before, err := findInterface(cfg.Interfaces[i].Name)
		if err != nil {
			return nil, err
		}
		sockets, err := openOn(before, workers, cfg, cfg.Interfaces[i].QdiscBypass, readOpen)
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", before.Name, err)
		}
		after, err := findInterface(before.Name)
		if err == nil && (before.Flags&net.FlagUp != 0 || after.Flags&net.FlagUp == 0) {
			return sockets, nil
		}
		closeSockets(sockets)
		if err != nil {
			return nil, err
		}
	}
}

func findInterface(name string) (*net.Interface, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w: %w", name, unix.ENODEV, err)
	}
	return ifi, nil
}

func closePorts(ports []*port) {
	for _, p := range ports {
		_ = p.close()
	}
}

// openOn is openInCurrentNetns without that check.
func openOn(ifi *net.Interface, workers int, cfg Config, bypass, readOpen bool) (sockets []Sockets, err error) {
	defer func() {
		if err != nil {
			closeSockets(sockets)
			sockets = nil
		}
	}()
	wakeSockets := fanout{steer: cfg.Steer, workers: workers}
	for w := range workers {
		sockets = append(sockets, Sockets{Ring: -1, Wake: -1})
		if readOpen {
			if sockets[w].Wake, err = openWakeSocket(ifi, &wakeSockets); err != nil {
				return sockets, fmt.Errorf("open wake socket: %w", err)
			}
		}
	}
	rings := fanout{steer: cfg.Steer, workers: workers}
	for w := range sockets {
		s := &sockets[w]
		if s.Ring, err = listen(ifi); err != nil {
			return sockets, err
		}
		if err := receiveAllMulticast(s.Ring, ifi); err != nil {
			return sockets, err
		}
		if err := makeRing(s.Ring, cfg, bypass, readOpen, &rings); err != nil {
			return sockets, err
		}
	}
	return sockets, nil
}

// listen opens a packet socket that receives every frame of ifi. It keeps only the
// descriptor: Go's poller would wake up for every frame.
func listen(ifi *net.Interface) (fd int, err error) {
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
	if errors.Is(err, fs.ErrPermission) {
		return -1, fmt.Errorf("%w: receiving raw frames needs CAP_NET_RAW", err)
	} else if err != nil {
		return -1, err
	}
	defer conn.Close()
	if fd, err = CopyFD(conn); err != nil {
		return -1, err
	}
	if err := checkEthernet(fd); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// CopyFD returns a copy of a connection's descriptor, which stays open when the connection is
// closed.
func CopyFD(conn syscall.Conn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed error
	err = raw.Control(func(c uintptr) { fd, failed = unix.FcntlInt(c, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(err, failed); err != nil {
		return -1, fmt.Errorf("keep descriptor: %w", err)
	}
	return fd, nil
}

// checkEthernet refuses devices whose frames have no Ethernet header.
func checkEthernet(fd int) error {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("get hardware type: %w", err)
	}
	if ll, ok := sa.(*unix.SockaddrLinklayer); ok && ll.Hatype != unix.ARPHRD_ETHER &&
		ll.Hatype != unix.ARPHRD_LOOPBACK {
		return fmt.Errorf("hardware type %d: want Ethernet (%d)", ll.Hatype, unix.ARPHRD_ETHER)
	}
	return nil
}

// receiveAllMulticast makes the device accept all multicast frames while the socket
// is open. Neighbour solicitations for addresses that the host does not have are
// sent to groups that it did not join.
func receiveAllMulticast(fd int, ifi *net.Interface) error {
	err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
		&unix.PacketMreq{Ifindex: int32(ifi.Index), Type: unix.PACKET_MR_ALLMULTI})
	if err != nil {
		return fmt.Errorf("receive all multicast: %w", err)
	}
	return nil
}

// option is one setsockopt at SOL_PACKET. label names the option and the kernel that has it.
type option struct {
	name  int
	value int
	label string
}

// set applies options in order.
func set(fd int, options []option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, o.name, o.value); err != nil {
			return fmt.Errorf("set %s to %d: %w", o.label, o.value, err)
		}
	}
	return nil
}

// openWakeSocket opens a packet socket without a ring on ifi, with the smallest possible
// queue.
func openWakeSocket(ifi *net.Interface, group *fanout) (fd int, err error) {
	if fd, err = listen(ifi); err != nil {
		return -1, err
	}
	err = set(fd, []option{{unix.PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING (Linux 4.20)"}})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0) // raised to the kernel's minimum
	}
	if err == nil {
		err = group.join(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// makeRing sets the options of the socket, joins it to the group, and makes its ring,
// in this order. The kernel accepts PACKET_VNET_HDR only before there is a ring.
// When it makes the ring, it drops the frames that the socket received before it
// joined, so that no frame goes to two workers.
func makeRing(fd int, cfg Config, bypass, readOpen bool, group *fanout) error {
	options := []option{
		{unix.PACKET_VERSION, unix.TPACKET_V3, "PACKET_VERSION (TPACKET_V3: Linux 3.2)"},
		{unix.PACKET_VNET_HDR, 1, "PACKET_VNET_HDR (with rings: Linux 4.6)"},
		{unix.PACKET_RESERVE, reserve, "PACKET_RESERVE"},
		{unix.PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING (Linux 4.20)"},
	}
	if bypass {
		options = append(options, option{unix.PACKET_QDISC_BYPASS, 1, "PACKET_QDISC_BYPASS"})
	}
	if err := set(fd, options); err != nil {
		return err
	}
	if cfg.Mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(cfg.Mark)); err != nil {
			return fmt.Errorf("set SO_MARK to %#x: %w", cfg.Mark, err)
		}
	}
	// More than net.core.wmem_max needs CAP_NET_ADMIN. Without it the buffer is smaller.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, cfg.SendBuffer) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, cfg.SendBuffer); err != nil {
			return fmt.Errorf("set send buffer to %d bytes: %w", cfg.SendBuffer, err)
		}
	}
	if err := group.join(fd); err != nil {
		return err
	}
	err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &unix.TpacketReq3{
		Block_size: uint32(cfg.BlockSize),
		Block_nr:   uint32(cfg.Blocks),
		// V3 packs frames of any size. These two must only be consistent.
		Frame_size:     uint32(cfg.BlockSize),
		Frame_nr:       uint32(cfg.Blocks),
		Retire_blk_tov: blockTimer(readOpen),
	})
	if err != nil {
		return fmt.Errorf("make ring of %d blocks of %d bytes: %w", cfg.Blocks, cfg.BlockSize, err)
	}
	return nil
}

// fanout is a fanout group to which sockets are added: the wake sockets or the rings of all
// workers on one interface.
type fanout struct {
	steer   []bpf.RawInstruction
	workers int
	id      int // unique; the kernel chooses it for the first member
	members int
}

// join makes the socket the next member. A single worker needs no group.
func (g *fanout) join(fd int) error {
	if g.workers == 1 {
		return nil
	}
	mode := unix.PACKET_FANOUT_HASH
	if g.steer != nil {
		mode = unix.PACKET_FANOUT_CBPF
	}
	// A group has its own tap, which ignores the setting of the members.
	mode |= unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING
	if g.members == 0 {
		mode |= unix.PACKET_FANOUT_FLAG_UNIQUEID
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, mode<<16|g.id); err != nil {
		return fmt.Errorf("join fanout group (Linux 4.20) as member %d of %d: %w", g.members+1, g.workers, err)
	}
	if g.members == 0 {
		v, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
		if err != nil {
			return fmt.Errorf("get fanout id: %w", err)
		}
		g.id = v & 0xffff
		if err := g.attach(fd); err != nil {
			return err
		}
	}
	g.members++
	return nil
}

// attach attaches the steering program, if there is one.
func (g *fanout) attach(fd int) error {
	if g.steer == nil {
		return nil
	}
	filter := make([]unix.SockFilter, len(g.steer))
	for i, in := range g.steer {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	if len(filter) == 0 {
		return errors.New("attach steering program: it is empty")
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_PACKET, unix.PACKET_FANOUT_DATA, &prog); err != nil {
		return fmt.Errorf("attach steering program of %d instructions: %w", len(filter), err)
	}
	return nil
}
