package ring

import (
	"fmt"
	"net"
)

// Reopen opens interface i of all links of a group anew: it was deleted, and
// there is one of its name again. A worker takes up the new ring with its next
// Recv and goes on counting where the old one ended. On error the links are as
// they were.
func Reopen(links []*Link, cfg Config, i int) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	ports, err := openInterface(len(links), i, cfg, opensBlocks)
	if err != nil {
		return fmt.Errorf("ring: reopen: %w", err)
	}
	for w, l := range links {
		if !l.offer(i, ports[w]) {
			err = net.ErrClosed
		}
	}
	return err
}

// offer lays p ready to become port i; it is false, and p closed, if the link
// is closed.
func (l *Link) offer(i int, p *port) bool {
	l.mu.Lock()
	closed := l.closed.Load()
	if !closed {
		p = l.fresh[i].Swap(p)
	}
	l.mu.Unlock()
	if p != nil {
		_ = p.close() // of no use to anyone; nothing to be done about it
	}
	l.Wake()
	return !closed
}

// replace makes the port laid ready for place i the link's, and closes the one
// before. No frame of it is lent.
func (l *Link) replace(i int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, p := l.ports[i], l.fresh[i].Swap(nil)
	if p == nil {
		return
	}
	_ = old.close() // its interface is gone
	p.counts, p.ringFull, p.freezes = old.counts, old.ringFull, old.freezes
	p.shown.update(&p.counts)
	l.ports[i] = p
	l.polls[1+i].Fd = int32(p.bell)
}
