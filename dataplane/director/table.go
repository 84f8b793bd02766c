package director

import (
	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// Table is the compiled rules the workers read. It is built whole (uvs/ctl/compile)
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
	Sessions *helper.Sessions // of helped connections; nil: there are none
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

// ServiceOf is the service that a client's frame belongs to; nil: none.
func (t *Table) ServiceOf(f *wire.Frame) *Service {
	p := packet{frame: f}
	if wire.Parse(f, &p.Packet); p.Kind != wire.KindIP {
		return nil
	}
	return t.service(&p)
}

// TunnelKey is the key of a tunnel in Table.Tunnels. IPv6 packets in IPIP have
// another protocol than IPv4's, but the same key.
func TunnelKey(t *tunnel.Tunnel) Endpoint {
	return Endpoint{Addr: t.Dst, Proto: t.Type.Encapsulation().Proto(wire.ProtoIPIP), Port: t.Port}
}
