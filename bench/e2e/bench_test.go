package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Speed of the whole compared with the kernel's forwarding between the same
// namespaces, in the same run:
//
//	go test ./bench/e2e -run '^$' -bench . -benchtime 2s
//
// Ratios are reliable; absolute figures of a shared machine are not.

// forwarder forwards from client to server: the director by the VIP, or the
// kernel by the RIP, without a director.
type forwarder struct {
	name string
	uvs  bool
}

var forwarders = []forwarder{{"kernel", false}, {"uvs", true}}

// open builds the NAT topology and returns the address that the client connects
// to.
func (p forwarder) open(b *testing.B, port int) (s *topology, target string) {
	s = &topology{network: newNetwork(b), method: "nat"}
	s.add("client", "director", "s1")
	s.link("client", "eth0", "director", "eth0")
	s.link("director", "eth1", "s1", "eth0")
	s.assign("client", "eth0", 1, 2)
	s.assign("director", "eth0", 1, 1)
	s.assign("director", "eth1", 2, 1)
	s.assign("s1", "eth0", 2, 11)
	s.run("s1", "ip route add default via "+s.addr(2, 1))
	if !p.uvs {
		s.run("director", "sysctl -qw net.ipv4.ip_forward=1")
		s.run("client", "ip route add 10.2.0.0/24 via "+s.addr(1, 1))
		return s, fmt.Sprintf("%s:%d", s.addr(2, 11), port)
	}
	s.director("director", "eth0", "eth1")
	for _, proto := range []string{"-t", "-u"} {
		s.ipvsadm("director", fmt.Sprintf(`
			ipvsadm -A %[1]s %[2]s:%[3]d -s rr
			ipvsadm -a %[1]s %[2]s:%[3]d -r %[4]s:%[3]d -m`, proto, s.vip(), port, s.addr(2, 11)))
	}
	return s, fmt.Sprintf("%s:%d", s.vip(), port)
}

// inNetns runs f in the namespace ns; sockets that f opens stay there. The
// thread returns to its own namespace, because the processes that it started
// end with it (Pdeathsig).
func (n *network) inNetns(ns string, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := os.Open("/run/netns/" + n.prefix + ns)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(back) // the thread is unusable now
	}
	return err
}

// BenchmarkRTT measures the round trip of a small UDP datagram over an
// otherwise idle path, one every millisecond; p50 and p99 in µs.
func BenchmarkRTT(b *testing.B) {
	needs(b)
	for _, p := range forwarders {
		b.Run(p.name, func(b *testing.B) {
			s, target := p.open(b, 7)
			var server net.PacketConn
			var client net.Conn
			must(b, s.inNetns("s1", func() (err error) { server, err = net.ListenPacket("udp", ":7"); return err }))
			defer server.Close()
			go echoUDP(server)
			must(b, s.inNetns("client", func() (err error) { client, err = net.Dial("udp", target); return err }))
			defer client.Close()
			roundTrips(b, client)
		})
	}
}

func roundTrips(b *testing.B, client net.Conn) {
	buf := make([]byte, 64)
	var times []time.Duration
	for b.Loop() {
		time.Sleep(time.Millisecond)
		began := time.Now()
		client.SetDeadline(began.Add(5 * time.Second))
		if _, err := client.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := client.Read(buf); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1000, "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds())/1000, "p99-µs")
	b.ReportMetric(0, "ns/op") // it would include the gap between the datagrams
}

// BenchmarkStream measures one TCP stream in each direction, with veth's
// default offloads.
func BenchmarkStream(b *testing.B) {
	needs(b)
	for _, p := range forwarders {
		for _, up := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/up=%t", p.name, up), func(b *testing.B) {
				s, target := p.open(b, 9)
				var l net.Listener
				must(b, s.inNetns("s1", func() (err error) { l, err = net.Listen("tcp", ":9"); return err }))
				defer l.Close()
				var client net.Conn
				must(b, s.inNetns("client", func() (err error) { client, err = net.Dial("tcp", target); return err }))
				defer client.Close()
				server, err := l.Accept()
				must(b, err)
				defer server.Close()
				if up {
					pump(b, client, server)
				} else {
					pump(b, server, client)
				}
			})
		}
	}
}

// pump sends one megabyte per iteration.
func pump(b *testing.B, from, to net.Conn) {
	const chunk = 1 << 20
	b.SetBytes(chunk)
	buf := make([]byte, chunk)
	got := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, to)
		got <- err
	}()
	for b.Loop() {
		if _, err := from.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	from.(*net.TCPConn).CloseWrite()
	must(b, <-got)
}

func must(b testing.TB, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
