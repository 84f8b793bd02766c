package api

import (
	"fmt"
	"net/netip"
	"time"

	"uvs/ctl/config"
)

// Stats are counters since the start or the last Zero, and rates per second.
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
	config.Service                // without its Servers and Sorry; see ServerStatuses
	Revision       uint64         `json:"revision"` // of the last change of the service
	Stats          Stats          `json:"stats"`
	ServerStatuses []ServerStatus `json:"servers"` // newest first
	Sorry          *ServerStatus  `json:"sorry,omitzero"`
}

// ServerStatus is a server as the director sees it now.
type ServerStatus struct {
	config.Server
	Active   uint32 `json:"active"`
	Inactive uint32 `json:"inactive"`
	Persist  uint32 `json:"persist_conns"`
	Stats    Stats  `json:"stats"`
	// State is "up", "drain" and "down" (see Admin), "quiesced" (weight 0), "overloaded" (over its upper threshold),
	// "unreachable" (without a next hop; see NextHop) or "sorry" (the sorry server).
	State string `json:"state"`
	// NextHop is the next hop of its frames ("eth1 02:…"), or why there is none.
	NextHop string     `json:"hop,omitzero"`
	Path    PathStatus `json:"path"`
}

// PathStatus is the path to a server and its MTU.
type PathStatus struct {
	Interface string `json:"interface,omitzero"` // of the next hop; "": there is none
	MTU       int    `json:"mtu,omitzero"`       // of the next hop
	// Learned is the path MTU that By, a router or the server, reported; 0: none. It
	// expires in Seconds.
	Learned int        `json:"learned,omitzero"`
	By      netip.Addr `json:"by,omitzero"`
	Seconds int        `json:"seconds,omitzero"`
	// TooBig are packets that were too long: they were answered with fragmentation needed
	// or packet too big, or dropped. Split are packets that were sent in fragments.
	TooBig uint64 `json:"too_big"`
	Split  uint64 `json:"split"`
}

// ConnStatus is a conn as `ipvsadm -Lc` shows it.
type ConnStatus struct {
	Proto   config.Proto   `json:"protocol"` // 0: a template of a mark
	Expires uint32         `json:"expires"`
	State   string         `json:"state"`
	Client  netip.AddrPort `json:"client"`
	Virtual netip.AddrPort `json:"virtual"`
	Server  netip.AddrPort `json:"server"`
	Age     uint32         `json:"age"`  // seconds since it began
	Live    bool           `json:"live"` // it can still carry data
	PEName  string         `json:"pe_name,omitzero"`
	PEData  string         `json:"pe_data,omitzero"`
}

// ConnCount is how many conns match a filter.
type ConnCount struct {
	Live      int    `json:"live"`      // can still carry data
	Closing   int    `json:"closing"`   // the other connections
	Templates int    `json:"templates"` // of persistent clients
	Clients   int    `json:"clients"`   // addresses that have the live connections
	Oldest    uint32 `json:"oldest"`    // age of the oldest live connection, in seconds
}

// Info describes the running director.
type Info struct {
	Version    string         `json:"version"`
	ConnSize   uint32         `json:"conn_size"` // size in the header of ipvsadm's listing
	Interfaces []string       `json:"interfaces"`
	Workers    int            `json:"workers"`
	PID        int            `json:"pid"`
	Sandbox    string         `json:"sandbox"`  // what the process that serves has given up, or "off"
	Role       string         `json:"role"`     // "active" or "standby"
	Uptime     config.Seconds `json:"uptime"`   // since it was ready
	Revision   uint64         `json:"revision"` // of the configuration
	// NextStart describes what the director would start with now: its file, or what it has kept.
	NextStart string `json:"next_start,omitzero"`
	// ConfirmBy is when the last apply takes itself back, unless it is confirmed.
	ConfirmBy *time.Time `json:"confirm_by,omitzero"`
}

// Explanation is what the director would do with a packet, and why.
type Explanation struct {
	Probe Probe `json:"probe"`
	// Verdict is the counter of `uvs stats` that would count the packet.
	Verdict string `json:"verdict"`
	// Service is the one the packet belongs to; nil: none.
	Service *config.Service `json:"service,omitzero"`
	Why     string          `json:"why"` // why there is Service, or none
	// Conn and Template are entries of the connection table that decide on the server.
	Conn     *ConnStatus `json:"conn,omitzero"`
	Template *ConnStatus `json:"template,omitzero"`
	// Candidates are the service's servers in the scheduler's order.
	Candidates []Candidate `json:"candidates,omitempty"`
	// Server is the server that the packet would go to, and By what decides that.
	Server *config.Server `json:"server,omitzero"`
	By     string         `json:"by,omitzero"`
	// Sent is the packet as it would leave. NextHop is the next hop to the server, and
	// ReturnHop that of replies to the client.
	Sent      string `json:"sent,omitzero"`
	NextHop   string `json:"next_hop,omitzero"`
	ReturnHop string `json:"return_hop,omitzero"`
	// Hidden are the frames that the guard keeps from the host's stack for the service.
	Hidden []string `json:"hidden,omitempty"`
	// Helper is how a helper helps such connections; "": there is none.
	Helper string `json:"helper,omitzero"`
	// Settings are the settings that matter to such a packet.
	Settings []config.Setting `json:"settings,omitempty"`
}

// Candidate is a server with what the scheduler sees of it.
type Candidate struct {
	Server   config.Server `json:"server"`
	Active   int32         `json:"active"`
	Inactive int32         `json:"inactive"`
	// Excluded is why it gets no new connections; "": it may get them.
	Excluded string `json:"excluded,omitzero"`
}

// Counter is a counter of the director.
type Counter struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// Author is who made a change, as the kernel or a certificate names them.
type Author struct {
	User    string `json:"user"`
	Process string `json:"process,omitzero"` // its name
	PID     int    `json:"pid,omitzero"`
}

// String returns the author as logs and versions name them.
func (a Author) String() string {
	switch {
	case a.PID != 0:
		return fmt.Sprintf("%s (%s, PID %d)", a.User, a.Process, a.PID)
	case a.User == "":
		return "uvs"
	}
	return a.User
}

// Step is one operation of those that would put a configuration in force.
type Step struct {
	Op config.Op `json:"operation"`
	// Before describes what it replaces or deletes; "": nothing.
	Before string `json:"before,omitzero"`
	// Conns are the live connections that lose their server, and Clients the addresses they
	// come from.
	Conns   int `json:"conns"`
	Clients int `json:"clients"`
}

// Version is a configuration that was applied.
type Version struct {
	Revision uint64    `json:"revision"`
	Time     time.Time `json:"time"`
	Author   string    `json:"author"`
	How      string    `json:"how"` // "start", "apply FILE", "reload FILE", "rollback to N", "changes by commands"
}

// Event is a change of the director's state.
type Event struct {
	Time time.Time `json:"time"`
	// Revision is that of the state after the event. Only changes of the state increase it.
	Revision uint64 `json:"revision"`
	// Author made the change.
	Author *Author `json:"author,omitzero"`
	// Kind is "applied", "conns_flushed", "conns_full"; "error" is the last of a stream that
	// cannot go on.
	Kind string `json:"kind"`
	// Op is the operation that was applied.
	Op *config.Op `json:"op,omitzero"`
	// Count is the number of connections.
	Count uint64 `json:"count,omitzero"`
	// Error is why the stream ends.
	Error *config.Error `json:"error,omitzero"`
}
