package director

import (
	"sync/atomic"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
	"uvs/sched"
)

// Table is the compiled rules the workers read. It is built whole (ctl.Compile)
// and never written once published. What outlives a table (counters, cursors,
// live connection counts, conns) is pointed to, not held.
type Table struct {
	VIPs     map[wire.Addr]VIP
	Services map[Endpoint]*Service
	// Servers is indexed by server ID; 0 is the zero Server. Servers removed from
	// their service stay, not Available, while conns may still name them.
	Servers []Server
	// ServerEndpoints are the ends from which frames are hidden from the host: RIP:rport
	// of masqueraded servers, VIP:vport of the others. Such a frame without a
	// conn is routed on unchanged.
	ServerEndpoints map[Endpoint]bool
	// ServerAddrs are the addresses and protocols of Sources, port 0: a fragment
	// other than the first shows no more.
	ServerAddrs map[Endpoint]bool
	// ServerRanges are further sources: those that are not one address and one port.
	ServerRanges []ServerRange
	Marks        *Marks // nil: no mark has a service
	FIB          *FIB
	Settings     Settings
	// Tunnels finds a server by the tunnel to it: the address, the protocol of the
	// outer header (IPIP also stands for IPv6 in it) and GUE's port.
	Tunnels  map[Endpoint]uint32
	Sessions *Sessions // of helped connections; nil: there are none
	// ReplyServices are the ends from which one-packet services that translate replies
	// are answered, and services of calls call; mostly empty.
	ReplyServices map[Endpoint]ReplyService
}

// ReplyService is what a datagram from a server says of its service, where it has no
// conn: the end its client called.
type ReplyService struct {
	VIP      wire.Addr
	VPort    uint16 // 0: the port it comes from, as the service has every port
	Counters *Counters
	// Service, if its templates are of calls, and the server the datagram is from:
	// they get a conn for it. nil: the datagram is but translated.
	Service *Service
	Server  uint32
	// Ambiguous says that several services have the server at this port, so that
	// nobody knows which of them the client called.
	Ambiguous bool
}

// Settings are the settings of the whole director, IPVS's sysctls (reference 3.7).
type Settings struct {
	// ReuseMode (conn_reuse_mode): a SYN on a known flow begins a new one in
	// TIME_WAIT and CLOSE if not 0, and with bit 2 also in FIN_WAIT of a conn
	// whose replies do not pass here.
	ReuseMode uint8
	// ExpireNoServer (expire_nodest_conn): a packet whose server was removed
	// ends its conn and is treated as if there were none; otherwise it is dropped.
	ExpireNoServer bool
	// SloppyTCP and SloppySCTP let any packet but RST or ABORT begin a conn.
	SloppyTCP, SloppySCTP bool
	// ScheduleICMP (schedule_icmp) lets ICMP errors about replies begin a conn.
	ScheduleICMP bool
	// RefuseReplies (nat_icmp_send): what a masqueraded server sends from its
	// service's port without a conn is answered with port unreachable.
	RefuseReplies bool
	// FragmentTime is how long the fragments of a datagram may take to come.
	FragmentTime conntrack.Tick
	Hold         frag.Limits // of fragments that came before the first
	// KeepTags treats frames of VLANs that are no ports as those of the port they
	// came by; their tags stay.
	KeepTags bool
}

// VIP is an address of at least one service.
type VIP struct {
	// Ours says that the host does not hold the address: the director answers
	// ARP, neighbour solicitations and echo for it, and refuses what no service
	// takes. Otherwise all that is the host's.
	Ours bool
}

// Endpoint finds a service by the destination of a packet. Port 0 is every port.
type Endpoint struct {
	Addr  wire.Addr
	Port  uint16
	Proto uint8
}

// Service is a virtual service.
type Service struct {
	ID            uint32
	Port          uint16    // as configured; 0: every port
	Mark          bool      // the service of a mark; Port is 0
	MarkAddr      wire.Addr // of a Mark: the address that stands for it in templates
	Picker        sched.Picker
	Cursor        *sched.Cursor
	Servers       []uint32 // IDs in the Picker's order
	WithThreshold []uint32 // IDs of those with a Threshold
	Sorry         uint32   // ID of the server that takes what the Picker has none for; 0: none
	// Persist is how long a template lives, in ms; 0: the service is not persistent.
	Persist conntrack.Tick
	Mask    wire.Addr // the part of the client's address that a template keeps
	// ExpireQuiescent (expire_quiescent_template): a template whose server has
	// weight 0 is not used for new conns.
	ExpireQuiescent bool
	// Reset answers a TCP connection that no server can take with RST instead of
	// ICMP port unreachable.
	Reset bool
	Limit *Limit // of a client; nil: none
	// Helper helps masqueraded connections that announce others; nil: none.
	Helper *Helper
	// SIPCalls says that templates of a persistent service are of SIP calls instead
	// of clients (ipvsadm --pe sip), and remembers what they are called; nil: no.
	SIPCalls *SIPCalls
	// OnePacket schedules every packet anew (ipvsadm --ops).
	OnePacket bool
}

// Server is a real server of one service.
type Server struct {
	ID        uint32
	Service   uint32
	Addr      wire.Addr
	Port      uint16           // 0: the packet's own port is kept
	Method    conntrack.Method // of new conns
	Available bool             // still in its service
	Weight    int32
	Down      bool                // takes nothing new, whatever templates say
	Timeouts  *conntrack.Timeouts // of its service; nil: the table's
	NextHop   NextHop             // how its frames leave
	Tunnel    tunnel.Tunnel
	Path      *Path // to its address
	// MSS is what SYNs to and from it may say at most; AutoMSS: what the ways to it
	// and to the client take; 0: anything.
	MSS       uint16
	Counters  *Counters
	Threshold *Threshold // nil: none
	Helper    *Helper    // of its service
}

// Threshold is the overload rule of a server (ipvsadm -x, -y; reference 2): the
// flag is set when the conns bound to it become Upper, and cleared when they
// fall below Lower, or below three quarters of Upper if Lower is 0.
type Threshold struct {
	Upper, Lower int64
	Counts       *conntrack.Counts
	Overload     *atomic.Bool
}

// total is the conns bound to the server, templates not counted.
func (h *Threshold) total() int64 {
	return int64(h.Counts.Active.Load()) + int64(h.Counts.Inactive.Load())
}

// raise is called when a new conn was bound to the server.
func (h *Threshold) raise() {
	if h.total() >= h.Upper {
		h.Overload.Store(true)
	}
}

// clear clears the flag if enough conns have gone since it was set.
func (h *Threshold) clear() {
	lower := h.Lower
	if lower == 0 {
		lower = h.Upper - h.Upper>>2
	}
	if h.Overload.Load() && h.total() < lower {
		h.Overload.Store(false)
	}
}

// Counters of one server outlive every table. Each worker has a cache line of
// its own and is its only writer; readers add the lines up.
type Counters struct{ shards []counterShard }

type counterShard struct {
	conns, inPkts, outPkts, inBytes, outBytes atomic.Uint64
	tooBig, split                             atomic.Uint64
	_                                         [8]byte // fills the cache line
}

// Totals are counters added up over the workers. Bytes are those of the IP
// packets as they came in (reference: IPVS counts IP total length).
type Totals struct {
	Conns, InPkts, OutPkts, InBytes, OutBytes uint64
	// Packets to the server that were too long for the way: not sent, and sent in
	// fragments.
	TooBig, Split uint64
}

// NewCounters makes counters for a number of workers.
func NewCounters(workers int) *Counters {
	return &Counters{shards: make([]counterShard, workers)}
}

func (c *counterShard) in(bytes uint32) {
	c.inPkts.Add(1)
	c.inBytes.Add(uint64(bytes))
}

func (c *counterShard) out(bytes uint32) {
	c.outPkts.Add(1)
	c.outBytes.Add(uint64(bytes))
}

// Totals adds up what all workers have counted so far.
func (c *Counters) Totals() (t Totals) {
	for i := range c.shards {
		s := &c.shards[i]
		t.Conns += s.conns.Load()
		t.InPkts += s.inPkts.Load()
		t.OutPkts += s.outPkts.Load()
		t.InBytes += s.inBytes.Load()
		t.OutBytes += s.outBytes.Load()
		t.TooBig += s.tooBig.Load()
		t.Split += s.split.Load()
	}
	return t
}

// TunnelKey is the key of a tunnel in Table.Tunnels. IPv6 packets in IPIP have
// another protocol than IPv4's, but the same key.
func TunnelKey(t *tunnel.Tunnel) Endpoint {
	return Endpoint{Addr: t.Dst, Proto: t.Type.Encapsulation().Proto(wire.ProtoIPIP), Port: t.Port}
}

// service finds the service of a packet to a VIP (reference 3.4): that of its
// mark, else of the exact port, else a persistent one of FTP, whose data goes to
// other ports, else of every port.
func (t *Table) service(p *packet) *Service {
	if t.Marks != nil {
		if s := t.Marks.service(p); s != nil {
			return s
		}
	}
	key := Endpoint{Addr: p.Dst, Port: p.DstPort, Proto: p.Proto}
	if s := t.Services[key]; s != nil {
		return s
	}
	if p.Proto == wire.ProtoTCP && (p.DstPort >= wire.PortUnprivileged || p.DstPort == wire.PortFTPData) {
		key.Port = wire.PortFTP
		if s := t.Services[key]; s != nil && s.Persist > 0 {
			return s
		}
	}
	key.Port = 0
	return t.Services[key]
}

// server is the server of an ID that a conn names. A worker may meet a conn that
// another has just made by a newer table, with a server this one does not know:
// that is the zero Server, which takes nothing.
func (t *Table) server(id uint32) *Server {
	if int(id) >= len(t.Servers) {
		id = 0
	}
	return &t.Servers[id]
}

// replyService is what a server's packet without a conn says of the service it answers for.
func (t *Table) replyService(p *packet) (ReplyService, bool) {
	if len(t.ReplyServices) == 0 {
		return ReplyService{}, false
	}
	key := Endpoint{Addr: p.Src, Port: p.SrcPort, Proto: p.Proto}
	own, ok := t.ReplyServices[key]
	key.Port = 0
	every, also := t.ReplyServices[key]
	switch {
	case ok && also:
		own.Ambiguous = true
	case also:
		return every, true
	}
	return own, ok
}

// hidesFromHost says whether the guard keeps frames from this end away from the host.
func (t *Table) hidesFromHost(addr wire.Addr, port uint16, proto uint8) bool {
	key := Endpoint{Addr: addr, Port: port, Proto: proto}
	if t.ServerEndpoints[key] {
		return true
	}
	key.Port = 0
	if t.ServerEndpoints[key] {
		return true
	}
	if len(t.ServerRanges) > 0 {
		a := addr.Netip()
		for i := range t.ServerRanges {
			if t.ServerRanges[i].contains(a, port, proto) {
				return true
			}
		}
	}
	return false
}
