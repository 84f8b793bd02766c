package director

import "sync/atomic"

// Counters are those of one server and outlive every table. Each worker has a cache
// line, which only it writes; readers add the lines up.
type Counters struct{ shards []counterShard }

type counterShard struct {
	conns, inPkts, outPkts, inBytes, outBytes atomic.Uint64
	tooBig, split                             atomic.Uint64
	_                                         [8]byte // fills the cache line
}

// Totals are counters added up over the workers. Bytes are total lengths of IP packets
// as they came in (net/netfilter/ipvs/ip_vs_core.c, ip_vs_in_stats).
type Totals struct {
	Conns, InPkts, OutPkts, InBytes, OutBytes uint64
	// Packets to the server that were longer than the MTU: refused, and sent in
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
