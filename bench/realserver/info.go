package realserver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// serveInfo sends the server's name on a line to every connection, and then
// echoes.
func (s *Server) serveInfo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed; Accept retries temporary errors itself
		}
		if !s.track(c) {
			return
		}
		s.done.Go(func() {
			defer s.untrack(c)
			if _, err := io.WriteString(c, s.name+"\n"); err == nil {
				io.Copy(c, c)
			}
		})
	}
}

// track records c for Close. If Close was called already, it closes c and
// returns false.
func (s *Server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	s.conns[c] = true
	return true
}

func (s *Server) untrack(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// listenUDP opens a datagram socket that learns to which of the host's
// addresses each datagram was sent. A host with several addresses (a RIP and
// VIPs) must reply from that one.
func listenUDP(addr netip.Addr, port uint16) (*net.UDPConn, error) {
	u, err := net.ListenUDP(network("udp", addr), net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port)))
	if err != nil {
		return nil, err
	}
	level, opt := unix.SOL_IPV6, unix.IPV6_RECVPKTINFO
	if addr.Unmap().Is4() {
		level, opt = unix.SOL_IP, unix.IP_PKTINFO
	}
	if err := SetSockopt(u, level, opt, 1); err != nil {
		u.Close()
		return nil, fmt.Errorf("request destination addresses: %w", err)
	}
	return u, nil
}

// serveInfoUDP replies to every datagram with the server's name, a blank and
// the datagram, cut to what a datagram can hold.
func (s *Server) serveInfoUDP(u *net.UDPConn) {
	buf := make([]byte, 1<<16)
	head := copy(buf, s.name+" ")
	oob := make([]byte, unix.CmsgSpace(unix.SizeofInet6Pktinfo))
	for {
		n, oobn, _, from, err := u.ReadMsgUDPAddrPort(buf[head:], oob)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP error about an earlier reply
		}
		reply := buf[:min(head+n, 65507)] // 65535 less IPv4 and UDP headers
		u.WriteMsgUDPAddrPort(reply, replySource(oob[:oobn]), from)
	}
}

// replySource turns the packet info of a datagram into that of its reply: the
// same address, by the interface that the routes select.
//
//	struct in_pktinfo  { int ipi_ifindex; struct in_addr ipi_spec_dst, ipi_addr; }
//	struct in6_pktinfo { struct in6_addr ipi6_addr; unsigned ipi6_ifindex; }
func replySource(oob []byte) []byte {
	if len(oob) < unix.CmsgSpace(0) {
		return nil
	}
	switch data := oob[unix.CmsgSpace(0):]; {
	case len(data) >= unix.SizeofInet6Pktinfo:
		clear(data[16:20])
	case len(data) >= unix.SizeofInet4Pktinfo:
		clear(data[0:4])
	}
	return oob
}

// SetSockopt sets an integer option of a socket of package net.
func SetSockopt(c syscall.Conn, level, opt, value int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var opterr error
	err = raw.Control(func(fd uintptr) { opterr = unix.SetsockoptInt(int(fd), level, opt, value) })
	return errors.Join(err, opterr)
}
