package dataplane

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"uvs/conntrack"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// Worker processes the frames of one link on one CPU. All fields except the atomics
// belong to its goroutine.
type Worker struct {
	plane *Plane
	link  Link
	cpu   int // -1: not pinned
	dir   *director.Director

	frames   [director.MaxBatch]wire.Frame
	verdicts [director.MaxBatch]director.Verdict

	// counts are the verdicts so far. sharedCounts are copies for other
	// goroutines, which the worker updates in every batch.
	counts       [director.NumVerdict]uint64
	sharedCounts [director.NumVerdict]atomic.Uint64
	// batches is the number of batches begun; see Plane.awaitBatches.
	batches atomic.Uint64

	faults      int // since faultsSince
	faultsSince conntrack.Tick
}

// run processes batches until the plane stops or the link fails.
func (w *Worker) run() error {
	runtime.LockOSThread() // never unlocked: the pinned thread ends with the goroutine
	if w.cpu >= 0 {
		var set unix.CPUSet
		set.Set(w.cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pin worker to cpu %d: %w", w.cpu, err)
		}
	}
	for !w.plane.stopping.Load() {
		n, err := w.link.Recv(w.frames[:])
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if err := w.processBatch(n); err != nil {
			return err
		}
	}
	return nil
}

// processBatch processes n received frames and sends those with an out port. A batch
// without frames still advances the timers of the connection table.
func (w *Worker) processBatch(n int) error {
	w.batches.Add(1)
	now := w.plane.now()
	frames, verdicts := w.frames[:n], w.verdicts[:n]
	table := w.plane.table.Load()
	if w.dir.Process(now, table, frames, verdicts) {
		w.link.Wake()
	}
	for _, f := range w.dir.Faults() {
		if err := w.fault(f); err != nil {
			return err
		}
	}
	for _, hop := range w.dir.Unresolved() {
		w.plane.resolve(hop)
	}
	out := false
	for i := range frames {
		w.counts[verdicts[i]]++
		out = out || frames[i].Out != wire.NoPort
	}
	for _, v := range verdicts {
		if c := w.counts[v]; w.sharedCounts[v].Load() != c {
			w.sharedCounts[v].Store(c)
		}
	}
	if !out {
		frames = nil
	}
	return w.send(frames)
}

// send sends frames and what the director originates. What a panic kept from being sent
// is lost.
func (w *Worker) send(frames []wire.Frame) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = w.fault(director.Fault{Step: "send", Value: value, Stack: debug.Stack()})
		}
	}()
	if len(frames) > 0 {
		if _, err = w.link.Send(frames); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	if own := w.dir.Originate(); len(own) > 0 {
		if _, err = w.link.Send(own); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// A worker that panics more than maxFaults times within faultPeriod ends, and the director
// with it. Each may leave something behind (director.Fault), so they must not go on for
// ever. A peer that knows of a frame that causes one can repeat it; the log then has it.
const (
	maxFaults   = 64
	faultPeriod = 60 * conntrack.Second
)

// fault reports a panic. It returns an error if there are too many.
func (w *Worker) fault(f director.Fault) error {
	now := w.plane.now()
	if w.faults == 0 || now-w.faultsSince >= faultPeriod {
		w.faults, w.faultsSince = 0, now
	}
	w.faults++
	w.plane.faults.Add(1)
	if w.plane.OnFault != nil {
		go w.plane.OnFault(f) // it may wait for the log
	}
	if w.faults > maxFaults {
		return fmt.Errorf("%d panics within a minute, the last in step %s: %v\n%s", w.faults, f.Step, f.Value, f.Stack)
	}
	return nil
}

// now returns the data path's time: milliseconds since the plane was made.
func (p *Plane) now() conntrack.Tick {
	return conntrack.Tick(time.Since(p.start) / time.Millisecond)
}
