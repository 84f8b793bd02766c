package dataplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/director"
)

// Plane is the set of workers that share a connection table and read one
// director.Table.
type Plane struct {
	start    time.Time
	frags    *frag.Table
	table    atomic.Pointer[director.Table]
	workers  []*Worker
	resolve  func(director.NeighbourKey)
	stopping atomic.Bool
	running  atomic.Int32
	faults   atomic.Uint64
	// OnFault, unless nil, is called with each panic of a worker, in a goroutine of its
	// own: at most maxFaults+1 a minute and worker. It is set before Run.
	OnFault func(director.Fault)
}

// New makes a plane with one worker for each link. Worker i is pinned to cpus[i], if
// there is one and it is not negative. conns must have as many workers. The workers
// start with Run. They call resolve for next hops that the host is to resolve; it must not
// block.
func New(conns *conntrack.Table, first *director.Table, links []Link, cpus []int,
	resolve func(director.NeighbourKey),
) *Plane {
	p := &Plane{start: time.Now(), frags: frag.New(len(links), 0), resolve: resolve}
	p.table.Store(first)
	for i, link := range links {
		cpu := -1
		if i < len(cpus) {
			cpu = cpus[i]
		}
		p.workers = append(p.workers, &Worker{
			plane: p, link: link, cpu: cpu,
			dir: director.New(conns.Worker(i), p.frags, i),
		})
	}
	return p
}

// Run runs the workers until ctx ends or one of them fails. Then it stops all workers
// and returns their errors. It does not close the links.
func (p *Plane) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(p.workers))
	var wg sync.WaitGroup
	for i, w := range p.workers {
		p.running.Add(1)
		wg.Go(func() {
			defer cancel()
			defer p.running.Add(-1)
			errs[i] = w.run()
		})
	}
	<-ctx.Done()
	p.stopping.Store(true)
	for _, w := range p.workers {
		w.link.Wake()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Publish makes t the table of all workers. When it returns, no worker uses an older
// table.
func (p *Plane) Publish(t *director.Table) {
	p.table.Store(t)
	p.awaitBatches()
}

// awaitBatches waits until every running worker has begun a new batch. A worker loads
// the table after it counts the batch, so only the current batch may use the old
// table.
func (p *Plane) awaitBatches() {
	for _, w := range p.workers {
		before := w.batches.Load()
		for w.batches.Load() == before && p.running.Load() > 0 && !p.stopping.Load() {
			w.link.Wake()
			unix.Nanosleep(&pollTime, nil)
		}
	}
}

// Check returns an error unless every worker begins a batch within a time.
func (p *Plane) Check(within time.Duration) error {
	if n := int(p.running.Load()); n < len(p.workers) {
		return fmt.Errorf("%d of %d workers run", n, len(p.workers))
	}
	deadline := time.Now().Add(within)
	for i, w := range p.workers {
		for before := w.batches.Load(); w.batches.Load() == before; unix.Nanosleep(&pollTime, nil) {
			if time.Now().After(deadline) {
				return fmt.Errorf("worker %d has begun nothing for %v", i, within)
			}
			w.link.Wake()
		}
	}
	return nil
}

// pollTime is how long awaitBatches waits before it looks again. time.Sleep would take a
// millisecond, because the runtime's timers sleep in epoll_wait, which counts in those.
var pollTime = unix.NsecToTimespec(int64(50 * time.Microsecond))

// Verdicts returns the sums of all workers' counters, by verdict.
func (p *Plane) Verdicts() (sum [director.NumVerdict]uint64) {
	for _, w := range p.workers {
		for v := range sum {
			sum[v] += w.sharedCounts[v].Load()
		}
	}
	return sum
}

// Faults returns how often workers panicked.
func (p *Plane) Faults() uint64 { return p.faults.Load() }

// Fragments are the flows of fragments, and the frames that wait.
func (p *Plane) Fragments() *frag.Table { return p.frags }

// Now returns the data path's time.
func (p *Plane) Now() conntrack.Tick { return p.now() }
