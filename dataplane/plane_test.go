package dataplane

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/gaissmai/bart"

	"uvs/conntrack"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// stepLink is a link whose worker advances only when the test lets it. Recv lends the
// frames from the channel frames, or returns the error from the channel fail.
type stepLink struct {
	frames chan []wire.Frame
	fail   chan error
	wake   chan struct{}
	// Send writes to inSend, and then waits for goOn.
	inSend, goOn chan struct{}
}

func newStepLink() *stepLink {
	return &stepLink{
		frames: make(chan []wire.Frame), fail: make(chan error), wake: make(chan struct{}, 1),
		inSend: make(chan struct{}), goOn: make(chan struct{}),
	}
}

func (l *stepLink) Recv(in []wire.Frame) (int, error) {
	select {
	case f := <-l.frames:
		return copy(in, f), nil
	case err := <-l.fail:
		return 0, err
	case <-l.wake:
		return 0, nil
	}
}

func (l *stepLink) Send([]wire.Frame) (int, error) {
	l.inSend <- struct{}{}
	<-l.goOn
	return 1, nil
}

func (l *stepLink) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *stepLink) Close() error { return nil }

var (
	mac   = wire.MAC{2, 0, 0, 0, 0, 1}
	asker = wire.MAC{2, 0, 0, 0, 0, 2}
	vip   = wire.AddrFrom4([]byte{10, 9, 0, 1})
)

// arpTable returns a table with which the director answers an ARP request for the VIP.
func arpTable() *director.Table {
	t := &director.Table{
		FIB: director.NewFIB(&director.HostNet{
			Ports:  []director.Port{{Name: "eth0", MAC: mac}},
			Routes: new(bart.Table[director.Route]),
		}),
	}
	t.VIPs.Set(vip, director.VIP{DirectorOnly: true})
	return t
}

// arpRequest returns an ARP request for the VIP.
func arpRequest() []wire.Frame {
	b := make([]byte, wire.Headroom+wire.EthernetLen+wire.ARPLen)
	f := wire.Frame{Buf: b, Off: wire.Headroom, End: int32(len(b)), Out: wire.NoPort}
	e := wire.Ethernet(f.Bytes())
	e.SetDst(wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	e.SetSrc(asker)
	e.SetType(wire.EtherTypeARP)
	a := wire.ARP(f.Bytes()[wire.EthernetLen:])
	a.SetEthernetIPv4()
	a.SetOperation(wire.ARPRequest)
	a.SetSenderMAC(asker)
	a.SetTargetIP(vip)
	return []wire.Frame{f}
}

// startPlane starts a plane with links. ended gets the result of Run.
func startPlane(t *testing.T, ctx context.Context, links ...Link) (p *Plane, ended chan error) {
	t.Helper()
	conns, err := conntrack.NewTable(conntrack.Config{Max: 16, Workers: len(links), ServerIDs: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conns.Close() })
	p, ended = New(conns, arpTable(), links, nil, nil), make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return p, ended
}

// Publish returns only when the batch that may use the older table is over.
func TestPublishWaitsForTheBatchInProgress(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	busy, idle := newStepLink(), newStepLink()
	p, ended := startPlane(t, ctx, busy, idle)
	busy.frames <- arpRequest()
	<-busy.inSend

	published := make(chan struct{})
	over := make(chan struct{}) // closed when the batch may end
	go func() {
		p.Publish(arpTable())
		select {
		case <-over:
		default:
			t.Error("Publish returned while a worker used the older table")
		}
		close(published)
	}()
	// Publish waits for the busy worker, however many batches the idle one begins.
	for began := p.workers[1].batches.Load(); p.workers[1].batches.Load() < began+100; {
		idle.Wake()
	}
	close(over)
	busy.goOn <- struct{}{}
	<-published

	if got := p.Verdicts()[director.AnsweredARP]; got != 1 {
		t.Errorf("%d requests answered, want 1", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// Run ends with its context, also without any frame. After and before Run, Publish does
// not wait.
func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p, ended := startPlane(t, ctx, newStepLink(), newStepLink())
	p.Publish(arpTable())
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	p.Publish(arpTable())
}

// A failing link ends Run, which returns its error, and the other workers.
func TestFailingLinkEndsRun(t *testing.T) {
	gone := errors.New("the cable is out")
	failing := newStepLink()
	p, ended := startPlane(t, context.Background(), newStepLink(), failing, newStepLink())
	failing.fail <- gone
	if err := <-ended; !errors.Is(err, gone) {
		t.Errorf("Run: %v, want %v", err, gone)
	}
	p.Publish(arpTable())
}

// The error of a worker that cannot be pinned names the CPU.
func TestPinToMissingCPU(t *testing.T) {
	conns, err := conntrack.NewTable(conntrack.Config{Max: 16, ServerIDs: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer conns.Close()
	err = New(conns, arpTable(), []Link{newStepLink()}, []int{1023}, nil).Run(context.Background())
	if err == nil || err.Error() != "pin worker to cpu 1023: invalid argument" {
		t.Errorf("Run: %v", err)
	}
}

// Panics are counted and reported, the frames after them are treated, and too many end the
// plane with an error that has the last.
func TestPanicsEndTheWorkerLate(t *testing.T) {
	link := newStepLink()
	p, ended := startPlane(t, context.Background(), link)
	broken := arpRequest()
	broken[0].End = 1 << 20 // longer than its memory, which no link lends
	for range maxFaults {
		link.frames <- broken
	}
	link.frames <- nil // taken after the batch before it
	if v := p.Verdicts(); v[director.DroppedFault] != maxFaults {
		t.Errorf("%d frames dropped, want %d", v[director.DroppedFault], maxFaults)
	}
	if n := p.Faults(); n != maxFaults {
		t.Errorf("%d faults, want %d", n, maxFaults)
	}
	link.frames <- broken
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "65 panics within a minute") {
		t.Errorf("ended with %v", err)
	}
}
