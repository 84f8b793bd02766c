package ctl

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uvs/ctl/config"
	"uvs/dataplane"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// carousel is a link that always has a full batch of frames, and looks how long
// its worker takes for each turn, from the end of Recv to the next, by the time
// its thread had a processor: what the turn itself did, whoever else uses the
// machine. Beside that it counts how often the thread gave its processor up in a
// turn, which nothing there does by itself: then Go's scheduler or collector had
// it wait. It allocates nothing, so that what is collected is the manager's.
type carousel struct {
	frames [director.MaxBatch]wire.Frame
	model  [director.MaxBatch][]byte
	port   uint16 // of the clients' next packets

	began time.Duration // of the thread's processor time; 0: no turn yet
	given int64         // times the thread had given its processor up by then

	mu    sync.Mutex
	turns turns
}

// turns are what a carousel saw.
type turns struct {
	n, late int // late: longer than turnLimit
	waited  int // those in which the worker was made to wait
	longest time.Duration
}

// turnLimit is what no change may make a turn take.
const turnLimit = time.Millisecond

func (t *turns) add(took time.Duration, waited bool) {
	t.n++
	if took > turnLimit {
		t.late++
	}
	if waited {
		t.waited++
	}
	t.longest = max(t.longest, took)
}

// newCarousel makes one whose frames are SYNs of ever new client ports to vips.
func newCarousel(vips []netip.AddrPort) *carousel {
	c := &carousel{port: 1024}
	for i := range c.frames {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(2 + i)}), 1024)
		f := wiretest.Packet{Src: client.String(), Dst: vips[i%len(vips)].String(), TCPFlags: wire.TCPSyn, DstMAC: testPorts[0].MAC}.Frame()
		c.model[i] = f.Bytes()
		c.frames[i].Buf = make([]byte, len(f.Buf))
	}
	return c
}

// spent is the processor time of the calling thread, and how often it gave its
// processor up.
func spent() (cpu time.Duration, given int64) {
	var r unix.Rusage
	unix.Getrusage(unix.RUSAGE_THREAD, &r)
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano()), r.Nvcsw
}

func (c *carousel) Recv(in []wire.Frame) (int, error) {
	if c.began != 0 {
		cpu, given := spent()
		c.mu.Lock()
		c.turns.add(cpu-c.began, given != c.given)
		c.mu.Unlock()
	}
	c.port = max(c.port+1, 1024)
	for i := range c.frames {
		f := &c.frames[i]
		f.Off, f.End, f.Out = wire.Headroom, int32(len(f.Buf)), wire.NoPort
		copy(f.Bytes(), c.model[i])
		tcp := f.Bytes()[wire.EthernetLen+wire.IPv4Len:]
		sum := uint32(binary.BigEndian.Uint16(tcp[16:])) + 1024 + uint32(^c.port) // RFC 1624: the port was 1024
		sum = sum>>16 + sum&0xffff
		binary.BigEndian.PutUint16(tcp, c.port)
		binary.BigEndian.PutUint16(tcp[16:], uint16(sum>>16+sum))
	}
	c.began, c.given = spent()
	return copy(in, c.frames[:]), nil
}

// take returns the turns since it was last called.
func (c *carousel) take() (t turns) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, c.turns = c.turns, turns{}
	return t
}

func (c *carousel) Send(frames []wire.Frame) (n int, err error) {
	for i := range frames {
		if frames[i].Out != wire.NoPort {
			n++
		}
	}
	return n, nil
}

func (c *carousel) Wake()        {}
func (c *carousel) Close() error { return nil }

var _ dataplane.Link = (*carousel)(nil)

// BenchmarkTurnWhileTablesChange is an operation on a director whose worker has
// all it can carry, and tells what operations do to its turns: whether one took
// longer than a millisecond of the worker's own work, the longest, and how many
// turns it was made to wait in for each operation. No frame is lost meanwhile.
func BenchmarkTurnWhileTablesChange(b *testing.B) {
	for _, size := range []struct{ services, servers int }{{1024, 10}, {8, 1000}} {
		b.Run(fmt.Sprintf("%dx%d", size.services, size.servers), func(b *testing.B) {
			var vips []netip.AddrPort
			var ops []config.Op
			for i := range size.services {
				end := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i / 250), byte(i%250 + 1)}), 80)
				vips = append(vips, end)
				ops = append(ops, add(end.String(), "wlc"))
				for j := range size.servers {
					ops = append(ops, with(end.String(), masq(size.servers*i+j, 1)))
				}
			}
			c := newCarousel(vips)
			w := newFixtureOn(b, []dataplane.Link{c})
			w.host.set(testHostNet(size.services * size.servers))
			w.RoutesChanged()
			for i, err := range w.ApplyAll(ops) {
				if err != nil {
					b.Fatalf("%s: %v", ops[i].Verb, err)
				}
			}
			rng := rand.New(rand.NewPCG(1, 1))
			schedulers := []string{"wlc", "mh", "wrr", "sh", "lc", "sed"}
			before := w.plane.Verdicts()
			c.take()
			b.ResetTimer()
			for n := 0; b.Loop(); n++ {
				i := rng.IntN(size.services)
				s := masq(size.servers*i+rng.IntN(size.servers), int32(1+rng.IntN(9)))
				switch n % 3 {
				case 0:
					w.must(edited(vips[i].String(), s))
				case 1:
					w.must(config.Op{Verb: config.EditService, Service: service(vips[i].String(), schedulers[rng.IntN(len(schedulers))])})
				case 2:
					w.must(without(vips[i].String(), s))
					s.Weight = 1
					w.must(with(vips[i].String(), s))
				}
			}
			b.StopTimer()
			t := c.take()
			b.ReportMetric(float64(t.longest)/1e3, "µs-longest")
			b.ReportMetric(float64(t.late), "late")
			b.ReportMetric(float64(t.waited)/float64(b.N), "waits/op")
			for v, n := range w.plane.Verdicts() {
				if n -= before[v]; director.Verdict(v) != director.ForwardedMasq && n > 0 {
					b.Errorf("%d frames %s", n, director.Verdict(v))
				}
			}
		})
	}
}
