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
//
// Generic receive offload on the receiving device may join the TCP segments
// inside a tunnel to one packet with a half-made checksum, which a raw socket
// cannot tell; it has to be off there.
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

// Bytes of the IP headers used here.
//
//	IPv4 (RFC 791 3.1): version+IHL 0, TOS 1, total length 2-3, checksum 10-11, destination 16-19
//	IPv6 (RFC 8200 3):  version+class 0-1, payload length 4-5, destination 24-39
const (
	v4MinLen   = 20
	v4TOS      = 1
	v4TotalLen = 2
	v4Checksum = 10
	v4Dst      = 16
	v6Len      = 40
	v6Payload  = 4
	v6Dst      = 24
)

// unwrap finds the inner packet of what the socket gave, cut to the length its
// header states, and the ECN bits of the outer header.
func (s tunnelSocket) unwrap(b, oob []byte) (inner []byte, ecn byte, ok bool) {
	if s.outer == 4 { // an IPv4 raw socket gives the header too
		if len(b) < v4MinLen || len(b) < int(b[0]&0x0f)*4 {
			return nil, 0, false
		}
		b, ecn = b[int(b[0]&0x0f)*4:], b[v4TOS]&3
	} else if len(oob) >= unix.CmsgLen(4) {
		ecn = byte(binary.NativeEndian.Uint32(oob[unix.CmsgLen(0):])) & 3
	}
	var length int
	switch {
	case s.inner == 4 && len(b) >= v4MinLen && b[0]>>4 == 4:
		length = int(binary.BigEndian.Uint16(b[v4TotalLen:]))
		ok = length >= v4MinLen
	case s.inner == 6 && len(b) >= v6Len && b[0]>>4 == 6:
		length = v6Len + int(binary.BigEndian.Uint16(b[v6Payload:]))
		ok = true
	}
	if !ok || length > len(b) {
		return nil, 0, false
	}
	return b[:length], ecn, true
}

// destination returns the destination address of a packet unwrap found good.
func destination(inner []byte) netip.Addr {
	if inner[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(inner[v4Dst:]))
	}
	return netip.AddrFrom16([16]byte(inner[v6Dst:]))
}

// Values of the ECN field, RFC 3168 5.
const (
	ecnNone = 0
	ecnCE   = 3
)

// markCongestion carries "congestion experienced" from the outer header to the
// inner one, and reports false for a packet that must be dropped because its
// sender would not understand (RFC 6040 4.2).
func markCongestion(inner []byte, outer byte) bool {
	if outer != ecnCE {
		return true
	}
	if inner[0]>>4 == 6 {
		// The traffic class straddles the first two bytes; ECN is bits 4-5 of the second.
		if inner[1]>>4&3 == ecnNone {
			return false
		}
		inner[1] |= ecnCE << 4
		return true
	}
	if inner[v4TOS]&3 == ecnNone {
		return false
	}
	old := binary.BigEndian.Uint16(inner[0:])
	inner[v4TOS] |= ecnCE
	// RFC 1624 eqn. 3: HC' = ~(~HC + ~m + m')
	sum := uint32(^binary.BigEndian.Uint16(inner[v4Checksum:])) + uint32(^old) + uint32(binary.BigEndian.Uint16(inner[0:]))
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	binary.BigEndian.PutUint16(inner[v4Checksum:], ^uint16(sum))
	return true
}

// deliver sends a packet over the loopback device, and reports whether the
// kernel took it. The device's index is 1 in every network namespace and its
// hardware address is zero.
func (d *decapsulator) deliver(inner []byte) bool {
	to := unix.SockaddrLinklayer{Ifindex: 1, Halen: 6, Protocol: networkOrder(unix.ETH_P_IP)}
	if inner[0]>>4 == 6 {
		to.Protocol = networkOrder(unix.ETH_P_IPV6)
	}
	return unix.Sendto(d.out, inner, 0, &to) == nil
}

func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
