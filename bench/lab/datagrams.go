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

// burstTries is how often a burst of datagrams, which nobody sends again, may
// lose some before that counts as an error; burstWait is how long an answer may
// take.
const (
	burstTries = 3
	burstWait  = time.Second
)

// Burst sends n datagrams of size bytes to the lvs-info service with one system
// call (UDP_SEGMENT), which makes a super-frame of them where the device takes
// it, and compares every byte of the answers.
func (l *Lab) Burst(ctx context.Context, node, address string, size, n int) (err error) {
	for range burstTries {
		if err = l.burst(ctx, node, address, size, n); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return fmt.Errorf("datagrams: in each of %d tries some got no answer: %w", burstTries, err)
}

func (l *Lab) burst(ctx context.Context, node, address string, size, n int) error {
	c, err := l.Dial(ctx, node, "udp", 0, address)
	if err != nil {
		return err
	}
	defer c.Close()
	u := c.(*net.UDPConn)
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	var opterr error
	err = raw.Control(func(fd uintptr) {
		opterr = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size)
	})
	if err := errors.Join(err, opterr); err != nil {
		return fmt.Errorf("ask for datagrams of %d bytes: %w", size, err)
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
	answer := make([]byte, 1<<16)
	for len(missing) > 0 {
		c.SetReadDeadline(time.Now().Add(burstWait))
		got, err := c.Read(answer)
		if err != nil {
			return fmt.Errorf("%d of %d datagrams of %d bytes: %w", len(missing), n, size, err)
		}
		_, echo, _ := bytes.Cut(answer[:got], []byte(" "))
		found := false
		for i := range missing {
			if bytes.Equal(echo, sent[i*size:(i+1)*size]) {
				delete(missing, i)
				found = true
			}
		}
		if !found {
			return fmt.Errorf("an answer of %d bytes is none to a datagram sent, or came twice", got)
		}
	}
	return nil
}
