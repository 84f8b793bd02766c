package sched

import (
	"slices"

	"uvs/dataplane/wire"
)

// twin is a plain IPVS: a list of servers, newest first, that one command at a time
// changes. Every scheduler is written as its description reads, without regard to
// speed or concurrency.
type twin struct {
	name  string
	flags Flags
	list  []*dest

	last       *dest // rr: last used; wrr: current; nil: the head of the list
	cw, mw, di int32 // wrr

	cache   map[wire.Addr]*assignment // lblc, lblcr
	expires int64                     // s
}

// dest is a server of the twin. It shares its counters with the server under test.
type dest struct {
	Server
}

// assignment is the set of servers of an address.
type assignment struct {
	set           []*dest // newest first
	used, changed int64   // s
}

func newTwin(name string, flags Flags) *twin {
	t := &twin{name: name, flags: flags, cache: map[wire.Addr]*assignment{}, expires: 100}
	t.di = 1
	return t
}

// weight is 0 for a server that is down, a state that IPVS does not have.
func (d *dest) weight() int64 { return int64(d.Server.weight()) }

func (d *dest) overloaded() bool { return d.Overload.Load() }
func (d *dest) ok() bool         { return d.weight() > 0 && !d.overloaded() }
func (d *dest) active() int64    { return int64(d.Active.Load()) }

// overhead is (active << 8) + total.
func (d *dest) overhead() int64 {
	return d.active()<<8 + d.active() + int64(d.Inactive.Load())
}

func (t *twin) add(s Server) { t.list = append([]*dest{{s}}, t.list...); t.changed() }
func (t *twin) edit(at int, s Server) {
	t.list[at].Server = s
	t.changed()
}

func (t *twin) del(at int) {
	gone := t.list[at]
	if t.name == "rr" && t.last == gone {
		t.last = nil
		if at > 0 {
			t.last = t.list[at-1]
		}
	}
	t.list = slices.Delete(slices.Clone(t.list), at, at+1)
	gone.Weight = 0 // it stays in the sets of lblcr
	t.changed()
}

// changed is what wrr does after any change of the list.
func (t *twin) changed() {
	if t.name != "wrr" {
		return
	}
	t.last, t.mw, t.di = nil, 0, 0
	for _, d := range t.list {
		if w := int32(d.weight()); w > 0 {
			t.mw = max(t.mw, w)
			for t.di == 0 || t.di > w || !t.divides() {
				if t.di == 0 {
					t.di = w + 1
				}
				t.di--
			}
		}
	}
	t.di = max(t.di, 1)
	t.mw -= t.di - 1
	if t.cw > t.mw || t.cw == 0 {
		t.cw = t.mw
	} else if t.di > 1 {
		t.cw = t.cw/t.di*t.di + 1
	}
}

// divides reports whether di divides every weight.
func (t *twin) divides() bool {
	for _, d := range t.list {
		if int32(d.weight())%t.di != 0 {
			return false
		}
	}
	return true
}

func (t *twin) pick(f Flow) *dest {
	switch t.name {
	case "rr":
		return t.rr()
	case "wrr":
		return t.wrr()
	case "lc":
		return t.least((*dest).ok, func(d *dest) (int64, int64) { return d.overhead(), 1 })
	case "wlc":
		return t.wlc()
	case "sed", "nq":
		for _, d := range t.list {
			if t.name == "nq" && d.ok() && d.active() == 0 {
				return d
			}
		}
		return t.least((*dest).ok, func(d *dest) (int64, int64) { return d.active() + 1, d.weight() })
	case "fo", "ovf":
		var best *dest
		for _, d := range t.list {
			if d.ok() && (t.name == "fo" || d.active() <= d.weight()) && (best == nil || d.weight() > best.weight()) {
				best = d
			}
		}
		return best
	case "dh", "sh":
		return t.hash256(f)
	case "mh":
		return t.mh(f)
	case "lblc":
		return t.lblc(f)
	case "lblcr":
		return t.lblcr(f)
	}
	return nil
}

func (t *twin) rr() *dest {
	at := slices.Index(t.list, t.last) // -1: the head
	for n := 1; n <= len(t.list); n++ {
		d := t.list[(at+n)%len(t.list)]
		if d.ok() {
			t.last = d
			return d
		}
	}
	return nil
}

// wrr walks from the current server to one with weight >= cw. At the end of the list
// cw falls. It gives up after a whole walk at the lowest level, which may be in two
// parts around the server at which it began.
func (t *twin) wrr() *dest {
	if t.mw == 0 {
		return nil
	}
	start := slices.Index(t.list, t.last)
	lowest, again := false, false
	for at := start + 1; ; at = 0 {
		for ; at < len(t.list); at++ {
			if d := t.list[at]; !d.overloaded() && d.weight() >= int64(t.cw) {
				t.last = d
				return d
			}
			if lowest && again && at == start {
				return nil
			}
		}
		t.cw -= t.di
		if t.cw <= 0 {
			t.cw = t.mw
			if lowest || start < 0 {
				t.last = nil
				return nil
			}
			again = true
		}
		lowest = t.cw <= t.di
	}
}

// least returns the first server with the least cost per weight, of those that qualify.
func (t *twin) least(qualifies func(*dest) bool, load func(*dest) (cost, weight int64)) *dest {
	return leastOf(t.list, qualifies, load)
}

func leastOf(list []*dest, qualifies func(*dest) bool, load func(*dest) (cost, weight int64)) *dest {
	var best *dest
	for _, d := range list {
		if !qualifies(d) {
			continue
		}
		if best == nil {
			best = d
			continue
		}
		cost, weight := load(d)
		bestCost, bestWeight := load(best)
		if bestCost*weight > cost*bestWeight {
			best = d
		}
	}
	return best
}

func byOverhead(d *dest) (int64, int64) { return d.overhead(), d.weight() }

func (t *twin) wlc() *dest { return t.least((*dest).ok, byOverhead) }

// word returns an address in host order. An IPv6 address is XORed byte by byte.
func word(a wire.Addr) uint32 {
	b := a[:]
	if a.Is4() {
		b = a[12:]
	}
	var w [4]byte
	for i := range b {
		w[i%4] ^= b[i]
	}
	return uint32(w[0])<<24 | uint32(w[1])<<16 | uint32(w[2])<<8 | uint32(w[3])
}

func (t *twin) hash256(f Flow) *dest {
	if len(t.list) == 0 {
		return nil
	}
	var buckets []*dest
	for len(buckets) < 256 {
		for _, d := range t.list {
			n := int64(1)
			if t.name == "sh" {
				n = max(int64(d.Weight), 1)
			}
			for range n {
				buckets = append(buckets, d)
			}
		}
	}
	v := word(f.VIP)
	if t.name == "sh" {
		v = word(f.Client)
		if t.flags&Flag2 != 0 {
			v += uint32(f.ClientPort)
		}
	}
	hash := v * 0x61C88647 >> 24
	d := buckets[hash]
	if d.ok() || t.name == "dh" || t.flags&Flag1 == 0 {
		return eligible(d)
	}
	for i := range uint32(256) {
		off := (i + hash) % 256
		if d := buckets[(off+hash)&255]; d.ok() {
			return d
		}
	}
	return nil
}

func eligible(d *dest) *dest {
	if d.ok() {
		return d
	}
	return nil
}

// mh follows the Maglev paper: each server in turn takes the next free slot of its
// permutation.
func (t *twin) mh(f Flow) *dest {
	const size = DefaultTable
	g, highest := int32(0), int32(0)
	for _, d := range t.list {
		if w := d.lastWeight(); w > 0 {
			g, highest = gcd(w, g), max(highest, w)
		}
	}
	if g == 0 {
		return nil
	}
	shift := 0
	for highest/g>>shift >= 1<<6 {
		shift++
	}
	slots := make([]*dest, size)
	next := make([]int, len(t.list))
	for filled := 0; filled < size; {
		for i, d := range t.list {
			perRound := d.lastWeight() / g >> shift
			if perRound == 0 && d.lastWeight() > 0 {
				perRound = 1
			}
			name := word(d.Addr) + uint32(d.Port)
			off, skip := int(slotKey.hash(name)%size), int(skipKey.hash(name)%(size-1)+1)
			for ; perRound > 0 && filled < size; perRound-- {
				for slots[(off+next[i]*skip)%size] != nil {
					next[i]++
				}
				slots[(off+next[i]*skip)%size] = d
				filled++
			}
		}
	}
	v := word(f.Client)
	if t.flags&Flag2 != 0 {
		v += uint32(f.ClientPort)
	}
	first := slotKey.hash(v) % size
	if d := slots[first]; d.ok() || t.flags&Flag1 == 0 {
		return eligible(d)
	}
	for i := range uint32(size) {
		off := (i + first) % size
		if d := slots[slotKey.hash(v+off)%size]; d.ok() {
			return d
		}
	}
	return nil
}

func (t *twin) busy(d *dest) bool {
	return d.active() > d.weight() &&
		slices.ContainsFunc(t.list, func(o *dest) bool { return 2*o.active() < o.weight() })
}

// assigned returns the servers of an address. It forgets them if the address was not
// used for the expiration time.
func (t *twin) assigned(f Flow) *assignment {
	a, now := t.cache[f.VIP], f.Now/1000
	if a == nil || now-a.used > t.expires {
		a = &assignment{changed: now}
		t.cache[f.VIP] = a
	}
	a.used = now
	return a
}

func (t *twin) lblc(f Flow) *dest {
	a := t.assigned(f)
	if len(a.set) > 0 && a.set[0].weight() > 0 && !t.busy(a.set[0]) {
		return a.set[0]
	}
	d := t.wlc()
	if d != nil {
		a.set = []*dest{d}
	}
	return d
}

func (t *twin) lblcr(f Flow) *dest {
	a, now := t.assigned(f), f.Now/1000
	d := leastOf(a.set, (*dest).ok, byOverhead)
	if len(a.set) > 1 && now-a.changed > t.expires {
		most := leastOf(a.set, func(d *dest) bool { return d.weight() > 0 },
			func(d *dest) (int64, int64) { return -d.overhead(), d.weight() })
		if most != nil {
			a.set = slices.DeleteFunc(a.set, func(d *dest) bool { return d == most })
			a.changed = now
		}
	}
	if d != nil && !t.busy(d) {
		return d
	}
	if d = t.wlc(); d != nil && !slices.Contains(a.set, d) {
		a.set = append([]*dest{d}, a.set[:min(len(a.set), maxSetSize-1)]...)
		a.changed = now
	}
	return d
}
