package ring

import (
	"fmt"
	"net"
)

// Reopen opens interface i of all links of a group again, after it was deleted and
// created again with the same name. A worker uses the new ring from its next Recv
// on, and its counters continue. On error the links do not change.
func Reopen(links []*Link, cfg Config, i int) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	ports, err := openInterface(len(links), i, cfg, readsOpenBlocks)
	if err != nil {
		return fmt.Errorf("ring: reopen: %w", err)
	}
	for w, l := range links {
		if !l.setReplacement(i, ports[w]) {
			err = net.ErrClosed
		}
	}
	return err
}

// setReplacement makes p the replacement of port i. If the link is closed, it closes
// p and returns false.
func (l *Link) setReplacement(i int, p *port) bool {
	l.mu.Lock()
	closed := l.closed.Load()
	if !closed {
		p = l.replacements[i].Swap(p)
	}
	l.mu.Unlock()
	if p != nil {
		_ = p.close() // it is not used, so an error does not matter
	}
	l.Wake()
	return !closed
}

// installReplacement replaces port i by its replacement, and closes the old port, of
// which no frame is lent.
func (l *Link) installReplacement(i int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, p := l.ports[i], l.replacements[i].Swap(nil)
	if p == nil {
		return
	}
	_ = old.close() // its interface is gone
	p.counts, p.ringFull, p.freezes = old.counts, old.ringFull, old.freezes
	p.shared.update(&p.counts)
	l.ports[i] = p
	l.polls[1+i].Fd = int32(p.wakeFD)
}
