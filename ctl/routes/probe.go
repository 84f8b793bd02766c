package routes

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

const (
	// reachableTime is how long a reply is trusted: REACHABLE_TIME of RFC 4861
	// section 10.
	reachableTime = 30 * time.Second

	// probeTimeout is how long after that a neighbour may stay silent before it
	// is removed: MAX_UNICAST_SOLICIT times RETRANS_TIMER, same section.
	probeTimeout = 3 * retransTime
)

// prober solicits neighbours from packet sockets where the kernel cannot. It
// opens a socket on an interface when it first needs one there. It belongs to
// the goroutine of Watcher.Run.
type prober struct {
	privileged Privileged

	replies chan reply
	done    chan struct{}
	readers sync.WaitGroup
	conns   map[linkID]*os.File
	learned map[neighbourID]confirmation
}

// reply is a neighbour's reply.
type reply struct {
	id  neighbourID
	mac wire.MAC
}

// confirmation is the hardware address in a neighbour's last reply, and when that came.
type confirmation struct {
	mac wire.MAC
	at  time.Time
}

func newProber(privileged Privileged) prober {
	return prober{
		privileged: privileged,
		replies:    make(chan reply), done: make(chan struct{}),
		conns: map[linkID]*os.File{}, learned: map[neighbourID]confirmation{},
	}
}

// close stops the readers.
func (p *prober) close() {
	close(p.done)
	for _, c := range p.conns {
		c.Close()
	}
	p.readers.Wait()
}

// isReachable reports whether a neighbour replied within reachableTime.
func (p *prober) isReachable(id neighbourID, now time.Time) bool {
	l, ok := p.learned[id]
	return ok && now.Sub(l.at) < reachableTime
}

// solicit sends a request for a neighbour without a source address: an ARP probe
// (RFC 5227 section 1.1), or the solicitation of duplicate address detection (RFC
// 4862 section 5.4.2). The owner's reply to the latter goes to all nodes.
func (p *prober) solicit(port director.Port, id neighbourID) error {
	c, err := p.conn(port)
	if err != nil {
		return fmt.Errorf("open packet socket to solicit %s: %w", id.addr, err)
	}
	target := wire.AddrFrom(id.addr)
	frame := arp(wire.ARPRequest, port.MAC, wire.Addr{}, wire.MAC{}, target)
	if id.addr.Is6() {
		frame = solicitation(port.MAC, target)
	}
	frame = tagFrame(frame, port.VLAN)
	_, err = c.Write(frame)
	return err
}

// tagFrame puts a frame into a VLAN; 0 leaves it untagged.
func tagFrame(frame []byte, vlan uint16) []byte {
	if vlan == 0 {
		return frame
	}
	f := wire.Frame{Buf: append(make([]byte, wire.VLANLen), frame...), Off: wire.VLANLen}
	f.End = int32(len(f.Buf))
	wire.PushVLAN(&f, wire.EtherTypeVLAN, vlan)
	return f.Bytes()
}

// solicitation makes a neighbour solicitation without a source.
func solicitation(mac wire.MAC, target wire.Addr) []byte {
	// RFC 4291 section 2.7.1: ff02::1:ff and the last three bytes.
	group := wire.Addr{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]}
	frame, _ := neighbourFrame(wire.ICMPv6Solicit, mac, wire.Addr{}, group, target, 0)
	setChecksum(frame)
	return frame
}

// conn returns the socket on the link of a port.
func (p *prober) conn(port director.Port) (*os.File, error) {
	link := linkOf(port)
	if c := p.conns[link]; c != nil {
		return c, nil
	}
	filter, err := bpf.Assemble(append(vlanFilter(port.VLAN), repliesOnly...))
	if err != nil {
		return nil, err
	}
	c, err := p.privileged.PacketSocket(port.Index, unix.ETH_P_ALL, filter)
	if err != nil {
		return nil, err
	}
	if err := joinAllNodes(c, port.Index); err != nil {
		c.Close()
		return nil, err
	}
	p.conns[link] = c
	p.readers.Go(func() { p.read(c, link) })
	return c, nil
}

// vlanFilter accepts frames of a VLAN, or for 0 untagged ones. The kernel has
// taken the tag out of the frame.
func vlanFilter(vlan uint16) []bpf.Instruction {
	if vlan == 0 {
		return []bpf.Instruction{
			bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
			bpf.RetConstant{Val: 0},
		}
	}
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTag},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfff},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(vlan), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
}

// repliesOnly accepts ARP replies, and neighbour advertisements without
// extension headers.
var repliesOnly = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 12, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: wire.EtherTypeIPv6, SkipTrue: 3},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: wire.EtherTypeARP, SkipTrue: 6},
	bpf.LoadAbsolute{Off: wire.EthernetLen + 6, Size: 2}, // operation
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: wire.ARPReply, SkipTrue: 5, SkipFalse: 4},
	bpf.LoadAbsolute{Off: wire.EthernetLen + 6, Size: 1}, // next header
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: wire.ProtoICMPv6, SkipTrue: 2},
	bpf.LoadAbsolute{Off: wire.EthernetLen + wire.IPv6Len, Size: 1}, // type
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: wire.ICMPv6Advertise, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: 1 << 16},
}

// joinAllNodes makes the interface receive what is sent to all IPv6 nodes,
// which it otherwise does not while IPv6 is off.
func joinAllNodes(c *os.File, index int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	group := unix.PacketMreq{
		Ifindex: int32(index), Type: unix.PACKET_MR_MULTICAST, Alen: 6,
		Address: [8]byte{0x33, 0x33, 5: 1},
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &group)
	})
	return errors.Join(err, failed)
}

// read passes replies on until the socket is closed or its interface is gone.
func (p *prober) read(c *os.File, link linkID) {
	buf := make([]byte, 256) // more than any reply has
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		a, ok := decodeReply(buf[:n])
		if !ok {
			continue
		}
		a.id.link = link
		select {
		case p.replies <- a:
		case <-p.done:
			return
		}
	}
}

// decodeReply decodes an ARP reply, or a neighbour advertisement with its
// link-layer address option.
func decodeReply(frame []byte) (a reply, ok bool) {
	if len(frame) < wire.EthernetLen {
		return a, false
	}
	body := frame[wire.EthernetLen:]
	var owner wire.Addr
	switch wire.Ethernet(frame).Type() {
	case wire.EtherTypeARP:
		if len(body) < wire.ARPLen || wire.ARP(body).Operation() != wire.ARPReply {
			return a, false
		}
		owner, a.mac = wire.ARP(body).SenderIP(), wire.ARP(body).SenderMAC()
	case wire.EtherTypeIPv6:
		const full = wire.IPv6Len + wire.NeighbourLen + wire.NeighbourOptionLen
		ip := wire.IPv6(body)
		if len(body) < full || ip.NextHeader() != wire.ProtoICMPv6 || ip.HopLimit() != 255 {
			return a, false
		}
		m := body[wire.IPv6Len:full]
		option := m[wire.NeighbourLen:]
		if wire.ICMP(m).Type() != wire.ICMPv6Advertise || option[0] != wire.OptionTargetMAC || option[1] != 1 {
			return a, false
		}
		owner, a.mac = wire.Neighbour(m).Target(), wire.MAC(option[2:8])
	}
	a.id.addr = owner.Netip()
	return a, !a.mac.IsZero() && !a.mac.IsGroup()
}

// learn records a neighbour's reply and reports whether it changes the address.
func (p *prober) learn(a reply, now time.Time) bool {
	old := p.learned[a.id]
	p.learned[a.id] = confirmation{a.mac, now}
	return old.mac != a.mac
}

// expire removes neighbours that have been silent too long; those that are not
// wanted sooner. It reports whether it removed any.
func (p *prober) expire(wanted map[neighbourID]bool, now time.Time) (any bool) {
	for id, l := range p.learned {
		if silent := now.Sub(l.at); silent > reachableTime && !wanted[id] || silent > reachableTime+probeTimeout {
			delete(p.learned, id)
			any = true
		}
	}
	return any
}

// addNeighbours adds the learned neighbours to hostNet, except those that the
// kernel knows.
func (p *prober) addNeighbours(hostNet *director.HostNet) {
	ports := portsByLink(hostNet.Ports)
	for id, l := range p.learned {
		port, ok := ports[id.link]
		key := director.NeighbourKey{Port: port, Addr: wire.AddrFrom(id.addr)}
		if _, known := hostNet.Neighbours[key]; ok && !known {
			hostNet.Neighbours[key] = l.mac
		}
	}
}
