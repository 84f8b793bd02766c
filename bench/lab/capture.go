package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"uvs/bench/realserver"
	"uvs/dataplane/wire"
)

// Capture counts what arrives at a node's eth0. It shows whether another stack,
// such as the director's own kernel, also handled the packets of the test. It
// counts how often each flow was opened, RSTs and ICMP errors. Of a tunnel it
// counts the inner packet.
type Capture struct {
	node string
	fd   int
	stop atomic.Bool
	done chan error

	opens     map[flow]int // TCP SYNs (from servers: SYN-ACKs) and datagrams, by flow
	resets    int
	icmp      int    // errors and redirects
	firstICMP string // the first of them, for the report
}

// flow is one direction of a connection as its receiver saw it.
type flow struct {
	proto    byte
	src, dst netip.AddrPort
}

// Capture starts a capture; the caller must call Stop.
func (l *Lab) Capture(node string) (*Capture, error) {
	c := &Capture{node: node, done: make(chan error, 1), opens: map[flow]int{}}
	err := l.Do(node, func() (err error) {
		c.fd, err = openCapture("eth0")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture on %s: %w", node, err)
	}
	go func() { c.done <- c.run() }()
	return c, nil
}

// captureBuffer is the receive buffer in bytes; it holds some ten thousand
// small packets.
const captureBuffer = 32 << 20

// captureWait is for how long nothing may arrive before a capture stops, in
// microseconds. It leaves time for late copies.
const captureWait = 50_000

// openCapture opens a packet socket on an interface of the calling thread's
// namespace. It binds the socket last, so that it misses nothing from then on.
func openCapture(iface string) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	fail := func(what string, err error) (int, error) {
		unix.Close(fd)
		return -1, fmt.Errorf("%s: %w", what, err)
	}
	dev, err := net.InterfaceByName(iface)
	if err != nil {
		return fail("find "+iface, err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer) != nil {
		// Without privilege on the host: as much as rmem_max allows. Stop
		// reports losses.
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, captureBuffer)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fail("ignore own packets", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO,
		&unix.Timeval{Usec: captureWait}); err != nil {
		return fail("set receive timeout", err)
	}
	to := &unix.SockaddrLinklayer{Protocol: realserver.NetworkOrder(unix.ETH_P_ALL), Ifindex: dev.Index}
	if err := unix.Bind(fd, to); err != nil {
		return fail("bind", err)
	}
	return fd, nil
}

// Stop ends the capture once nothing arrives any more. The counts are valid
// then. The error says if the capture missed packets.
func (c *Capture) Stop() error {
	c.stop.Store(true)
	err := <-c.done
	stats, staterr := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	unix.Close(c.fd)
	if err = errors.Join(err, staterr); err != nil {
		return fmt.Errorf("capture on %s: %w", c.node, err)
	}
	if stats.Drops > 0 {
		return fmt.Errorf("capture on %s: %d packets lost for want of room", c.node, stats.Drops)
	}
	return nil
}

func (c *Capture) run() error {
	buf := make([]byte, 256) // headers; longer packets are cut
	for {
		n, from, err := unix.Recvfrom(c.fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if c.stop.Load() {
				return nil
			}
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		default:
			// A bridge floods frames to unknown addresses; to this node they
			// are PACKET_OTHERHOST.
			if from, ok := from.(*unix.SockaddrLinklayer); ok && from.Pkttype == unix.PACKET_HOST {
				c.count(buf[:n])
			}
		}
	}
}

// count counts one IP packet. TCP has ports in bytes 0-3 and flags in 13 (RFC
// 9293), UDP ports in 0-3 (RFC 768), ICMP and ICMPv6 the type in 0.
func (c *Capture) count(b []byte) {
	var src, dst netip.Addr
	var proto byte
	switch {
	case len(b) >= wire.IPv4Len && b[0]>>4 == 4 && len(b) >= wire.IPv4(b).HeaderLen():
		h := wire.IPv4(b)
		if h.FragmentOffset() != 0 {
			return // a later fragment has no ports
		}
		src, dst, proto, b = h.Src().Netip(), h.Dst().Netip(), h.Protocol(), b[h.HeaderLen():]
	case len(b) >= wire.IPv6Len && b[0]>>4 == 6:
		h := wire.IPv6(b)
		src, dst, proto, b = h.Src().Netip(), h.Dst().Netip(), h.NextHeader(), b[wire.IPv6Len:]
	default:
		return // ARP and others
	}
	switch {
	case proto == unix.IPPROTO_IPIP || proto == unix.IPPROTO_IPV6:
		c.count(b)
	case proto == unix.IPPROTO_ICMP && len(b) > 0 && slices.Contains(icmpErrors, b[0]),
		// below 128: errors, RFC 4443 section 2.1
		proto == unix.IPPROTO_ICMPV6 && len(b) > 0 && (b[0] < 128 || b[0] == icmpv6Redirect):
		if c.icmp++; c.icmp == 1 {
			c.firstICMP = fmt.Sprintf("type %d from %s", b[0], src)
		}
	case proto == unix.IPPROTO_TCP && len(b) >= 20 && b[13]&wire.TCPRst != 0:
		c.resets++
	case proto == unix.IPPROTO_TCP && len(b) >= 20 && b[13]&wire.TCPSyn != 0,
		proto == unix.IPPROTO_UDP && len(b) >= 8:
		c.opens[flow{proto, withPort(src, b[0:]), withPort(dst, b[2:])}]++
	}
}

const icmpv6Redirect = 137 // RFC 4861 section 4.5

// icmpErrors are the ICMP types of errors and redirects (RFC 792): unreachable,
// source quench, redirect, time exceeded, parameter problem.
var icmpErrors = []byte{3, 4, 5, 11, 12}

func withPort(addr netip.Addr, port []byte) netip.AddrPort {
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port))
}
