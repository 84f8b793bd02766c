package director

import (
	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/cow"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// Table is what workers read: the compiled services and settings (uvs/ctl/compile). It is
// built whole and immutable once published. It points to what outlives it: counters,
// scheduler positions, counts of conns.
type Table struct {
	VIPs     cow.Map[wire.Addr, VIP]
	Services cow.Map[Endpoint, *Service]
	// Removed has, in Services and Marks, the services that were removed and whose
	// packets the guard still hides from the host; nil: none.
	Removed *Table
	// Servers are the servers by ID. A removed server stays, not InService, as long as a
	// conn may still name it.
	Servers Servers
	// ReplySources are the endpoints whose frames the guard hides from the host: RIP:rport
	// of NAT servers, VIP:vport of the others. Such a frame without a conn is routed on.
	// The value is the number of services with the endpoint.
	ReplySources cow.Map[Endpoint, int]
	// ReplySourceAddrs are those of ReplySources with port 0, because later fragments
	// carry no port.
	ReplySourceAddrs cow.Map[Endpoint, int]
	// ReplySourceRanges are the ReplySources that are more than one address and port.
	ReplySourceRanges []SourceRange
	Marks             *Marks // nil: no mark has a service
	FIB               *FIB
	Settings          Settings
	Standby           Standby
	// Tunnels finds the server of a tunnel by its TunnelKey.
	Tunnels  cow.Map[Endpoint, uint32]
	Sessions *helper.Sessions // of helped conns; nil: none
	// ReplyServices are the endpoints of servers that send without a conn: those of
	// one-packet services that translate replies, and of SIP services. Mostly empty.
	ReplyServices map[Endpoint]ReplyService
}

// ReplyService is the service on whose behalf a server sends without a conn, with the
// endpoint that clients use.
type ReplyService struct {
	VIP      wire.Addr
	VPort    uint16 // 0: the port that it comes from, because the service has every port
	Counters *Counters
	// Service and Server are set for a service of SIP calls: the datagram gets a conn.
	// nil: the datagram is only translated.
	Service *Service
	Server  uint32
	// Ambiguous: several services have the server at this port, and nothing shows
	// which of them the client used.
	Ambiguous bool
}

// Settings are the director's settings, IPVS's sysctls and uvs's own (docs/ipvs.md,
// "Sysctls").
type Settings struct {
	// ConnReuseMode (conn_reuse_mode): unless 0, a SYN on a conn in TIME_WAIT or CLOSE
	// begins a new conn. With the bit 2 also in FIN_WAIT, if replies do not pass here.
	ConnReuseMode uint8
	// RescheduleRemoved (removed_conns): a packet whose server was removed, and does not
	// come back in time, ends its conn and is handled as if there had been none.
	// Otherwise it is dropped.
	RescheduleRemoved bool
	// SloppyTCP and SloppySCTP let any packet but RST or ABORT begin a conn.
	SloppyTCP, SloppySCTP bool
	// ScheduleICMP (schedule_icmp) lets ICMP errors about replies begin a conn.
	ScheduleICMP bool
	// NATICMPSend (nat_icmp_send) answers what a NAT server sends from its service's
	// port without a conn with port unreachable.
	NATICMPSend bool
	// FragmentTime is how long the fragments of a datagram may take to arrive.
	FragmentTime conntrack.Tick
	Queue        frag.Limits // of fragments that are queued for the first
	// ReversePath (reverse_path) is which ports servers' packets may come in by.
	ReversePath ReversePath
	// KeepTags (keep_tags) handles frames of VLANs that are no ports as frames of the
	// port that they came by; their tags stay.
	KeepTags bool
	// BackupOnly (backup_only) leaves packets to addresses of the host to it while the
	// director is on standby.
	BackupOnly bool
}

// VIP is an address of a service, or of a removed one as long as a conn may still name
// one of its servers.
type VIP struct {
	// DirectorOnly: the host does not have the address. The director answers ARP,
	// neighbour solicitations and echo for it, and refuses what no service takes.
	// Otherwise all that is the host's.
	DirectorOnly bool
	// Silent: it does not answer ARP and neighbour solicitations.
	Silent bool
	// Standby: another director serves the address.
	Standby bool
}

// Endpoint is an address, a port and a protocol. As a key, port 0 stands for every
// port.
type Endpoint struct {
	Addr  wire.Addr
	Port  uint16
	Proto uint8
}

// Shard makes an Endpoint a cow.Key.
func (e Endpoint) Shard() uint8 { return e.Addr.ShardWith(e.Port) }

// service finds the service of a packet to a VIP (net/netfilter/ipvs/ip_vs_ctl.c,
// ip_vs_service_find): by its mark; else by its port; else the persistent service of
// FTP, whose data goes to other ports; else by every port.
func (t *Table) service(p *packet) *Service {
	if t.Marks != nil {
		if s := t.Marks.service(p); s != nil {
			return s
		}
	}
	key := Endpoint{Addr: p.Dst, Port: p.DstPort, Proto: p.Proto}
	if s := t.serviceAt(key); s != nil {
		return s
	}
	if p.Proto == wire.ProtoTCP && (p.DstPort >= wire.PortUnprivileged || p.DstPort == wire.PortFTPData) {
		key.Port = wire.PortFTP
		if s := t.serviceAt(key); s != nil && s.Persist > 0 {
			return s
		}
	}
	key.Port = 0
	return t.serviceAt(key)
}

// serviceAt returns the service of an endpoint; nil: none.
func (t *Table) serviceAt(e Endpoint) *Service { return t.Services.Shard(e.Shard())[e] }

// vip returns what an address is if it is a VIP.
func (t *Table) vip(a *wire.Addr) (v VIP, ok bool) {
	v, ok = t.VIPs.Shard(a.ShardWith(0))[*a]
	return v, ok
}

// ours reports whether an address is a VIP that the host does not hold.
func (t *Table) ours(a wire.Addr) bool {
	v, _ := t.vip(&a)
	return v.DirectorOnly
}

// Servers are servers by ID, in chunks. A table shares the chunks of its predecessor that
// are the same.
type Servers [MaxServers / serverChunk]*[serverChunk]Server

// MaxServers is one more than the greatest ID of a server. ID 0 is never used.
const MaxServers = 1 << 16

const serverChunk = 64

// Get returns a server, which must not be changed. Without one it is the zero Server.
func (s *Servers) Get(id uint32) *Server {
	if i := id / serverChunk; i < uint32(len(s)) && s[i] != nil {
		return &s[i][id%serverChunk]
	}
	return &noServer
}

var noServer Server

// Set puts a server in the place of an ID. It copies a chunk that is also in shared.
func (s *Servers) Set(id uint32, server *Server, shared *Servers) {
	chunk := &s[id/serverChunk]
	switch {
	case *chunk == nil:
		*chunk = new([serverChunk]Server)
	case *chunk == shared[id/serverChunk]:
		own := **chunk
		*chunk = &own
	}
	(*chunk)[id%serverChunk] = *server
}

// server returns the server that a conn names. Another worker may have made the conn with
// a newer table, whose server this one lacks. Then it is the zero Server, which takes
// nothing.
func (t *Table) server(id uint32) *Server { return t.Servers.Get(id) }

// replyService returns the service on whose behalf a server sends a packet without a conn.
func (t *Table) replyService(p *packet) (ReplyService, bool) {
	if len(t.ReplyServices) == 0 {
		return ReplyService{}, false
	}
	key := Endpoint{Addr: p.Src, Port: p.SrcPort, Proto: p.Proto}
	ofPort, ok := t.ReplyServices[key]
	key.Port = 0
	ofEvery, also := t.ReplyServices[key]
	switch {
	case ok && also:
		ofPort.Ambiguous = true
	case also:
		return ofEvery, true
	}
	return ofPort, ok
}

// hidesFromHost reports whether the guard keeps frames from this endpoint away from the
// host.
func (t *Table) hidesFromHost(addr wire.Addr, port uint16, proto uint8) bool {
	key := Endpoint{Addr: addr, Port: port, Proto: proto}
	if t.ReplySources.Shard(key.Shard())[key] > 0 {
		return true
	}
	key.Port = 0
	if t.ReplySources.Shard(key.Shard())[key] > 0 {
		return true
	}
	if len(t.ReplySourceRanges) > 0 {
		a := addr.Netip()
		for i := range t.ReplySourceRanges {
			if t.ReplySourceRanges[i].contains(a, port, proto) {
				return true
			}
		}
	}
	return false
}

// ServiceOf returns the service that a client's frame is for; nil: none.
func (t *Table) ServiceOf(f *wire.Frame) *Service {
	p := packet{frame: f}
	if wire.Parse(f, &p.Packet); p.Kind != wire.KindIP {
		return nil
	}
	return t.service(&p)
}

// TunnelKey returns the key of a tunnel in Table.Tunnels. IPv6 packets in IPIP have
// another protocol than IPv4's, but the same key.
func TunnelKey(t *tunnel.Tunnel) Endpoint {
	return Endpoint{Addr: t.Dst, Proto: t.Type.Encapsulation().Proto(wire.ProtoIPIP), Port: t.Port}
}
