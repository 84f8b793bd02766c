package ring

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"uvs/dataplane/wire"
)

// BenchmarkForward forwards small frames from one veth to another, a batch at a time,
// on one goroutine. ns/frame is the time of Recv and Send, which for a veth includes
// the receive path of the peer. ns/op also includes the generator.
func BenchmarkForward(b *testing.B) {
	for _, batch := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			lab := newLab(b)
			generator := open(b, lab.left, "l0")
			l := open(b, lab.middle, "m0", "m1")
			out := make([]wire.Frame, batch)
			for i := range out {
				out[i] = newFrame(testFrame(uint32(i), 64))
				out[i].Out = 0
			}
			frames := make([]wire.Frame, 64)
			var spent time.Duration
			forwarded := 0
			b.ReportAllocs()
			for b.Loop() {
				if _, err := generator.Send(out); err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				for left := batch; left > 0; {
					n, err := l.Recv(frames)
					if err != nil {
						b.Fatal(err)
					}
					for i := range frames[:n] {
						frames[i].Out = 1
					}
					if _, err := l.Send(frames[:n]); err != nil {
						b.Fatal(err)
					}
					left -= n
					forwarded += n
				}
				spent += time.Since(start)
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(forwarded), "ns/frame")
		})
	}
}

// forwarders forward in the middle: a copy loop on a link, and the kernel.
var forwarders = []struct {
	name  string
	start func(testing.TB) (n *lab, right string)
}{
	{"ring", func(t testing.TB) (*lab, string) {
		lab := newLab(t)
		var l *Link
		inNetns(t, lab.middle, func() (err error) {
			l, err = Open(Config{Interfaces: []Interface{{Name: "m0"}, {Name: "m1"}}})
			return err
		})
		startCopyLoop(t, l, func(*wire.Frame) {})
		return lab, "10.9.0.2"
	}},
	{"kernel", func(t testing.TB) (*lab, string) {
		lab := newLab(t)
		lab.address(t, lab.middle, "m0", "10.9.0.254/16")
		lab.address(t, lab.middle, "m1", "10.10.0.254/16")
		lab.address(t, lab.right, "r0", "10.10.0.2/16")
		inNetns(t, lab.middle, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
		defaultRoute(t, lab, "l0", "10.9.0.254")
		defaultRoute(t, lab, "r0", "10.10.0.254")
		return lab, "10.10.0.2"
	}},
}

// defaultRoute adds a route by l0 or r0 to a gateway.
func defaultRoute(t testing.TB, n *lab, name, gateway string) {
	t.Helper()
	ns := n.left
	if name == "r0" {
		ns = n.right
	}
	h := netlinkHandle(t, ns)
	link, err := h.LinkByName(name)
	if err == nil {
		dst := &net.IPNet{IP: net.IPv4(10, 0, 0, 0), Mask: net.CIDRMask(8, 32)}
		err = h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: net.ParseIP(gateway)})
	}
	if err != nil {
		t.Fatalf("route by %s: %v", gateway, err)
	}
}

// BenchmarkRoundTrip sends single UDP datagrams to an echo server and back, one each
// millisecond.
func BenchmarkRoundTrip(b *testing.B) {
	for _, c := range forwarders {
		b.Run(c.name, func(b *testing.B) {
			lab, right := c.start(b)
			var server net.PacketConn
			var client net.Conn
			inNetns(b, lab.right, func() (err error) {
				server, err = net.ListenPacket("udp4", right+":0")
				return err
			})
			go func() {
				buf := make([]byte, 100)
				for {
					n, from, err := server.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = server.WriteTo(buf[:n], from)
				}
			}()
			defer server.Close()
			inNetns(b, lab.left, func() (err error) {
				client, err = net.Dial("udp4", server.LocalAddr().String())
				return err
			})
			defer client.Close()
			buf := make([]byte, 100)
			var trips []time.Duration
			for b.Loop() {
				time.Sleep(time.Millisecond)
				start := time.Now()
				_ = client.SetReadDeadline(start.Add(patience))
				if _, err := client.Write(buf[:64]); err != nil {
					b.Fatal(err)
				}
				if _, err := client.Read(buf); err != nil {
					b.Fatal(err)
				}
				trips = append(trips, time.Since(start))
			}
			slices.Sort(trips)
			b.ReportMetric(float64(trips[len(trips)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(trips[len(trips)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(0, "ns/op") // it would include the pause
		})
	}
}

// BenchmarkTCP sends one stream, with the default offloads of a veth.
func BenchmarkTCP(b *testing.B) {
	for _, c := range forwarders {
		b.Run(c.name, func(b *testing.B) {
			lab, right := c.start(b)
			client, server := lab.dial(b, right)
			go func() { _, _ = io.Copy(io.Discard, server) }()
			chunk := make([]byte, 1<<20)
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				if _, err := client.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
