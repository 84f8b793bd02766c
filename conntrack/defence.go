package conntrack

// defence is a worker's part of the drop_entry and drop_packet defences.
type defence struct {
	packetCountdown int                // packets until drop_packet drops the next
	lastSweep       Tick               // when drop_entry last began
	toSweep         int                // conns it has yet to look at this second
	clockHand       Ref                // the conn it looked at last
	countdown       [dropRates + 1]int // by packet count: conns until it drops the next
}

const (
	dropRates = 8 // conns with 1 to 8 packets (ip_vs_conn.c, todrop_rate)
	// dropShare is the part of the table that drop_entry looks at each second
	// (ip_vs_conn.c, ip_vs_random_dropentry: ip_vs_conn_tab_size>>5).
	dropShare = 32
	// dropIdle spares conns that had no packet for so long (ip_vs_conn.c,
	// todrop_entry: 60 s).
	dropIdle = 60 * Second
)

// reserve returns Settings.AMReserve or its default.
func (s *Settings) reserve(capacity int) int {
	if s.AMReserve > 0 {
		return s.AMReserve
	}
	return capacity / 16
}

// DropPacket reports whether a packet that would begin a conn is to be dropped
// (drop_packet). Under ModeAlways this is every AMDropRate-th, the first included. Under
// ModeAuto it drops more, the further the free room is below the reserve.
func (w *Worker) DropPacket() bool {
	if !w.settings.DropPacket.on(w.belowReserve) {
		return false
	}
	if w.defence.packetCountdown--; w.defence.packetCountdown > 0 {
		return false
	}
	w.defence.packetCountdown = max(w.settings.AMDropRate, 1)
	if w.settings.DropPacket == ModeAuto {
		reserve := w.settings.reserve(w.t.max)
		short := max(reserve-int(w.t.credits.Load()), 1)
		w.defence.packetCountdown = max(reserve/short, 1)
	}
	return true
}

// dropEntries ends conns for drop_entry: each second it looks at this worker's part of
// a 32nd of the table.
func (w *Worker) dropEntries(budget *int) {
	d := &w.defence
	if !w.settings.DropEntry.on(w.belowReserve) {
		return
	}
	used := int(w.t.firstUnused.Load())
	if w.now-d.lastSweep >= Second {
		d.lastSweep = w.now
		d.toSweep = used/(dropShare*len(w.t.workers)) + 1
	}
	for ; d.toSweep > 0 && *budget > 0; d.toSweep-- {
		*budget--
		if d.clockHand++; int(d.clockHand) >= used {
			d.clockHand = 1
		}
		if w.wantsDrop(d.clockHand) {
			w.end(d.clockHand, EndedByDropEntry)
		}
	}
}

// wantsDrop reports whether drop_entry ends a conn (net/netfilter/ipvs/ip_vs_conn.c,
// ip_vs_random_dropentry and todrop_entry): templates that are not assured, half-open
// conns, and a part of those with few packets.
func (w *Worker) wantsDrop(ref Ref) bool {
	c := &w.t.conns[ref]
	word := c.loadStateWord()
	switch s := word.state(); {
	case !word.listed() || c.children.Load() != 0:
		return false
	case s == TemplateNone:
		return true
	case s == TCPSynRecv || s == TCPSynAck || s == SCTPInit1 || s == SCTPInit:
		return true
	case s == TCPEstablished || s == UDPNormal || s == SCTPEstablished || s == OtherNormal:
		return w.sampled(c, word)
	}
	return false
}

// sampled reports whether a conn with n packets is an n-th one, n from 1 to 8.
func (w *Worker) sampled(c *Conn, word stateWord) bool {
	n := int(word.packetsIn())
	if n < 1 || n > dropRates || w.idle(c, word, &w.settings.Timeouts) > dropIdle {
		return false
	}
	if w.defence.countdown[n]--; w.defence.countdown[n] > 0 {
		return false
	}
	w.defence.countdown[n] = n
	return true
}
