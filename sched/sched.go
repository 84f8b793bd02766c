package sched

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"uvs/dataplane/wire"
)

// Server is one real server of a service, as a scheduler sees it.
//
// It is eligible, that is, may be given a new connection, while Weight is
// above 0, Overload is not set and Down is not said.
type Server struct {
	// ID names the server as long as it exists, over any number of lists. Any
	// value but the highest uint32.
	ID uint32

	Addr wire.Addr // RIP, for mh's permutation
	Port uint16    // port of the server, for mh's permutation

	Weight     int32 // 0: no new connections
	LastWeight int32 // if Weight is 0: the last that was not (mh keeps its slots by it); 0: never had one

	// Active and Inactive count the live connections; the connection table
	// owns and changes them. nil: always 0.
	Active, Inactive *atomic.Int32

	// Overload is set while the server is over its upper threshold. nil: never.
	Overload *atomic.Bool

	// Down is the verdict of health checking: never picked, whatever the
	// scheduler. Under rr, wrr and the load comparing schedulers it is the same
	// as weight 0; under dh, sh and mh the server keeps its place in the table,
	// and its clients alone go elsewhere until it is back.
	Down bool

	// RampStart and RampEnd, in ms on the clock of Flow.Now, are the time of
	// slow start: between them the server's weight rises from nothing to
	// Weight for lc, wlc, sed, nq, lblc, lblcr and twos. Equal: no slow start.
	RampStart, RampEnd int64
}

// Flow is what a scheduler may know of a new connection.
type Flow struct {
	Client, VIP      wire.Addr // source and destination of the first packet
	ClientPort, Port uint16    // its ports, host order
	Now              int64     // ms, on any clock that only goes forward
}

// Picker is a scheduler with its server list.
type Picker interface {
	// Pick returns the index of the server for f in the list the Picker was
	// built from, or -1 if none is eligible. c is the cursor of the service.
	Pick(c *Cursor, f Flow) int
}

// Options are settings IPVS has as compile time or global ones, or not at
// all. The zero value is IPVS's default.
type Options struct {
	// Table is the number of mh slots, one of TableSizes. 0: DefaultTable.
	Table int

	// Fields are what dh, sh and mh hash. 0: IPVS's choice, which is VIP for
	// dh, Client for sh and mh, and ClientPort too with their port flag.
	Fields Fields

	// Expiration is lblc_expiration or lblcr_expiration: how long an address
	// that nobody asks for stays with its server, and how long a set of lblcr
	// stays unchanged before it shrinks. 0: DefaultExpiration.
	Expiration time.Duration
}

// DefaultExpiration is the kernel's default of the sysctls
// net.ipv4.vs.lblc_expiration and lblcr_expiration.
const DefaultExpiration = 24 * time.Hour

// MaxServers is the longest server list of one service.
const MaxServers = 1 << 16

// makers builds each scheduler.
var makers = map[string]func(Flags, []Server, Options) (Picker, error){
	"rr":    newRR,
	"wrr":   newWRR,
	"lc":    newLC,
	"wlc":   newWLC,
	"lblc":  newLBLC,
	"lblcr": newLBLCR,
	"dh":    newDH,
	"sh":    newSH,
	"sed":   newSED,
	"nq":    newNQ,
	"fo":    newFO,
	"ovf":   newOVF,
	"mh":    newMH,
	"twos":  newTwos,
	"none":  newNone,
}

// names are the schedulers in the order of IPVS's documentation.
var names = []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos", "none"}

// Names returns the names New knows.
func Names() []string { return slices.Clone(names) }

// Known says whether New knows the name.
func Known(name string) bool { return makers[name] != nil }

// New builds the Picker of a service: scheduler name with flags over servers,
// which must be in IPVS's order, newest first. It keeps nothing of the slice
// but the counters its elements point at.
func New(name string, flags Flags, servers []Server, o Options) (Picker, error) {
	build := makers[name]
	if build == nil {
		return nil, fmt.Errorf("scheduler %q is not known; there are %v", name, names)
	}
	if flags&^(Flag1|Flag2|Flag3) != 0 {
		return nil, fmt.Errorf("scheduler flags %#x: only %#x can be set", uint32(flags), uint32(Flag1|Flag2|Flag3))
	}
	if len(servers) > MaxServers {
		return nil, fmt.Errorf("%d servers in one service: at most %d", len(servers), MaxServers)
	}
	for i := range servers {
		if servers[i].Weight < 0 {
			return nil, fmt.Errorf("server %v weight %d: must not be negative", servers[i].Addr, servers[i].Weight)
		}
	}
	return build(flags, servers, o)
}

// none is the absence of a scheduler: every new connection is refused.
type none struct{}

func newNone(Flags, []Server, Options) (Picker, error) { return none{}, nil }

func (none) Pick(*Cursor, Flow) int { return -1 }
