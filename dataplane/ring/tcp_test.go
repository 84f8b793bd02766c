package ring

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"uvs/dataplane/wire"
)

// startCopyLoop copies frames between the two ports of l, in a new goroutine, until the
// test ends. It calls inspect for each frame.
func startCopyLoop(t testing.TB, l *Link, inspect func(*wire.Frame)) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		var frames [64]wire.Frame
		for {
			n, err := l.Recv(frames[:])
			if err != nil {
				done <- err
				return
			}
			for i := range frames[:n] {
				inspect(&frames[i])
				frames[i].Out = 1 - frames[i].In
			}
			if _, err := l.Send(frames[:n]); err != nil {
				done <- err
				return
			}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("copy loop ended with %v, want net.ErrClosed", err)
		}
	})
}

// dial connects left to right by TCP.
func (n *lab) dial(t testing.TB, to string) (client, server net.Conn) {
	t.Helper()
	var listener net.Listener
	inNetns(t, n.right, func() (err error) {
		listener, err = net.Listen("tcp4", to+":0")
		return err
	})
	defer listener.Close()
	inNetns(t, n.left, func() (err error) {
		client, err = net.DialTimeout("tcp4", listener.Addr().String(), patience)
		return err
	})
	t.Cleanup(func() { client.Close() })
	server, err := listener.Accept()
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

// TestTCP sends bytes both ways over TCP through a copy loop, with the default offloads
// of a veth. They arrive unchanged, in GSO frames with partial checksums.
func TestTCP(t *testing.T) {
	newNamespace(t) // or the test skips with its subtests
	for _, bypass := range []bool{false, true} {
		t.Run(fmt.Sprintf("bypass=%v", bypass), func(t *testing.T) {
			lab := newLab(t)
			var l *Link
			inNetns(t, lab.middle, func() (err error) {
				l, err = Open(Config{Interfaces: []Interface{
					{Name: "m0", QdiscBypass: bypass},
					{Name: "m1", QdiscBypass: bypass},
				}})
				return err
			})
			var gso, partial atomic.Int64
			startCopyLoop(t, l, func(f *wire.Frame) {
				if f.IsGSO() {
					gso.Add(1)
				}
				if f.ChecksumPartial() {
					partial.Add(1)
				}
			})
			client, server := lab.dial(t, "10.9.0.2")
			transfer(t, client, server)
			transfer(t, server, client)
			if gso.Load() == 0 || partial.Load() == 0 {
				t.Errorf("saw %d GSO frames and %d partial checksums, want some of each", gso.Load(), partial.Load())
			}
			l.Close()
			for _, p := range l.Stats().Ports {
				if p.DropOther+p.DropTooLong+p.DropDown+p.Malformed+p.Snapped != 0 {
					t.Errorf("frames were lost: %+v", p)
				}
			}
		})
	}
}

// transfer sends bytes on one connection and checks them on the other.
func transfer(t *testing.T, from, to net.Conn) {
	t.Helper()
	sent := make([]byte, 16<<20)
	seed := rand.Uint64()
	rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = rnd.Read(sent)
	errs := make(chan error, 1)
	go func() {
		_, err := from.Write(sent)
		errs <- err
	}()
	got := make([]byte, len(sent))
	_ = to.SetReadDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.ReadFull(to, got); err != nil {
		t.Fatalf("read: %v", err)
	}
	if err := <-errs; err != nil {
		t.Fatalf("write: %v", err)
	}
	if !bytes.Equal(sent, got) {
		t.Fatalf("%d bytes arrived changed: %x, want %x", len(got), sha256.Sum256(got), sha256.Sum256(sent))
	}
}
