package ring

import "time"

// Under load, looking at the open block whenever the last frame is done makes
// batches of one or two and slows the kernel, whose every frame then meets our
// look at the same cache line. So when the link sees small batches one after
// another it lets frames gather before each look.
const (
	goodBatch    = 16                    // more does not make sending cheaper (measured)
	smallRun     = 4                     // small batches in a row that mean load
	poorBatch    = 4                     // gathered fewer: not worth the wait, stop
	gatherTime   = 30 * time.Microsecond // longest wait: a batch at half a million frames a second
	gatherGlance = 4 * time.Microsecond  // between two glances at the rings meanwhile
)

// pace decides whether frames should gather before the next look.
type pace struct {
	small     int // small batches since the last empty look or good batch
	gathering bool
}

// saw takes note of what the first look of a turn found.
func (p *pace) saw(n int) {
	switch {
	case p.gathering:
		if n < poorBatch {
			*p = pace{}
		}
	case n == 0 || n >= goodBatch:
		p.small = 0
	default:
		p.small++
		p.gathering = p.small >= smallRun
	}
}

// gather waits until some ring has a closed block or a good batch, for
// gatherTime at most.
func (l *Link) gather() {
	start := time.Now()
	for glance := time.Duration(0); glance <= gatherTime; glance += gatherGlance {
		for _, p := range l.ports {
			if p.rx.closed() || p.rx.waiting() >= goodBatch {
				return
			}
		}
		for time.Since(start) < glance+gatherGlance {
		}
	}
}
