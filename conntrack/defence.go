package conntrack

// defence is a worker's part of the drop_entry and drop_packet defences.
type defence struct {
	packets int                // until the next one is dropped
	swept   Tick               // when drop_entry last looked
	left    int                // conns to look at this second
	hand    Ref                // where it looks next
	rate    [dropRates + 1]int // candidates of a packet count until one is dropped
}

const (
	dropRates = 8 // the kernel's todrop_rate: conns with 1 to 8 packets
	// dropShare is the part of the table drop_entry looks at each second, the
	// kernel's ip_vs_conn_tab_size>>5.
	dropShare = 32
	// dropIdle spares conns that had no packet for so long (the kernel's
	// todrop_entry: 60 s).
	dropIdle = 60 * Second
)

// reserve is Settings.Reserve or its default.
func (s *Settings) reserve(capacity int) int {
	if s.Reserve > 0 {
		return s.Reserve
	}
	return capacity / 16
}

// DropPacket says whether a packet that would begin a conn is to be refused
// (drop_packet). Under ModeAlways it is every DropRate-th, the first included;
// under ModeAuto as many as room is short of the reserve.
func (l *Worker) DropPacket() bool {
	if !l.settings.DropPacket.on(l.tight) {
		return false
	}
	if l.defence.packets--; l.defence.packets > 0 {
		return false
	}
	l.defence.packets = max(l.settings.DropRate, 1)
	if l.settings.DropPacket == ModeAuto {
		reserve := l.settings.reserve(l.t.max)
		short := max(reserve-int(l.t.left.Load()), 1)
		l.defence.packets = max(reserve/short, 1)
	}
	return true
}

// defend looks for conns to drop (drop_entry): each second at this worker's
// part of a 32nd of the table.
func (l *Worker) defend(budget *int) {
	d := &l.defence
	if !l.settings.DropEntry.on(l.tight) {
		return
	}
	used := int(l.t.fresh.Load())
	if l.now-d.swept >= Second {
		d.swept = l.now
		d.left = used/(dropShare*len(l.t.locals)) + 1
	}
	for ; d.left > 0 && *budget > 0; d.left-- {
		*budget--
		if d.hand++; int(d.hand) >= used {
			d.hand = 1
		}
		if l.drops(d.hand) {
			l.end(d.hand, EndedByDropEntry)
		}
	}
}

// drops says whether drop_entry takes a conn (reference: ip_vs_random_dropentry
// and todrop_entry): templates that are not assured, half-open conns, and a part
// of those with few packets.
func (l *Worker) drops(ref Ref) bool {
	c := &l.t.conns[ref]
	w := c.word()
	switch s := w.state(); {
	case !w.listed() || c.children.Load() != 0:
		return false
	case s == TemplateNone:
		return true
	case s == TCPSynRecv || s == TCPSynAck || s == SCTPInit1 || s == SCTPInit:
		return true
	case s == TCPEstablished || s == UDPNormal || s == SCTPEstablished || s == OtherNormal:
		return l.sampled(c, w)
	}
	return false
}

// sampled is true for every n-th conn with n packets, n from 1 to 8.
func (l *Worker) sampled(c *Conn, w life) bool {
	n := int(w.in())
	if n < 1 || n > dropRates || l.idle(c, w) > dropIdle {
		return false
	}
	if l.defence.rate[n]--; l.defence.rate[n] > 0 {
		return false
	}
	l.defence.rate[n] = n
	return true
}
