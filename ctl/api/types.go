package api

import (
	"net/netip"
	"time"

	"uvs/ctl/config"
)

// Stats are counters since start or the last Zero, and their rates per second.
type Stats struct {
	Conns    uint64 `json:"conns"`
	InPkts   uint64 `json:"in_pkts"`
	OutPkts  uint64 `json:"out_pkts"`
	InBytes  uint64 `json:"in_bytes"`
	OutBytes uint64 `json:"out_bytes"`

	CPS    uint64 `json:"cps"`
	InPPS  uint64 `json:"in_pps"`
	OutPPS uint64 `json:"out_pps"`
	InBPS  uint64 `json:"in_bps"`
	OutBPS uint64 `json:"out_bps"`
}

// ServiceStatus is a service as the director sees it now.
type ServiceStatus struct {
	config.Service                // its Servers field is empty; see Reals
	Stats          Stats          `json:"stats"`
	Reals          []ServerStatus `json:"servers"` // newest first
	Sorry          *ServerStatus  `json:"sorry,omitempty"`
}

// ServerStatus is a server as the director sees it now.
type ServerStatus struct {
	config.Server
	Active   uint32 `json:"active"`
	Inactive uint32 `json:"inactive"`
	Persist  uint32 `json:"persist_conns"`
	Stats    Stats  `json:"stats"`
	// State is "up", "down", "quiesced" (weight 0), "overloaded" (over its upper threshold)
	// or "sorry" (the sorry server).
	State string `json:"state"`
	// NextHop says how frames reach it ("eth1 02:…", or why they cannot).
	NextHop string     `json:"hop,omitempty"`
	Path    PathStatus `json:"path"`
}

// PathStatus tells where long packets to a server end.
type PathStatus struct {
	Interface string `json:"interface,omitempty"` // by which they leave; "": there is none
	MTU       int    `json:"mtu,omitempty"`       // of the first hop
	// Learned is the path MTU that By, a router or the server, reported, which is
	// kept for Seconds more; 0: nobody did.
	Learned int        `json:"learned,omitempty"`
	By      netip.Addr `json:"by,omitzero"`
	Seconds int        `json:"seconds,omitempty"`
	// Packets that were too long: answered with fragmentation needed or packet too
	// big (or dropped, if that must not be), and sent in fragments.
	TooBig uint64 `json:"too_big"`
	Split  uint64 `json:"split"`
}

// ConnStatus is one conn as `ipvsadm -Lc` shows it.
type ConnStatus struct {
	Proto   uint8          `json:"proto"` // 0: a template of a mark
	Expires uint32         `json:"expires"`
	State   string         `json:"state"`
	Client  netip.AddrPort `json:"client"`
	Virtual netip.AddrPort `json:"virtual"`
	Server  netip.AddrPort `json:"server"`
	PEName  string         `json:"pe_name,omitempty"`
	PEData  string         `json:"pe_data,omitempty"`
}

// Info describes the running director.
type Info struct {
	Version    string   `json:"version"`
	ConnSize   uint32   `json:"conn_size"` // what the listing's header calls size
	Interfaces []string `json:"interfaces"`
	Workers    int      `json:"workers"`
	PID        int      `json:"pid"`
}

// Explanation says what the director would do with a packet, and why.
type Explanation struct {
	Probe Probe `json:"probe"`
	// Verdict is the counter of `uvs stats` that the packet would be counted in.
	Verdict string `json:"verdict"`
	// Service is the one the packet belongs to; nil: none.
	Service *config.Service `json:"service,omitempty"`
	Why     string          `json:"why"` // how Service was found, or why there is none
	// Conn and Template are entries of the connection table that decide already.
	Conn     *ConnStatus `json:"conn,omitempty"`
	Template *ConnStatus `json:"template,omitempty"`
	// Candidates are the service's servers in the scheduler's order.
	Candidates []Candidate `json:"candidates,omitempty"`
	// Server is the one the packet would go to, and By what chose it.
	Server *config.Server `json:"server,omitempty"`
	By     string         `json:"by,omitempty"`
	// Sent is the packet as it would leave, Way and Back the ways to the server
	// and for its answers to the client.
	Sent      string `json:"sent,omitempty"`
	NextHop   string `json:"way,omitempty"`
	ReturnHop string `json:"back,omitempty"`
	// Hidden is what the guard keeps from the host's stack for this service.
	Hidden []string `json:"hidden,omitempty"`
	// Helper says whether such connections are helped; "": they are not.
	Helper string `json:"helper,omitempty"`
	// Settings are those that matter to such a packet.
	Settings []config.Setting `json:"settings,omitempty"`
}

// Candidate is a server as the scheduler sees it.
type Candidate struct {
	Server   config.Server `json:"server"`
	Active   int32         `json:"active"`
	Inactive int32         `json:"inactive"`
	// Excluded says why it gets no new connection; "": it may.
	Excluded string `json:"excluded,omitempty"`
}

// Counter is one counter of the director under its name.
type Counter struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// Event is something that happened to the director, for those who watch.
type Event struct {
	Time time.Time `json:"time"`
	// Kind is what happened: "applied", "conns_flushed", "conns_full".
	Kind string `json:"kind"`
	// Op is what was applied.
	Op *config.Op `json:"op,omitempty"`
	// Count is how many connections it was about.
	Count uint64 `json:"count,omitempty"`
}
