package config

import (
	"uvs/conntrack"
	"uvs/dataplane/helper"
)

// Settings are the values of all settings. The tags of a field describe it:
//
//	name     what the operator calls it: the name of IPVS's sysctl (net.ipv4.vs.*) if there is one
//	default  its value if it is not set: IPVS's, except for those that docs/ipvs.md lists
//	min max  its bounds; a bool is 0 or 1
//	also     values it can have besides those between its bounds
//	only     all the values it can have
//	words    names of its values from 0 on
//	unit     what it counts
//	scope    "service" if a service can have another value, which overrides the director's
//	applies  the packets that it matters to: a protocol, "persistence", "helper", or "none"
//	help     what `uvs get` shows
//
// A field _ continues the tags of the field before.
// The check, `uvs get` and `uvs set`, the API and the manual's test read them.
type Settings struct {
	ConnReuseMode   uint32 `name:"conn_reuse_mode" default:"1" max:"3"`
	_               more   `help:"a SYN on a known flow begins a new one: 0 never, 1 in TIME_WAIT and CLOSE,"`
	_               more   `help:"2 (bit) also in FIN_WAIT when replies bypass the director"`
	RemovedGrace    uint32 `name:"removed_grace" default:"2" max:"3600" unit:"s"`
	_               more   `help:"how long the connections of a server or service that was removed wait for it"`
	_               more   `help:"to be added again; what begins a connection, and UDP, does not wait"`
	RemovedConns    uint32 `name:"removed_conns" max:"3" words:"refuse drop serve end"`
	_               more   `help:"connections of a removed server after removed_grace: refuse: the next packet is"`
	_               more   `help:"scheduled again or reset; drop: it is dropped silently (IPVS's"`
	_               more   `help:"expire_nodest_conn=0); serve: they go on until they end; end: as refuse, and"`
	_               more   `help:"all end (IPVS's expire_nodest_conn=1)"`
	ResetForgotten  bool   `name:"reset_forgotten" default:"1"`
	_               more   `help:"1: both ends of an established TCP connection that idled too long are reset;"`
	_               more   `help:"0: it ends silently (as in IPVS; also with sloppy_tcp)"`
	ExpireQuiescent bool   `name:"expire_quiescent_template" scope:"service" applies:"persistence"`
	_               more   `help:"new connections of a known persistent client whose server has weight 0:"`
	_               more   `help:"0 go there, 1 go to another server"`
	Announce        uint32 `name:"announce" max:"2" words:"always held never" scope:"service"`
	_               more   `help:"when to answer ARP and neighbour solicitations for a VIP: always, unless the"`
	_               more   `help:"host does; held: the director is on standby for a VIP that the host does not"`
	_               more   `help:"hold; never: packets come by routes"`
	NoServer        uint32 `name:"no_server" max:"1" scope:"service"`
	_               more   `help:"a connection no server can take is answered with:"`
	_               more   `help:"0 ICMP port unreachable, 1 TCP RST"`
	SlowStart       uint32 `name:"slow_start" max:"3600" unit:"s" scope:"service"`
	_               more   `help:"how long the weight of a server that was added, came up, or returns from"`
	_               more   `help:"weight 0, rises to its full value (lc wlc sed nq lblc lblcr twos)"`
	MHTable         uint32 `name:"mh_table" only:"0 251 509 1021 2039 4093 8191 16381 32749 65521 65537 131071"`
	_               more   `scope:"service" help:"slots of mh's table; 0: IPVS's 4093"`
	HashFields      uint32 `name:"hash_fields" max:"15" scope:"service"`
	_               more   `help:"what dh, sh and mh hash, added up: 1 client, 2 its port, 4 VIP, 8 its port;"`
	_               more   `help:"0: IPVS's choice"`
	LBLCExpiration  uint32 `name:"lblc_expiration" default:"86400" min:"1" max:"4294967295" unit:"s"`
	_               more   `applies:"none" scope:"service" help:"lblc: how long a destination without new"`
	_               more   `help:"connections is remembered"`
	LBLCRExpiration uint32 `name:"lblcr_expiration" default:"86400" min:"1" max:"4294967295" unit:"s"`
	_               more   `applies:"none" scope:"service" help:"lblcr: how long a destination without new"`
	_               more   `help:"connections is remembered, and how long before it loses a server"`
	LimitRate       uint32 `name:"limit_rate" max:"1000000" unit:"1/s" scope:"service"`
	_               more   `help:"new connections a second, as many at once, that one client address may begin"`
	_               more   `help:"with a service; more are dropped; 0: any number"`
	LimitConns      uint32 `name:"limit_conns" max:"268435456" unit:"conns" scope:"service"`
	_               more   `help:"connections, closing ones included, that one client address (with persistence:"`
	_               more   `help:"one template) may have with a service; more are dropped; 0: any number"`
	OPSReplies      bool   `name:"ops_replies" scope:"service"`
	_               more   `help:"1: what NAT servers of one-packet services (ipvsadm --ops) send is translated,"`
	_               more   `help:"as from the service; 0: routed on unchanged, as IPVS does"`
	PMTUDisc        bool   `name:"pmtu_disc" default:"1" scope:"service"`
	_               more   `help:"packets too long for a tunnel: 1: those with DF are answered 'fragmentation"`
	_               more   `help:"needed'; 0: all IPv4 packets are fragmented"`

	helper.Settings

	MSSClamp           uint32 `name:"mss_clamp" min:"48" max:"65495" also:"0 1" unit:"bytes" scope:"service"`
	_                  more   `help:"highest MSS that SYNs of clients and servers may announce: 0 any, 1 what the"`
	_                  more   `help:"paths allow, else this"`
	NATICMPSend        bool   `name:"nat_icmp_send"`
	_                  more   `help:"what a NAT server sends from its service's port without a connection:"`
	_                  more   `help:"0 is routed on, 1 is answered with ICMP port unreachable (not a TCP RST or"`
	_                  more   `help:"SCTP ABORT)"`
	ScheduleICMP       bool   `name:"schedule_icmp"`
	_                  more   `help:"1: an ICMP error about a reply of a service that belongs to no connection is"`
	_                  more   `help:"scheduled to a server"`
	SloppyTCP          bool   `name:"sloppy_tcp" applies:"tcp" help:"1: any TCP segment but RST begins a connection"`
	SloppySCTP         bool   `name:"sloppy_sctp" applies:"sctp" help:"1: any SCTP chunk but ABORT begins a connection"`
	BackupOnly         bool   `name:"backup_only" applies:"none"`
	_                  more   `help:"on standby, packets to a VIP that the host holds are: 0 dropped, 1 the host's, so"`
	_                  more   `help:"that the host can be a server of the other director"`
	KeepTags           bool   `name:"keep_tags"`
	_                  more   `help:"frames of VLANs the director does not run on: 0 are the host's, 1 are treated"`
	_                  more   `help:"like untagged ones and keep their tags (QinQ too)"`
	ReversePath        uint32 `name:"reverse_path" default:"1" max:"2" words:"off strict loose"`
	_                  more   `help:"what comes from a server is taken from: off: any interface; strict: the one that"`
	_                  more   `help:"packets to it leave by; loose: any interface, if there is a route to it"`
	SecureTCP          uint32 `name:"secure_tcp" max:"3"`
	_                  more   `help:"believe only what servers say of a connection: 0 off, 1 or 2 when the table runs"`
	_                  more   `help:"short, 3 always"`
	DropEntry          uint32 `name:"drop_entry" max:"3"`
	_                  more   `help:"end half-open and a sample of old connections: 0 off, 1 or 2 when the table"`
	_                  more   `help:"runs short, 3 always"`
	DropPacket         uint32 `name:"drop_packet" max:"3"`
	_                  more   `help:"refuse a part of the packets that begin a connection: 0 off, 1 or 2 when the"`
	_                  more   `help:"table runs short, 3 every am_droprate-th"`
	AMDropRate         uint32 `name:"am_droprate" default:"10" min:"1" max:"1048576" applies:"none"`
	_                  more   `help:"drop_packet 3 refuses every n-th"`
	AMReserve          uint32 `name:"am_reserve" max:"268435456" unit:"conns" applies:"none"`
	_                  more   `help:"the table runs short when fewer are left; 0: a sixteenth of it"`
	FragmentTime       uint32 `name:"fragment_time" default:"5" min:"1" max:"60" unit:"s"`
	_                  more   `help:"how long the fragments of a datagram may take to come; what comes later, and what"`
	_                  more   `help:"waits for its first fragment for longer, is dropped"`
	FragmentHold       uint32 `name:"fragment_hold" default:"1024" max:"1024" unit:"KiB"`
	_                  more   `help:"memory of a worker for fragments that come before the first of their datagram;"`
	_                  more   `help:"0: they are dropped"`
	FragmentHoldSource uint32 `name:"fragment_hold_source" default:"128" max:"1024" unit:"KiB"`
	_                  more   `help:"the part of fragment_hold that the fragments of one source address may take"`
	TimeoutProfile     uint32 `name:"timeout_profile" max:"1" applies:"none"`
	_                  more   `help:"timeouts not set otherwise: 0 IPVS's, 1 netfilter's (TCP established 5 days)"`

	// Sysctls of IPVS that mean nothing here. They are taken, so that files for the kernel work.
	AMemThresh     uint32 `name:"amemthresh" default:"1024" max:"2147483647" unit:"pages" applies:"none"`
	_              more   `help:"without effect: am_reserve says when the table runs short"`
	CacheBypass    bool   `name:"cache_bypass" applies:"none"`
	_              more   `help:"without effect: a mark without a server refuses connections"`
	Conntrack      bool   `name:"conntrack" applies:"none"`
	_              more   `help:"without effect: netfilter does not see the packets"`
	IgnoreTunneled bool   `name:"ignore_tunneled" applies:"none"`
	_              more   `help:"without effect: what the host takes out of a tunnel is not scheduled"`
	RunEstimation  bool   `name:"run_estimation" default:"1" applies:"none"`
	_              more   `help:"without effect: rates are always there"`
	SNATReroute    bool   `name:"snat_reroute" default:"1" applies:"none"`
	_              more   `help:"without effect: replies always take the route to their client"`

	// Timeouts are a setting for each state of TCP, SCTP and UDP: timeout_tcp_established and so on.
	Timeouts conntrack.Timeouts `min:"1" max:"2678400" unit:"s" scope:"service"`
	_        more               `help:"how long a connection in this state is kept after its last packet"`
}

// more continues the tags of a setting.
type more struct{}

// Values of announce, no_server, timeout_profile and removed_conns.
const (
	AnnounceHeld     = 1
	AnnounceNever    = 2
	NoServerReset    = 1
	ProfileNetfilter = 1
	RemovedDrop      = 1
	RemovedServe     = 2
	RemovedEnd       = 3
)
