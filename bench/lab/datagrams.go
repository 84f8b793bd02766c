package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"uvs/bench/realserver"
)

// Datagrams are not retransmitted, so a burst is tried burstTries times before
// a missing reply is an error. The first try waits burstWait for each reply,
// each later one twice as long as the one before.
const (
	burstTries = 6
	burstWait  = 100 * time.Millisecond
)

// Burst sends n datagrams of size bytes to the lvs-info service and compares
// every byte of the replies. Several datagrams go with one system call
// (UDP_SEGMENT) and must fit the MTU; the device takes them as one GSO frame if
// it can. A single one may have any size.
func (l *Lab) Burst(ctx context.Context, node, address string, size, n int) (err error) {
	wait := burstWait
	for range burstTries {
		if err = l.burst(ctx, node, address, size, n, wait); !errors.Is(err, os.ErrDeadlineExceeded) ||
			ctx.Err() != nil {
			return err
		}
		wait *= 2
	}
	return fmt.Errorf("tried %d times: %w", burstTries, err)
}

func (l *Lab) burst(ctx context.Context, node, address string, size, n int, wait time.Duration) error {
	c, err := l.Dial(ctx, node, "udp", 0, address)
	if err != nil {
		return err
	}
	defer c.Close()
	if n > 1 {
		if err := realserver.SetSockopt(c.(*net.UDPConn), unix.SOL_UDP, unix.UDP_SEGMENT, size); err != nil {
			return fmt.Errorf("set the datagram size to %d bytes: %w", size, err)
		}
	}
	sent := make([]byte, n*size)
	(&realserver.Pattern{}).Read(sent)
	if _, err := c.Write(sent); err != nil {
		return fmt.Errorf("send %d datagrams of %d bytes: %w", n, size, err)
	}
	missing := map[int]bool{}
	for i := range n {
		missing[i] = true
	}
	reply := make([]byte, 1<<16)
	last, bounded := ctx.Deadline()
	for len(missing) > 0 {
		deadline := time.Now().Add(wait)
		if bounded && last.Before(deadline) {
			deadline = last
		}
		c.SetReadDeadline(deadline)
		got, err := c.Read(reply)
		if err != nil {
			return fmt.Errorf("%d of %d datagrams of %d bytes: %w", len(missing), n, size, err)
		}
		_, echo, _ := bytes.Cut(reply[:got], []byte(" "))
		found := false
		for i := range missing {
			if bytes.Equal(echo, sent[i*size:(i+1)*size]) {
				delete(missing, i)
				found = true
			}
		}
		if !found {
			return fmt.Errorf("a reply of %d bytes matches no datagram sent, or came twice", got)
		}
	}
	return nil
}
