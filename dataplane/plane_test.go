package dataplane

import (
	"context"
	"errors"
	"testing"

	"github.com/gaissmai/bart"

	"uvs/conntrack"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// stepLink is a link whose worker goes on only when the test lets it: Recv lends
// what comes through frames, or returns the error that comes through fail.
type stepLink struct {
	frames chan []wire.Frame
	fail   chan error
	wake   chan struct{}
	// inSend is told when a worker is in the middle of a turn, which goes on
	// when leave is told.
	inSend, leave chan struct{}
}

func newStepLink() *stepLink {
	return &stepLink{
		frames: make(chan []wire.Frame), fail: make(chan error), wake: make(chan struct{}, 1),
		inSend: make(chan struct{}), leave: make(chan struct{}),
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
	<-l.leave
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

// answering is a table whose director answers an ARP request for the VIP.
func answering() *director.Table {
	return &director.Table{
		VIPs:    map[wire.Addr]director.VIP{vip: {Ours: true}},
		Servers: make([]director.Server, 1),
		FIB:     director.NewFIB(&director.HostNet{Ports: []director.Port{{Name: "eth0", MAC: mac}}, Routes: new(bart.Table[director.Route])}),
	}
}

// request is a frame that asks for the VIP's hardware address.
func request() []wire.Frame {
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

// running starts a plane over links; ended gets what Run returns.
func running(t *testing.T, ctx context.Context, links ...Link) (p *Plane, ended chan error) {
	t.Helper()
	conns, err := conntrack.NewTable(conntrack.Config{Max: 16, Workers: len(links), MaxServers: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conns.Close() })
	p, ended = New(conns, answering(), links, nil), make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return p, ended
}

// Publish returns only when the turn that may use the older table is over.
func TestPublishWaitsForTheTurnInProgress(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	busy, idle := newStepLink(), newStepLink()
	p, ended := running(t, ctx, busy, idle)
	busy.frames <- request()
	<-busy.inSend

	published := make(chan struct{})
	over := make(chan struct{}) // closed when the turn is allowed to end
	go func() {
		p.Publish(answering())
		select {
		case <-over:
		default:
			t.Error("Publish returned while a worker was in a turn with the older table")
		}
		close(published)
	}()
	// However often the idle worker takes turns, the busy one is waited for.
	for began := p.workers[1].turns.Load(); p.workers[1].turns.Load() < began+100; {
		idle.Wake()
	}
	close(over)
	busy.leave <- struct{}{}
	<-published

	if got := p.Verdicts()[director.AnsweredARP]; got != 1 {
		t.Errorf("%d requests answered, want 1", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// Run ends with its context, though no frame ever comes; then Publish waits for
// nobody. Before Run it does not either.
func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p, ended := running(t, ctx, newStepLink(), newStepLink())
	p.Publish(answering())
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	p.Publish(answering())
}

// A link that fails ends Run, which names the failure, and the other workers.
func TestAFailingLinkEndsRun(t *testing.T) {
	gone := errors.New("the cable is out")
	failing := newStepLink()
	p, ended := running(t, context.Background(), newStepLink(), failing, newStepLink())
	failing.fail <- gone
	if err := <-ended; !errors.Is(err, gone) {
		t.Errorf("Run: %v, want %v", err, gone)
	}
	p.Publish(answering())
}

// A worker that cannot be pinned says which CPU was not to be had.
func TestPinToNoCPU(t *testing.T) {
	conns, err := conntrack.NewTable(conntrack.Config{Max: 16, MaxServers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer conns.Close()
	err = New(conns, answering(), []Link{newStepLink()}, []int{1023}).Run(context.Background())
	if err == nil || err.Error() != "pin worker to cpu 1023: invalid argument" {
		t.Errorf("Run: %v", err)
	}
}
