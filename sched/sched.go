package sched

import (
	"fmt"
	"sync/atomic"
	"time"

	"uvs/dataplane/wire"
)

// Server is one real server of a service, as a scheduler sees it.
//
// It is eligible for a new connection while Weight is above 0 and neither
// Overload nor Down is set.
type Server struct {
	// ID identifies the server in all lists while it exists. It must not be the
	// highest uint32.
	ID uint32

	Addr wire.Addr // RIP, for mh's permutation
	Port uint16    // port of the server, for mh's permutation

	Weight     int32 // 0: no new connections
	LastWeight int32 // the last Weight above 0, by which mh keeps slots for weight 0; 0: none

	// Active and Inactive count the live connections. The connection table owns
	// and changes them. nil: always 0.
	Active, Inactive *atomic.Int32

	// Overload is set while the server is over its upper threshold. nil: never.
	Overload *atomic.Bool

	// Down is set by health checking: the server is never picked. Most
	// schedulers treat it as weight 0. Under dh, sh and mh the server keeps its
	// slots, so that only its own clients go to other servers until it is back.
	Down bool

	// SlowStartBegin and SlowStartEnd, in ms on the clock of Flow.Now, delimit the slow
	// start: between them the server's weight rises from nothing to Weight. It
	// applies to lc, wlc, sed, nq, lblc, lblcr and twos. Equal: no slow start.
	SlowStartBegin, SlowStartEnd int64
}

// Flow describes a new connection to a scheduler.
type Flow struct {
	Client, VIP      wire.Addr // source and destination of the first packet
	ClientPort, Port uint16    // its ports, host order
	Now              int64     // ms, on a monotonic clock
}

// Picker is a scheduler with its server list.
type Picker interface {
	// Pick returns the server for f, as an index into the list from which the
	// Picker was built, or -1 if none is eligible. c is the service's Cursor.
	Pick(c *Cursor, f Flow) int
}

// Options are settings that IPVS has at compile time, globally, or not at all. The
// zero value is IPVS's default.
type Options struct {
	// Table is the number of mh slots, one of TableSizes. 0: DefaultTable.
	Table int

	// Fields are the fields that dh, sh and mh hash. 0: those of IPVS. dh hashes
	// VIP; sh and mh hash Client, and also ClientPort with their port flag.
	Fields Fields

	// Expiration is lblc_expiration or lblcr_expiration. An address without new
	// connections keeps its server for that long, and a set of lblcr stays
	// unchanged for that long before it shrinks. 0: DefaultExpiration.
	Expiration time.Duration
}

// DefaultExpiration is the kernel's default of the sysctls
// net.ipv4.vs.lblc_expiration and lblcr_expiration.
const DefaultExpiration = 24 * time.Hour

// MaxServiceServers is the longest server list of one service.
const MaxServiceServers = 1 << 16

type constructor func(Flags, []Server, Options) (Picker, error)

// scheduler is one row of the table below.
type scheduler struct {
	name   string
	new    constructor
	start  func(c *Cursor, servers []Server, vips int) // fills a new Cursor; nil: zero is the start
	rebase func(c *Cursor, old, new []Server)          // see Cursor.Rebase; nil: nothing to do
}

// schedulers are in the order of IPVS's documentation.
var schedulers = []scheduler{
	{"rr", newRR, nil, rebaseRR},
	{"wrr", newWRR, startWRR, rebaseWRR},
	{"lc", newLC, nil, nil},
	{"wlc", newLeast(overhead), nil, nil},
	{"lblc", newLocality(false), startCache, nil},
	{"lblcr", newLocality(true), startCache, nil},
	{"dh", newDH, nil, nil},
	{"sh", newSH, nil, nil},
	{"sed", newLeast(delay), nil, nil},
	{"nq", newLeast(queue), nil, nil},
	{"fo", newFO, nil, nil},
	{"ovf", newOVF, nil, nil},
	{"mh", newMH, nil, nil},
	{"twos", newTwos, nil, nil},
	{"none", func(Flags, []Server, Options) (Picker, error) { return none{}, nil }, nil, nil},
}

func find(name string) *scheduler {
	for i := range schedulers {
		if schedulers[i].name == name {
			return &schedulers[i]
		}
	}
	return nil
}

func Names() []string {
	var list []string
	for i := range schedulers {
		list = append(list, schedulers[i].name)
	}
	return list
}

// Known reports whether there is a scheduler of that name.
func Known(name string) bool { return find(name) != nil }

// New builds the Picker of a service. servers must be in IPVS's order, newest
// first. The Picker keeps nothing of the slice, except the pointers to counters.
func New(name string, flags Flags, servers []Server, o Options) (Picker, error) {
	s := find(name)
	if s == nil {
		return nil, fmt.Errorf("scheduler %q is not known; there are %v", name, Names())
	}
	if flags&^(Flag1|Flag2|Flag3) != 0 {
		return nil, fmt.Errorf("scheduler flags %#x: only %#x can be set", uint32(flags), uint32(Flag1|Flag2|Flag3))
	}
	if len(servers) > MaxServiceServers {
		return nil, fmt.Errorf("%d servers in one service: at most %d", len(servers), MaxServiceServers)
	}
	for i := range servers {
		if servers[i].Weight < 0 {
			return nil, fmt.Errorf("server %v weight %d: must not be negative", servers[i].Addr, servers[i].Weight)
		}
	}
	return s.new(flags, servers, o)
}

// none picks no server: every new connection is refused.
type none struct{}

func (none) Pick(*Cursor, Flow) int { return -1 }
