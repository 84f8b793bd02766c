package ring

import "time"

// Under load, looking at the open block whenever the last frame is done makes
// batches of one or two and slows the kernel, whose every frame then meets our
// look at the same cache line. So when the link sees small batches one after
// another it lets frames gather before each look.
const (
	goodBatch = 16 // more does not make sending cheaper (measured)
	poorBatch = 4  // gathered fewer: it was not worth the wait

	// So many small batches in a row mean load: few at first, twice as many
	// after every time gathering was in vain.
	firstRun, lastRun = 4, 256

	gatherTime   = 30 * time.Microsecond // longest wait: a good batch at half a million frames a second
	gatherGlance = 4 * time.Microsecond  // between two glances at the rings meanwhile
)

// pace decides whether frames should gather before the next look.
type pace struct {
	small     int // small batches since the last empty look or good batch
	run       int // how many of them mean load; 0: firstRun
	gathering bool
}

// saw takes note of what the first look of a turn found.
func (p *pace) saw(n int) {
	switch {
	case n >= goodBatch:
		p.small, p.run = 0, firstRun
	case p.gathering && n < poorBatch:
		*p = pace{run: min(2*max(p.run, firstRun), lastRun)}
	case n == 0:
		p.small = 0
	default:
		p.small++
		p.gathering = p.gathering || p.small >= max(p.run, firstRun)
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
