package ctl

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"uvs/conntrack"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/dataplane"
	"uvs/dataplane/memlink"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// backlog is the most frames that may wait for the workers.
const backlog = 1024

// feeder feeds one link frames of a few connections, in both directions. All links get frames
// of the same connections. It checks what the link sends.
type feeder struct {
	t     *testing.T
	rng   *rand.Rand
	link  *memlink.Link
	plane *dataplane.Plane
	fed   *atomic.Uint64 // by all feeders
}

func (f *feeder) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		for range feedBatch {
			frame := f.frame()
			f.link.Feed(memlink.Record{Port: frame.In, Data: frame.Bytes()})
		}
		f.fed.Add(feedBatch)
		for f.fed.Load()-total(f.plane.Verdicts()) > backlog {
			runtime.Gosched()
		}
		for _, r := range f.link.Sent() {
			sent := wiretest.Frame(r.Data)
			sent.Offload = r.Offload
			wiretest.Check(f.t, sent)
		}
	}
}

// feedBatch is the number of frames fed at once: a worker's batch.
const feedBatch = 64

// frame returns a packet of one of sixteen clients to a service, or a reply.
func (f *feeder) frame() wire.Frame {
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, 2}), uint16(5000+f.rng.IntN(16))).String()
	flags := []uint8{wire.TCPSyn, wire.TCPSyn, wire.TCPAck, wire.TCPFin | wire.TCPAck, wire.TCPRst}
	p := wiretest.Packet{
		Src: client, Dst: trafficVIPs[f.rng.IntN(3)],
		TCPFlags: flags[f.rng.IntN(len(flags))], DstMAC: testPorts[0].MAC,
	}
	port := uint16(0)
	if f.rng.IntN(4) == 0 {
		p.Src = netip.AddrPortFrom(testServer(f.rng.IntN(4)), uint16(8000+f.rng.IntN(8))).String()
		p.Dst, port, p.DstMAC = client, 1, testPorts[1].MAC
	}
	frame := p.Frame()
	frame.In = port
	return frame
}

var trafficVIPs = [3]string{"10.9.0.1:80", "10.9.0.1:81", "10.9.0.2:80"}

// randomOp returns a random change of one of three services.
func randomOp(rng *rand.Rand) config.Op {
	service := service(trafficVIPs[rng.IntN(3)], []string{"rr", "wrr", "lc", "wlc"}[rng.IntN(4)])
	if rng.IntN(3) == 0 {
		service.Persist = 60
	}
	server := &config.Server{ServerKey: config.ServerKey{
		Addr: testServer(rng.IntN(4)),
		Port: uint16(8000 + rng.IntN(8)),
	}}
	server.Weight = int32(rng.IntN(4))
	server.Upper = uint32(rng.IntN(2) * 8)
	server.Method = []config.Method{
		config.MethodNAT, config.MethodNAT, config.MethodDR,
		config.MethodTunnel,
	}[rng.IntN(4)]
	verbs := []config.OpKind{
		config.AddService, config.AddService, config.EditService, config.DeleteService,
		config.AddServer, config.AddServer, config.AddServer, config.AddServer, config.EditServer, config.DeleteServer,
		config.DeleteServer,
	}
	op := config.Op{Kind: verbs[rng.IntN(len(verbs))], Service: service, Server: server}
	if rng.IntN(10) == 0 {
		op = setAdmin(server.Addr, uint16(rng.IntN(2))*server.Port, config.Admin(rng.IntN(3)))
	}
	if rng.IntN(100) == 0 {
		op = config.Op{Kind: config.Flush}
	}
	return op
}

// Two workers carry the same connections while services and servers come and go, schedulers
// and methods change, and removed servers are released and their IDs used again. Nothing
// races, every frame that leaves is valid, every frame gets one verdict, and in the end every
// server has no conns.
func TestTrafficWhileTablesChange(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := newFixture(t, 2)
	var fed atomic.Uint64
	var feeders sync.WaitGroup
	stop := make(chan struct{})
	for i, link := range w.links {
		f := feeder{t, rand.New(rand.NewPCG(seed, uint64(i))), link, w.plane.Plane, &fed}
		feeders.Go(func() { f.run(stop) })
	}
	rng := rand.New(rand.NewPCG(seed, 99))
	applied, later := 0, compile.TrashTime
	for range 400 {
		if w.Apply(randomOp(rng)) == nil {
			applied++
		}
		if rng.IntN(50) == 0 { // much later: forget what was removed
			w.conns.Flush(func(*conntrack.Snapshot) bool { return true })
			w.maintain(w.now.Add(later))
			later += compile.TrashTime
			w.maintain(w.now.Add(later))
		}
	}
	close(stop)
	feeders.Wait()
	for total(w.plane.Verdicts()) < fed.Load() {
		runtime.Gosched()
	}
	verdicts := w.plane.Verdicts()
	t.Logf("%d operations applied, %d frames: %v", applied, fed.Load(), verdicts)
	if n := total(w.plane.Verdicts()); n != fed.Load() {
		t.Errorf("%d verdicts for %d frames", n, fed.Load())
	}
	w.conns.Flush(func(*conntrack.Snapshot) bool { return true })
	for id := range uint32(len(w.runtime.Servers)) {
		c := w.conns.Counts(id)
		if a, i, n := c.Active.Load(), c.Inactive.Load(), c.Templates.Load(); a != 0 || i != 0 || n != 0 {
			t.Errorf("server %d has %d active, %d inactive conns and %d templates after all were ended", id, a, i, n)
		}
	}
}
