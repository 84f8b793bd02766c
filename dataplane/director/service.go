package director

import (
	"sync/atomic"

	"uvs/conntrack"
	"uvs/dataplane/helper"
	"uvs/dataplane/helper/sip"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
	"uvs/sched"
)

// Service is a virtual service.
type Service struct {
	ID            uint32
	Port          uint16    // as configured; 0: every port
	Mark          bool      // the service of a mark; Port is 0
	MarkAddr      wire.Addr // stands for the mark in templates
	Picker        sched.Picker
	Cursor        *sched.Cursor
	Servers       []uint32 // IDs in the Picker's order
	WithThreshold []uint32 // IDs of those with a Threshold
	Sorry         uint32   // ID of the server for when Picker picks none; 0: none
	// Persist is how long a template lives, in ms; 0: the service is not persistent.
	Persist conntrack.Tick
	Mask    wire.Addr // the part of the client's address that a template keeps
	// ExpireQuiescent (expire_quiescent_template): a template whose server has weight 0
	// gets no new conns.
	ExpireQuiescent bool
	// Reset (no_server) answers a TCP connection that no server can take with RST
	// instead of ICMP port unreachable.
	Reset bool
	Limit *Limit // of a client; nil: none
	// Helper helps NAT connections that announce others; nil: none.
	Helper *helper.Config
	// SIPCalls has the Call-IDs if the service's templates are SIP calls instead of
	// clients (ipvsadm --pe sip); else nil.
	SIPCalls *sip.Calls
	// OnePacket schedules each packet by itself (ipvsadm --ops).
	OnePacket bool
}

// Server is a real server of one service.
type Server struct {
	ID         uint32
	Service    uint32
	Addr       wire.Addr
	Port       uint16           // 0: the packet's own port is kept
	Method     conntrack.Method // of new conns
	InService  bool             // still in its service
	KeepsConns bool             // not InService, but its conns go on (removed_conns)
	// GraceEnd is until when packets of conns wait for a server that is not InService
	// to come back; 0: they do not.
	GraceEnd conntrack.Tick
	Weight   int32
	Down     bool                // gets nothing new, even by template
	Timeouts *conntrack.Timeouts // of its service; nil: the table's
	NextHop  NextHop             // how its frames leave
	Tunnel   tunnel.Tunnel
	Path     *Path // to its address
	// MSS is the most that SYNs to and from it may announce; AutoMSS: what the paths
	// take; 0: anything.
	MSS       uint16
	Counters  *Counters
	Threshold *Threshold     // nil: none
	Helper    *helper.Config // of its service
}

// servesConns reports whether packets of the server's conns go to it.
func (s *Server) servesConns() bool { return s.InService || s.KeepsConns }

// Threshold is the overload rule of a server (ipvsadm -x, -y;
// net/netfilter/ipvs/ip_vs_conn.c, ip_vs_bind_dest and ip_vs_unbind_dest). The flag is
// set when its conns reach Upper. It is cleared when they fall below Lower, or below
// three quarters of Upper if Lower is 0.
type Threshold struct {
	Upper, Lower int64
	Counts       *conntrack.Counts
	Overload     *atomic.Bool
}

// total returns the server's conns without templates.
func (h *Threshold) total() int64 {
	return int64(h.Counts.Active.Load()) + int64(h.Counts.Inactive.Load())
}

// raise sets the flag if the conn just added reached the threshold.
func (h *Threshold) raise() {
	if h.total() >= h.Upper {
		h.Overload.Store(true)
	}
}

// clear clears the flag if enough conns have ended since.
func (h *Threshold) clear() {
	lower := h.Lower
	if lower == 0 {
		lower = h.Upper - h.Upper>>2
	}
	if h.Overload.Load() && h.total() < lower {
		h.Overload.Store(false)
	}
}
