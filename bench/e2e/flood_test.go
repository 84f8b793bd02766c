package e2e

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"uvs/dataplane/ring"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// flood is how many SYNs TestSYNFlood sends; the table holds a twentieth of
// them.
var flood = flag.Int("flood", 400_000, "how many SYNs, each of another client, TestSYNFlood sends")

// SYNs from new clients overflow the table twenty times, while a hundred
// connections carry data. None of those breaks, and the table stays within its
// budget.
func TestSYNFlood(t *testing.T) {
	e := newClientServer(t, "nat", 2, fmt.Sprintf("--conn-max=%d", *flood/20))
	// The flooded service has a server by direct routing that does not hold the
	// VIP and does not reply.
	e.ipvsadm("director", fmt.Sprintf(`
		ipvsadm -d -t %[1]s:7 -r %[2]s:7
		ipvsadm -A -t %[1]s:9 -s rr
		ipvsadm -a -t %[1]s:9 -r %[2]s -g`, e.vip(), e.addr(2, 12)))
	talks := make([]*echoConn, 100)
	for i := range talks {
		talks[i] = startEchoConn(e)
	}
	e.sendFlood(*flood)
	for i, talk := range talks {
		if err := talk.stop(); err != nil {
			t.Errorf("connection %d broke: %v", i, err)
		} else if talk.rounds == 0 {
			t.Errorf("connection %d sent nothing during the flood", i)
		}
	}
	count := e.counters()
	t.Logf("in use %d of %d, %d inserted, %d evicted half-open, memory %d of %d bytes", count["conns_in_use"],
		count["conns_capacity"],
		count["conns_inserted"], count["conns_ended_embryonic"], count["conns_memory_bytes"],
		count["conns_memory_budget_bytes"])
	if count["conns_ended_embryonic"] == 0 || count["conns_ended_idle"] != 0 {
		t.Errorf("evicted %d half-open and %d idle conns, want only half-open ones", count["conns_ended_embryonic"],
			count["conns_ended_idle"])
	}
	if count["conns_in_use"] > count["conns_capacity"] ||
		count["conns_memory_bytes"] > count["conns_memory_budget_bytes"] {
		t.Error("the table is over its budget")
	}
}

// echoConn is a connection that continually sends data and reads the echo.
type echoConn struct {
	rounds int
	quit   chan struct{}
	done   chan error
}

func startEchoConn(e *clientServer) *echoConn {
	client, server := e.connect()
	w := &echoConn{quit: make(chan struct{}), done: make(chan error, 1)}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			server.Write(buf[:n])
		}
	}()
	go func() { w.done <- w.run(client) }()
	return w
}

func (w *echoConn) run(c net.Conn) error {
	sent, received := make([]byte, 1024), make([]byte, 1024)
	for {
		select {
		case <-w.quit:
			return nil
		case <-time.After(10 * time.Millisecond): // the rate of sending, not a wait for a condition
		}
		binary.BigEndian.PutUint64(sent, rand.Uint64())
		c.SetDeadline(time.Now().Add(60 * time.Second))
		if _, err := c.Write(sent); err != nil {
			return err
		}
		for got := 0; got < len(received); {
			n, err := c.Read(received[got:])
			if err != nil {
				return err
			}
			got += n
		}
		if !bytes.Equal(sent, received) {
			return fmt.Errorf("the echo differs from what was sent")
		}
		w.rounds++
	}
}

func (w *echoConn) stop() error {
	close(w.quit)
	return <-w.done
}

// sendFlood sends n SYNs to the VIP's port 9 from n clients, out of the
// client's namespace: sixteen million addresses, then the same with the next
// source port.
func (e *clientServer) sendFlood(n int) {
	e.t.Helper()
	var link *ring.Link
	must(e.t, e.inNetns("client", func() (err error) {
		link, err = ring.Open(ring.Config{Interfaces: []ring.Interface{{Name: "eth0"}}})
		return err
	}))
	defer link.Close()
	mac := func(ns string) (m wire.MAC) {
		hw, err := net.ParseMAC(strings.TrimSpace(e.run(ns, "cat /sys/class/net/eth0/address")))
		must(e.t, err)
		return wire.MAC(hw)
	}
	from, to := mac("client"), mac("director")
	frames := make([]wire.Frame, 64)
	for i := range frames {
		frames[i] = wiretest.Packet{
			SrcMAC: from, DstMAC: to, Src: "11.0.0.0:1024", Dst: e.vip() + ":9",
			TCPFlags: wire.TCPSyn,
		}.Frame()
	}
	for sent := 0; sent < n; {
		for i := range frames {
			f := &frames[i]
			f.Out = 0
			ip := wire.IPv4(f.Bytes()[wire.EthernetLen:])
			id := uint32(sent + i)
			src := wire.AddrFrom4([]byte{11, byte(id >> 16), byte(id >> 8), byte(id)})
			fix := wire.ChecksumDelta{}.Addr(ip.Src(), src).Port(wire.TCP(ip[20:]).SrcPort(), uint16(1024+id>>24))
			ip.ReplaceSrc(src)
			wire.TCP(ip[20:]).SetSrcPort(uint16(1024 + id>>24))
			var p wire.Packet
			wire.Parse(f, &p)
			fix.Apply(f, &p)
		}
		handed, err := link.Send(frames)
		if err != nil {
			e.t.Fatal(err)
		}
		sent += handed
	}
}
