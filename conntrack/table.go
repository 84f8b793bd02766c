package conntrack

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"uvs/dataplane/keyhash"
	"uvs/dataplane/slab"
)

// Config sizes a table. It cannot be changed later.
type Config struct {
	// Max is the number of conns the table holds, templates included.
	// 0: as many as Memory has room for.
	Max int
	// Memory is the budget in bytes for all that the table will ever touch; it
	// lowers Max if need be. 0: only Max counts.
	Memory int64
	// Reserved is the part of Memory, in bytes, that others use (frag.Memory).
	Reserved int64
	// Workers is the number of Workers, at most MaxWorkers. 0: one.
	Workers int
	// ServerIDs bounds server IDs, which are below it; 0, and at most: 65536.
	ServerIDs int
	// Sessions is how many conns can have a session at a time, at most MaxSessions.
	Sessions int
	// Seed makes the hash repeat from run to run, for tests. 0: random.
	Seed uint64

	slack int // conns of the slab beyond Max; 0: the usual
}

const (
	// MaxWorkers keeps the bytes of bucket.displaced from overflowing: a bucket has seven
	// settled conns, and one tentative conn of each worker. Conn.owner has 7 bits for it.
	MaxWorkers = 128

	defaultMax   = 1 << 20
	maxServerIDs = 1 << 16
	maxConns     = 1 << 30 // Conn.children has a flag in bit 31
)

// Counts are the numbers of live conns of one server. Schedulers read them. A worker may
// count the end of a conn a moment before another counts its beginning. Then a reader
// sees a count one too low, or below zero, for a batch at most.
type Counts struct {
	Active, Inactive, Templates atomic.Int32

	// Timeouts are what Step is given for conns of this server, or nil. Eviction and
	// the defences need them to know for how long a conn has been idle.
	_        [0]atomic.Int64 // aligns the pointer where it has 4 bytes
	Timeouts atomic.Pointer[Timeouts]
	_        [5]atomic.Int64 // fills the cache line
}

// Total returns how many conns the server has, without templates.
func (c *Counts) Total() int32 { return c.Active.Load() + c.Inactive.Load() }

// Table is the connection table. Its methods may be called from any goroutine. What
// packets need are methods of Worker. What workers change often has separate cache
// lines.
type Table struct {
	index
	connSlab   slab.Slab[Conn]
	bucketSlab slab.Slab[bucket]
	inboxLinks slab.Slab[atomic.Uint32] // one for each conn; see linkEnd
	counts     []Counts                 // by server ID
	workers    []Worker
	max        int // Config.Max
	chunkSize  int // how many conns, and credits, a worker takes at once
	settings   atomic.Pointer[Settings]

	externalMu sync.Mutex // one goroutine at a time is external
	external   reader

	_            [64]byte
	epoch        atomic.Uint64
	_            [56]byte
	clock        atomic.Int64 // the latest time of a batch
	_            [56]byte
	credits      atomic.Int64 // those that no reader has taken; see takeCredit
	_            [56]byte
	chunks       atomic.Uint64 // the common store of free conns; see returnChunk
	firstUnused  atomic.Uint64 // the first conn of the slab that was never used
	_            [48]byte
	expectations atomic.Int64 // conns marked NoClientPort or NoServerPort
	secondSlots  atomic.Int64 // conns with a second slot
	_            [48]byte
	sessions     sessions
}

// freeSecondSlots is the part of Config.Max up to which second slots are free: a 16th.
// Each further one takes a credit. So at most 64 of 100 slots of the index are taken.
const freeSecondSlots = 16

const (
	bucketBytes = 64  // a bucket: a cache line
	connBytes   = 100 // a Conn and its inbox link
	// perConn is the memory of a conn in a full table, its part of the index included.
	perConn  = connBytes + bucketBytes*100/(60*slotsPerBucket) + 1
	hugePage = 2 << 20

	countsBytes = 64       // a Counts: a cache line
	workerBytes = 16 << 10 // a Worker, rounded up
)

// usualSlack returns how many conns the slab has beyond Max, for those that ended and wait
// for the end of their grace period.
func usualSlack(max, workers int) int { return workers*4096 + max/64 }

// NewTable makes an empty table. It takes address space; memory is touched as conns
// come.
func NewTable(cfg Config) (*Table, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	t := &Table{
		index:     index{key: keyhash.New(cfg.Seed)},
		counts:    make([]Counts, cfg.ServerIDs),
		workers:   make([]Worker, cfg.Workers),
		sessions:  newSessions(cfg.Sessions),
		max:       cfg.Max,
		chunkSize: min(max(cfg.Max/(64*cfg.Workers), 1), 256),
	}
	if err := t.mapMemory(cfg.Max, cfg.slack); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.settings.Store(DefaultSettings())
	t.epoch.Store(firstEpoch)
	t.firstUnused.Store(1) // Ref 0 is no conn
	t.credits.Store(int64(cfg.Max))
	t.external.t = t
	for i := range t.workers {
		t.workers[i].init(t, i)
	}
	return t, nil
}

// complete sets defaults and checks the rest.
func (cfg *Config) complete() error {
	if cfg.Workers == 0 {
		cfg.Workers = 1
	}
	if cfg.ServerIDs == 0 {
		cfg.ServerIDs = maxServerIDs
	}
	if cfg.Max == 0 && cfg.Memory == 0 {
		cfg.Max = defaultMax
	}
	if cfg.Workers < 0 || cfg.Workers > MaxWorkers {
		return fmt.Errorf("connection table for %d workers: want 1 to %d", cfg.Workers, MaxWorkers)
	}
	if cfg.ServerIDs < 0 || cfg.Max < 0 || cfg.Memory < 0 {
		return fmt.Errorf("connection table of %d conns, %d bytes, %d servers: none may be negative",
			cfg.Max, cfg.Memory, cfg.ServerIDs)
	}
	if cfg.ServerIDs > maxServerIDs || cfg.Sessions < 0 || cfg.Sessions > MaxSessions {
		return fmt.Errorf("connection table for %d servers and %d sessions: want at most %d and 0 to %d",
			cfg.ServerIDs, cfg.Sessions, maxServerIDs, MaxSessions)
	}
	if cfg.Memory > 0 {
		if err := cfg.fitBudget(); err != nil {
			return err
		}
	}
	if cfg.slack == 0 {
		cfg.slack = usualSlack(cfg.Max, cfg.Workers)
	}
	if cfg.Max > maxConns {
		return fmt.Errorf("connection table of %d conns: want at most %d", cfg.Max, maxConns)
	}
	return nil
}

// fitBudget lowers Max to what fits into Memory.
func (cfg *Config) fitBudget() error {
	fixed := cfg.Reserved + int64(cfg.ServerIDs)*countsBytes +
		int64(cfg.Workers)*int64(workerBytes+usualSlack(0, 1)*perConn) + 3*hugePage
	fit := (cfg.Memory - fixed) * 64 / (65 * int64(perConn)) // a 64th of Max is slack
	if fit < 1 {
		return fmt.Errorf("connection table in %d bytes: want at least %d", cfg.Memory, fixed+2*int64(perConn))
	}
	if cfg.Max == 0 || int64(cfg.Max) > fit {
		cfg.Max = int(fit)
	}
	return nil
}

func (t *Table) mapMemory(max, slack int) (err error) {
	if t.connSlab, err = slab.New[Conn](1 + max + slack); err != nil {
		return err
	}
	if t.inboxLinks, err = slab.New[atomic.Uint32](1 + max + slack); err != nil {
		return err
	}
	if t.bucketSlab, err = slab.New[bucket](bucketsFor(max)); err != nil {
		return err
	}
	t.conns, t.buckets = t.connSlab.Items, t.bucketSlab.Items
	return nil
}

// Close unmaps the table. No Worker, Conn or Walk may be in use.
func (t *Table) Close() error {
	t.externalMu.Lock()
	defer t.externalMu.Unlock()
	t.conns, t.buckets = nil, nil
	return errors.Join(t.connSlab.Close(), t.inboxLinks.Close(), t.bucketSlab.Close())
}

// Worker returns a worker's handle; only that worker may use it.
func (t *Table) Worker(worker int) *Worker { return &t.workers[worker] }

// Counts returns the counts of a server; good until Close. IDs that are not below
// Config.ServerIDs share those of server 0.
func (t *Table) Counts(serverID uint32) *Counts {
	if int(serverID) >= len(t.counts) {
		serverID = 0
	}
	return &t.counts[serverID]
}

// Settings returns what SetSettings set last.
func (t *Table) Settings() *Settings { return t.settings.Load() }

// SetSettings makes workers use s from their next batch on. Deadlines already set
// stay. s must not be changed afterwards.
func (t *Table) SetSettings(s *Settings) { t.settings.Store(s) }
