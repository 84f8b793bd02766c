package realserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// decapsulator takes IPIP packets (RFC 2003, 2473, 4213: IPv4 or IPv6 in either)
// out of their tunnel without a tunnel device.
//
// It listens on raw sockets: the kernel hands over whole datagrams, reassembled,
// and because someone took them it does not answer "protocol unreachable". The
// inner packet is sent over the loopback device with a packet socket, where the
// host's stack receives it like any other, and answers by its own routes.
type decapsulator struct {
	vips  map[netip.Addr]bool
	socks []tunnelSocket
	out   int // packet socket, sends only

	taken, refused atomic.Uint64
}

// tunnelSocket receives one of the four kinds of tunnel packet.
type tunnelSocket struct {
	conn         *net.IPConn
	outer, inner int // IP versions
}

// rawBuffer is the receive buffer of a tunnel socket: more than the window of
// a TCP connection in one burst, with the kernel's bookkeeping counted.
const rawBuffer = 16 << 20

// openDecapsulator opens the sockets and makes the host accept the packets:
// they arrive on lo from addresses routed elsewhere, which a reverse path filter
// refuses. What ends serve goes to stop, the rest to undo.
func openDecapsulator(vips []netip.Addr, stop, undo *undoList) (*decapsulator, error) {
	d := &decapsulator{vips: map[netip.Addr]bool{}}
	for _, vip := range vips {
		d.vips[vip.Unmap()] = true
	}
	for _, dev := range []string{"all", "lo"} {
		if err := setSysctl("net/ipv4/conf/"+dev+"/rp_filter", "0", undo); err != nil {
			return nil, fmt.Errorf("take packets out of tunnels: %w", err)
		}
	}
	var err error
	if d.out, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("take packets out of tunnels: open packet socket: %w", err)
	}
	undo.add(func() error { return unix.Close(d.out) })
	for _, kind := range []tunnelSocket{{outer: 4, inner: 4}, {outer: 4, inner: 6}, {outer: 6, inner: 4}, {outer: 6, inner: 6}} {
		if kind.conn, err = listenTunnel(kind.outer, kind.inner); err != nil {
			return nil, fmt.Errorf("take IPv%d out of IPv%d tunnels: %w", kind.inner, kind.outer, err)
		}
		stop.add(kind.conn.Close)
		d.socks = append(d.socks, kind)
	}
	return d, nil
}

// listenTunnel opens the raw socket for packets of version inner in packets of
// version outer.
func listenTunnel(outer, inner int) (*net.IPConn, error) {
	proto := unix.IPPROTO_IPIP
	if inner == 6 {
		proto = unix.IPPROTO_IPV6
	}
	conn, err := net.ListenIP(fmt.Sprintf("ip%d:%d", outer, proto), nil)
	if err != nil {
		return nil, err
	}
	if outer == 6 { // the socket hands over no outer header, so ask for its traffic class
		if err := setSockopt(conn, unix.SOL_IPV6, unix.IPV6_RECVTCLASS, 1); err != nil {
			conn.Close()
			return nil, err
		}
	}
	if setSockopt(conn, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, rawBuffer) != nil {
		conn.SetReadBuffer(rawBuffer) // without privilege: as much as rmem_max allows
	}
	return conn, nil
}

// serve takes packets until the sockets are closed.
func (d *decapsulator) serve() {
	var wg sync.WaitGroup
	for _, s := range d.socks {
		wg.Go(func() { d.receive(s) })
	}
	wg.Wait()
}

func (d *decapsulator) receive(s tunnelSocket) {
	buf := make([]byte, 1<<16)
	oob := make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := s.conn.ReadMsgIP(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		inner, ecn, ok := s.unwrap(buf[:n], oob[:oobn])
		if ok && d.vips[destination(inner)] && markCongestion(inner, ecn) && d.deliver(inner) {
			d.taken.Add(1)
		} else {
			d.refused.Add(1)
		}
	}
}

// deliver sends a packet, with its checksum complete, over the loopback device,
// and reports whether the kernel took it. The device's index is 1 in every network namespace and its
// hardware address is zero.
func (d *decapsulator) deliver(inner []byte) bool {
	completeChecksum(inner)
	to := unix.SockaddrLinklayer{Ifindex: 1, Halen: 6, Protocol: networkOrder(unix.ETH_P_IP)}
	if inner[0]>>4 == 6 {
		to.Protocol = networkOrder(unix.ETH_P_IPV6)
	}
	return unix.Sendto(d.out, inner, 0, &to) == nil
}

func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
