package director

import (
	"encoding/binary"
	"sync/atomic"

	"uvs/conntrack"
	"uvs/dataplane/wire"
)

// Path is the path MTU to a server's address as routers behind the first hop report it
// (RFC 1191, RFC 8201). It outlives tables; all workers and all servers with the
// address share it.
//
// Anyone can forge such a report. So none is believed below the least MTU that the
// kernel believes, nor for longer than pathTime.
type Path struct {
	// learned has the path MTU in its upper 16 bits, and below the tick at which it is
	// forgotten; 0: none was ever learned.
	learned atomic.Uint64
	// by is the router that reported it. After two reports at once it may be a mixture
	// of both, until the next.
	by [2]atomic.Uint64
}

const (
	pathTime   = 600 * conntrack.Second // mtu_expires, net/ipv4/route.c
	leastPath4 = 552                    // min_pmtu, net/ipv4/route.c
	leastPath6 = 1280                   // RFC 8201 section 4
	pathShift  = 48
)

// mtu returns the size of the longest packet that reaches the server, if its first hop
// takes limit.
func (p *Path) mtu(now conntrack.Tick, limit int) int {
	if w := p.learned.Load(); w != 0 && now < pathTick(w) {
		return min(limit, int(w>>pathShift))
	}
	return limit
}

func pathTick(w uint64) conntrack.Tick { return conntrack.Tick(w & (1<<pathShift - 1)) }

// learn records that the router by reported mtu for a server of the family, whose first
// hop takes limit. A report can only lower or renew what is known.
func (p *Path) learn(now conntrack.Tick, mtu, limit int, ipv6 bool, by wire.Addr) {
	least := leastPath4
	if ipv6 {
		least = leastPath6
	}
	if mtu = max(mtu, least); mtu >= limit || mtu > p.mtu(now, limit) {
		return
	}
	p.by[0].Store(binary.BigEndian.Uint64(by[:8]))
	p.by[1].Store(binary.BigEndian.Uint64(by[8:]))
	p.learned.Store(uint64(mtu)<<pathShift | uint64(now+pathTime))
}

// Learned returns the path MTU, who reported it and when it is forgotten; ok is false
// if none is known.
func (p *Path) Learned(now conntrack.Tick) (mtu int, by wire.Addr, until conntrack.Tick, ok bool) {
	w := p.learned.Load()
	if until = pathTick(w); now >= until {
		return 0, by, 0, false
	}
	binary.BigEndian.PutUint64(by[:8], p.by[0].Load())
	binary.BigEndian.PutUint64(by[8:], p.by[1].Load())
	return int(w >> pathShift), by, until, true
}
