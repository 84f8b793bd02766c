package dataplane

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/director"
)

// Plane is the set of workers that share a connection table and read one table
// of rules.
type Plane struct {
	start    time.Time
	frags    *frag.Table
	table    atomic.Pointer[director.Table]
	workers  []*Worker
	stopping atomic.Bool
	running  atomic.Int32
}

// New makes a plane with one worker for every link, pinned to cpus[i] where
// that is given and not negative. conns must have been made for as many
// workers. Nothing moves until Run.
func New(conns *conntrack.Table, first *director.Table, links []Link, cpus []int) *Plane {
	p := &Plane{start: time.Now(), frags: frag.New(len(links), 0)}
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

// Run carries frames until ctx ends or a worker fails, then stops all workers
// and returns the first failure. It does not close the links.
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

// Publish makes t the table of all workers. When it returns, every worker has
// finished its last turn with an older one.
func (p *Plane) Publish(t *director.Table) {
	p.table.Store(t)
	p.settle()
}

// settle waits until every running worker has begun a turn after the call: a
// turn loads the table after it is numbered, so the turn in progress now is the
// last that may use the old one.
func (p *Plane) settle() {
	for _, w := range p.workers {
		began := w.turns.Load()
		for w.turns.Load() == began && p.running.Load() > 0 && !p.stopping.Load() {
			w.link.Wake()
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// Verdicts adds up what became of all frames so far.
func (p *Plane) Verdicts() (sum [director.NumVerdict]uint64) {
	for _, w := range p.workers {
		for v := range sum {
			sum[v] += w.shown[v].Load()
		}
	}
	return sum
}

// Fragments adds up what became of fragments so far.
func (p *Plane) Fragments() frag.Stats { return p.frags.Stats() }

// Now is the data path's time.
func (p *Plane) Now() conntrack.Tick { return p.now() }
