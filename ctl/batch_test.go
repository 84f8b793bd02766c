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

// busyLink is a link that always has a full batch of frames. It measures how long its worker
// takes for each batch, from the end of Recv to the next, in processor time of its thread,
// so other load of the machine does not count. It also counts the batches in which the thread
// gave up its processor. The worker never does that itself: then Go's scheduler or garbage
// collector made it wait. busyLink allocates nothing, so all garbage is the manager's.
type busyLink struct {
	frames [director.MaxBatch]wire.Frame
	model  [director.MaxBatch][]byte
	port   uint16 // of the clients' next packets

	began  time.Duration // processor time at the start of the batch; 0: no batch yet
	yields int64         // times that the thread had given up its processor by then

	mu    sync.Mutex
	times batchTimes
}

// batchTimes are the measurements of a busyLink.
type batchTimes struct {
	n, late int // late: longer than batchLimit
	waited  int // batches in which the worker was made to wait
	longest time.Duration
}

// batchLimit is the most that a batch may take during changes.
const batchLimit = time.Millisecond

func (t *batchTimes) add(took time.Duration, waited bool) {
	t.n++
	if took > batchLimit {
		t.late++
	}
	if waited {
		t.waited++
	}
	t.longest = max(t.longest, took)
}

// newBusyLink makes a link whose frames are SYNs to vips, always from new client ports.
func newBusyLink(vips []netip.AddrPort) *busyLink {
	c := &busyLink{port: 1024}
	for i := range c.frames {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(2 + i)}), 1024)
		f := wiretest.Packet{
			Src: client.String(), Dst: vips[i%len(vips)].String(), TCPFlags: wire.TCPSyn,
			DstMAC: testPorts[0].MAC,
		}.Frame()
		c.model[i] = f.Bytes()
		c.frames[i].Buf = make([]byte, len(f.Buf))
	}
	return c
}

// threadTime returns the processor time of the calling thread, and how often it gave up its
// processor.
func threadTime() (cpu time.Duration, yields int64) {
	var r unix.Rusage
	unix.Getrusage(unix.RUSAGE_THREAD, &r)
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano()), int64(r.Nvcsw)
}

func (c *busyLink) Recv(in []wire.Frame) (int, error) {
	if c.began != 0 {
		cpu, yields := threadTime()
		c.mu.Lock()
		c.times.add(cpu-c.began, yields != c.yields)
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
	c.began, c.yields = threadTime()
	return copy(in, c.frames[:]), nil
}

// take returns the measurements since the last call.
func (c *busyLink) take() (t batchTimes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, c.times = c.times, batchTimes{}
	return t
}

func (c *busyLink) Send(frames []wire.Frame) (n int, err error) {
	for i := range frames {
		if frames[i].Out != wire.NoPort {
			n++
		}
	}
	return n, nil
}

func (c *busyLink) Wake()        {}
func (c *busyLink) Close() error { return nil }

var _ dataplane.Link = (*busyLink)(nil)

// BenchmarkBatchWhileTablesChange measures operations on a director whose worker is fully
// loaded, and their effect on its batches: how many took longer than a millisecond, the
// longest, and in how many batches the worker had to wait for each operation. No frame is
// lost.
func BenchmarkBatchWhileTablesChange(b *testing.B) {
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
			c := newBusyLink(vips)
			w := newFixtureOn(b, []dataplane.Link{c})
			w.host.set(testHostNet(size.services * size.servers))
			w.RoutesChanged()
			for i, err := range w.ApplyAll(ops) {
				if err != nil {
					b.Fatalf("%s: %v", ops[i].Kind, err)
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
					w.must(config.Op{
						Kind:    config.EditService,
						Service: service(vips[i].String(), schedulers[rng.IntN(len(schedulers))]),
					})
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
