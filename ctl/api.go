package ctl

import (
	"net/netip"
	"syscall"
)

// Verb names an operation; the words are those of ipvsadm's messages.
type Verb string

const (
	AddService    Verb = "add-service"
	EditService   Verb = "edit-service"
	DeleteService Verb = "delete-service"
	Flush         Verb = "flush"
	AddServer     Verb = "add-server"
	EditServer    Verb = "edit-server"
	DeleteServer  Verb = "delete-server"
	SetTimeouts   Verb = "set"
	Zero          Verb = "zero"
	Tune          Verb = "tune"
	SetSorry      Verb = "sorry"
	MarkServer    Verb = "mark-server"
	AddMarks      Verb = "add-marks"
	DeleteMarks   Verb = "delete-marks"
)

// Op is one change the operator asks for. Which fields count depends on Verb:
// AddService, EditService take Service (its Servers are ignored);
// DeleteService takes Service.ServiceKey; Zero takes it or, when Service is
// nil, means everything; the server verbs take Service.ServiceKey and Server;
// SetTimeouts takes Timeouts, where 0 keeps a value; Tune takes Tuning, of
// Service's own if that is given; SetSorry makes Server the sorry server of
// Service.ServiceKey or, if it is nil, takes that away; MarkServer makes the
// server of Server.ServerKey down or up, as Server.Down says, and nothing else;
// AddMarks and DeleteMarks take Marks, all or none of them.
type Op struct {
	Verb     Verb      `json:"verb"`
	Service  *Service  `json:"service,omitempty"`
	Server   *Server   `json:"server,omitempty"`
	Timeouts *Timeouts `json:"timeouts,omitempty"`
	Tuning   Tuning    `json:"tuning,omitempty"`

	Marks []MarkRule `json:"marks,omitempty"`
}

// Error is why an operation was refused; nothing was changed. Errno is what
// the kernel's IPVS would answer (ESRCH: no such service, EEXIST, ENOENT …),
// so that ipvsadm can print its own words; Message is one line for people
// naming the value.
type Error struct {
	Errno   syscall.Errno `json:"errno"`
	Message string        `json:"message"`
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Errno }

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
	Service                // its Servers field is empty; see Reals
	Stats   Stats          `json:"stats"`
	Reals   []ServerStatus `json:"servers"` // newest first
	Sorry   *ServerStatus  `json:"sorry,omitempty"`
}

// ServerStatus is a server as the director sees it now.
type ServerStatus struct {
	Server
	Active   uint32 `json:"active"`
	Inactive uint32 `json:"inactive"`
	Persist  uint32 `json:"persist_conns"`
	Stats    Stats  `json:"stats"`
	// State is "up", "down", "quiesced" (weight 0), "overloaded" (over its upper threshold)
	// or "sorry" (the sorry server).
	State string `json:"state"`
	// Hop says how frames reach it ("eth1 02:…", or why they cannot).
	Hop  string     `json:"hop,omitempty"`
	Path PathStatus `json:"path"`
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
