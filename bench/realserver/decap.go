package realserver

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// decapsulator decapsulates IPv4 and IPv6 packets from tunnels over IPv4 and
// IPv6, of every encapsulation of package tunnel. It needs no tunnel device.
//
// It listens on raw sockets, or on UDP sockets. The kernel delivers whole
// datagrams, reassembled and with a correct UDP checksum. It does not answer
// "protocol unreachable", because a socket received them. The decapsulator
// sends the inner packet over the loopback device with a packet socket. The
// host's stack receives it there like any other, and replies by its own routes.
type decapsulator struct {
	vips  map[netip.Addr]bool
	socks []*tunnelSocket
	out   int // packet socket, used only to send

	taken, refused atomic.Uint64
}

// tunnelSocket receives the packets of one encapsulation over one IP version.
type tunnelSocket struct {
	conn   socket
	outer  int   // IP version
	header bool  // packets have their outer header, as IPv4 raw sockets deliver them
	proto  uint8 // of the outer header
	encap  *tunnel.Encapsulation
}

// socket is a net.IPConn or net.UDPConn.
type socket interface {
	syscall.Conn
	SetReadBuffer(bytes int) error
	Close() error
}

// rawBuffer is the receive buffer of a tunnel socket, in bytes. It holds more
// than the window of a TCP connection in one burst, with the kernel's overhead.
const rawBuffer = 16 << 20

// openDecapsulator opens the sockets and makes the host accept the packets.
// They arrive on lo from addresses that are routed elsewhere, which a reverse
// path filter drops. The cleanups that end serve go to stop, the others to
// undo.
func openDecapsulator(vips []netip.Addr, ports map[tunnel.Type]uint16, stop, undo *cleanups) (*decapsulator, error) {
	d := &decapsulator{vips: map[netip.Addr]bool{}}
	for _, vip := range vips {
		d.vips[vip.Unmap()] = true
	}
	for _, dev := range []string{"all", "lo"} {
		if err := setSysctl("net/ipv4/conf/"+dev+"/rp_filter", "0", undo); err != nil {
			return nil, fmt.Errorf("decapsulate: %w", err)
		}
	}
	var err error
	if d.out, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("decapsulate: open packet socket: %w", err)
	}
	undo.add(func() error { return unix.Close(d.out) })
	for _, outer := range []int{4, 6} {
		for t, e := range tunnel.All() {
			for _, s := range socketsOf(outer, e) {
				if err := s.listen(cmp.Or(ports[t], e.Port)); err != nil {
					return nil, fmt.Errorf("decapsulate: listen for %s over IPv%d: %w", t, outer, err)
				}
				stop.add(s.conn.Close)
				d.socks = append(d.socks, s)
			}
		}
	}
	return d, nil
}

// socketsOf returns the sockets of an encapsulation over an IP version: one, or
// for IPIP one for each inner protocol.
func socketsOf(outer int, e *tunnel.Encapsulation) (socks []*tunnelSocket) {
	for _, proto := range slices.Compact([]uint8{e.Proto(wire.ProtoIPIP), e.Proto(wire.ProtoIPv6)}) {
		header := outer == 4 && proto != wire.ProtoUDP
		socks = append(socks, &tunnelSocket{outer: outer, header: header, proto: proto, encap: e})
	}
	return socks
}

// listen opens the socket, for UDP on a port, and requests the TOS or traffic
// class of its packets. UDP over IPv6 may have no checksum, which RFC 6935
// permits for tunnels.
func (s *tunnelSocket) listen(port uint16) (err error) {
	udp := s.proto == wire.ProtoUDP
	if udp {
		s.conn, err = net.ListenUDP(fmt.Sprintf("udp%d", s.outer), &net.UDPAddr{Port: int(port)})
	} else {
		s.conn, err = net.ListenIP(fmt.Sprintf("ip%d:%d", s.outer, s.proto), nil)
	}
	if err != nil {
		return err
	}
	level, option := unix.SOL_IP, unix.IP_RECVTOS
	if s.outer == 6 {
		level, option = unix.SOL_IPV6, unix.IPV6_RECVTCLASS
	}
	err = SetSockopt(s.conn, level, option, 1)
	if err == nil && udp && s.outer == 6 {
		err = SetSockopt(s.conn, unix.SOL_UDP, unix.UDP_NO_CHECK6_RX, 1)
	}
	if err != nil {
		s.conn.Close()
		return err
	}
	if SetSockopt(s.conn, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, rawBuffer) != nil {
		s.conn.SetReadBuffer(rawBuffer) // without privilege: as much as rmem_max allows
	}
	return nil
}

// read receives one packet and its control messages.
func (s *tunnelSocket) read(b, oob []byte) (n, oobn int, err error) {
	switch c := s.conn.(type) {
	case *net.UDPConn:
		n, oobn, _, _, err = c.ReadMsgUDP(b, oob)
	case *net.IPConn:
		n, oobn, _, _, err = c.ReadMsgIP(b, oob)
	}
	return n, oobn, err
}

// serve decapsulates packets until the sockets are closed.
func (d *decapsulator) serve() {
	var wg sync.WaitGroup
	for _, s := range d.socks {
		wg.Go(func() { d.receive(s) })
	}
	wg.Wait()
}

func (d *decapsulator) receive(s *tunnelSocket) {
	buf := make([]byte, 1<<16)
	oob := make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, err := s.read(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		inner, ecn, ok := s.decapsulate(buf[:n], oob[:oobn])
		if ok && d.vips[destination(inner)] && tunnel.CombineECN(inner, ecn) && d.deliver(inner) {
			d.taken.Add(1)
		} else {
			d.refused.Add(1)
		}
	}
}

// deliver completes a packet's checksum and sends it over the loopback device.
// It reports whether the kernel accepted it. The device has index 1 in every
// network namespace, and its hardware address is zero.
func (d *decapsulator) deliver(inner []byte) bool {
	completeChecksum(inner)
	to := unix.SockaddrLinklayer{Ifindex: 1, Halen: 6, Protocol: NetworkOrder(unix.ETH_P_IP)}
	if inner[0]>>4 == 6 {
		to.Protocol = NetworkOrder(unix.ETH_P_IPV6)
	}
	return unix.Sendto(d.out, inner, 0, &to) == nil
}

// NetworkOrder returns a 16-bit field of a socket address as packet sockets take
// it.
func NetworkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
