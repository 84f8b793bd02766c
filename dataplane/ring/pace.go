package ring

import "time"

// Under load, a link that reads the open block at once gets batches of one or two. It
// also slows the kernel, which writes the cache line that the link reads. So after
// several small batches in a row, the link waits for frames to gather before it reads.
const (
	goodBatch = 16 // more frames do not make sending cheaper (measured)
	poorBatch = 4  // with fewer frames, gathering was not worth the wait

	// So many small batches in a row mean load. The number doubles each time that
	// gathering was in vain.
	minRun, maxRun = 4, 256

	gatherTime     = 30 * time.Microsecond // longest wait: a good batch at half a million frames per second
	gatherInterval = 4 * time.Microsecond  // time between two checks of the rings
)

// pace decides whether the link waits for frames before it reads the rings.
type pace struct {
	small     int // small batches since the last empty read or good batch
	run       int // how many of them mean load; 0: minRun
	gathering bool
}

// observe records how many frames the first read of a Recv returned.
func (p *pace) observe(n int) {
	switch {
	case n >= goodBatch:
		p.small, p.run = 0, minRun
	case p.gathering && n < poorBatch:
		*p = pace{run: min(2*max(p.run, minRun), maxRun)}
	case n == 0:
		p.small = 0
	default:
		p.small++
		p.gathering = p.gathering || p.small >= max(p.run, minRun)
	}
}

// gather waits until a ring has a closed block or a good batch, for at most gatherTime.
func (l *Link) gather() {
	start := time.Now()
	for waited := time.Duration(0); waited <= gatherTime; waited += gatherInterval {
		for _, p := range l.ports {
			if p.rx.closed() || p.rx.waiting() >= goodBatch {
				return
			}
		}
		for time.Since(start) < waited+gatherInterval {
		}
	}
}
