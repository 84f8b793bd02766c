// Package realserver is a real server for tests. It replies with its name, so a
// client sees which server was selected. For direct routing it holds the VIP
// without answering ARP for it, and for tunnels it decapsulates, also on
// kernels without tunnel devices.
//
// It serves HTTP: a page of names, and downloads and uploads whose bytes can be
// checked. On port 31337 it serves the old lvs-info service. It sends the
// server's name to a TCP connection and then echoes. It returns a datagram with
// the name in front.
package realserver

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"uvs/fwd/tunnel"
)

// Default ports of a Config.
const (
	HTTPPort = 80
	InfoPort = 31337 // the lvs-info service of the LVS-HOWTO
)

// Config is what one server serves and holds.
type Config struct {
	Name        string                 // in replies
	Listen      []netip.Addr           // addresses to serve; empty: every address of both families
	HTTPPorts   []uint16               // empty: HTTPPort
	InfoPort    uint16                 // 0: InfoPort; TCP and UDP
	VIPs        []netip.Addr           // held on the loopback device without answering ARP or ND
	Decap       bool                   // decapsulate packets for the VIPs
	TunnelPorts map[tunnel.Type]uint16 // of encapsulations in UDP; missing: the default port
}

// Server is a running server. Close undoes everything that it changed on its
// host, and must run in the network namespace of Start.
type Server struct {
	name  string
	http  *http.Server
	decap *decapsulator // nil without Config.Decap
	done  sync.WaitGroup
	stop  cleanups // ends the goroutines in done
	undo  cleanups // undoes the rest, after stop

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool // open lvs-info connections
}

// Start opens every socket and adds every VIP before it serves. If it fails, it
// leaves nothing behind.
func Start(c Config) (*Server, error) {
	if len(c.HTTPPorts) == 0 {
		c.HTTPPorts = []uint16{HTTPPort}
	}
	if c.InfoPort == 0 {
		c.InfoPort = InfoPort
	}
	if len(c.Listen) == 0 {
		c.Listen = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	if c.Decap && len(c.VIPs) == 0 {
		return nil, errors.New("decapsulate: no VIP given; the server accepts tunnelled packets for VIPs only")
	}
	s := &Server{name: c.Name, conns: map[net.Conn]bool{}}
	s.http = &http.Server{Handler: pages(c.Name), ReadHeaderTimeout: 10 * time.Second}
	if err := s.open(c); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open does the work of Start. Each step adds its cleanup.
func (s *Server) open(c Config) error {
	if err := addVIPs(c.VIPs, &s.undo); err != nil {
		return err
	}
	if c.Decap {
		var err error
		if s.decap, err = openDecapsulator(c.VIPs, c.TunnelPorts, &s.stop, &s.undo); err != nil {
			return err
		}
	}
	var serve []func()
	for _, addr := range c.Listen {
		for _, port := range c.HTTPPorts {
			l, err := net.Listen(network("tcp", addr), netip.AddrPortFrom(addr, port).String())
			if err != nil {
				return fmt.Errorf("serve http: %w", err)
			}
			s.stop.add(func() error {
				if err := l.Close(); !errors.Is(err, net.ErrClosed) {
					return err
				}
				return nil
			})
			serve = append(serve, func() { s.http.Serve(l) })
		}
		l, err := net.Listen(network("tcp", addr), netip.AddrPortFrom(addr, c.InfoPort).String())
		if err != nil {
			return fmt.Errorf("serve lvs-info: %w", err)
		}
		s.stop.add(l.Close)
		serve = append(serve, func() { s.serveInfo(l) })

		u, err := listenUDP(addr, c.InfoPort)
		if err != nil {
			return fmt.Errorf("serve lvs-info: %w", err)
		}
		s.stop.add(u.Close)
		serve = append(serve, func() { s.serveInfoUDP(u) })
	}
	if s.decap != nil {
		serve = append(serve, s.decap.serve)
	}
	for _, f := range serve {
		s.done.Go(f)
	}
	return nil
}

// Close stops serving, waits for its goroutines, removes the VIPs and restores
// the sysctls.
func (s *Server) Close() error {
	err := s.http.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	err = errors.Join(err, s.stop.run())
	s.done.Wait()
	return errors.Join(err, s.undo.run())
}

// Tunnelled returns how many packets were decapsulated, and how many tunnel
// packets were refused because they are malformed or not for a VIP. The kernel
// drops packets with a wrong UDP checksum before either count.
func (s *Server) Tunnelled() (taken, refused uint64) {
	if s.decap == nil {
		return 0, 0
	}
	return s.decap.taken.Load(), s.decap.refused.Load()
}

// network narrows "tcp" or "udp" to the family of addr, so that both wildcard
// addresses can be used side by side.
func network(proto string, addr netip.Addr) string {
	if addr.Unmap().Is4() {
		return proto + "4"
	}
	return proto + "6"
}

// cleanups undoes a list of changes, the last first.
type cleanups []func() error

func (u *cleanups) add(f func() error) { *u = append(*u, f) }

func (u *cleanups) run() error {
	var errs []error
	for i := len(*u) - 1; i >= 0; i-- {
		errs = append(errs, (*u)[i]())
	}
	*u = nil
	return errors.Join(errs...)
}
