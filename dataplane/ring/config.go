package ring

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/net/bpf"

	"uvs/dataplane/wire"
)

// Interface is one interface a link receives from and sends to.
type Interface struct {
	Name string
	// QdiscBypass sends past the queueing discipline (PACKET_QDISC_BYPASS):
	// faster, but then nothing waits while the device is busy, and tcpdump on
	// this host does not see what is sent.
	QdiscBypass bool
	// Netns is the descriptor of the network namespace the interface is in. 0:
	// that of the calling thread.
	Netns int
}

// Config says what to open. Only Interfaces must be given; the zero value of
// everything else means its default.
type Config struct {
	// Interfaces become the ports of the link: a frame's In and Out are indexes
	// into this list. They must be Ethernet; they may be down.
	Interfaces []Interface

	// BlockSize is the size of a ring block in bytes, a multiple of the page
	// size. A frame longer than a block is lost, so it must hold a super-frame:
	// at least 128 KiB. Default 1 MiB: more than the longest the kernel can be
	// told to make (GSO_MAX_SIZE, 8*65535 bytes). Block size does not matter for
	// speed from 16 KiB to 4 MiB.
	BlockSize int
	// Blocks is how many blocks a ring has, at least 2. Default 8: 8 MiB per
	// interface and worker, about 50 ms of the smallest frames at a million a
	// second.
	Blocks int

	// Mark, if not 0, is put on every frame sent (SO_MARK), so that the host's
	// own rules can tell them from its own.
	Mark uint32

	// SendBuffer is the socket's send buffer in bytes. Default 4 MiB: a batch of
	// 64 super-frames of 64 KiB.
	SendBuffer int

	// Spin is how long Recv keeps looking before it sleeps. Default 50 µs: round
	// trips of a lone frame take 93-124 µs instead of 140-185, for at most that
	// much work per idle moment. Negative: sleep at once.
	Spin time.Duration
	// Idle is how long Recv sleeps at most. Default 100 ms.
	Idle time.Duration

	// Steer is the classic BPF program that picks the worker for a frame: its
	// result modulo the number of workers. Offset 0 is the IP header. It is
	// attached once. Default: the kernel's hash of the flow, the same for both
	// directions of it.
	Steer []bpf.RawInstruction
}

// minBlock holds a 64 KiB super-frame with its slot header and room in front,
// rounded up to a power of two.
const minBlock = 128 << 10

// withDefaults fills in what was not given and checks what was.
func (c Config) withDefaults() (Config, error) {
	if len(c.Interfaces) == 0 || len(c.Interfaces) >= int(wire.NoPort) {
		return c, fmt.Errorf("ring: %d interfaces: want at least one and fewer than %d", len(c.Interfaces), wire.NoPort)
	}
	for i, a := range c.Interfaces {
		for _, b := range c.Interfaces[:i] {
			if a.Name == b.Name {
				return c, fmt.Errorf("ring: interface %s given twice", a.Name)
			}
		}
	}
	orDefault(&c.BlockSize, 1<<20)
	orDefault(&c.Blocks, 8)
	orDefault(&c.SendBuffer, 4<<20)
	orDefault(&c.Spin, 50*time.Microsecond)
	orDefault(&c.Idle, 100*time.Millisecond)
	switch page := os.Getpagesize(); {
	case c.BlockSize < minBlock || c.BlockSize%page != 0:
		return c, fmt.Errorf("ring: block size %d: want a multiple of %d and at least %d", c.BlockSize, page, minBlock)
	case c.Blocks < 2:
		return c, fmt.Errorf("ring: %d blocks: want at least 2", c.Blocks)
	case c.SendBuffer < 0:
		return c, fmt.Errorf("ring: send buffer %d: want a number of bytes", c.SendBuffer)
	case c.Idle < time.Millisecond:
		return c, fmt.Errorf("ring: idle time %v: want at least 1ms", c.Idle)
	}
	return c, nil
}

// orDefault sets *v to def if it was not given.
func orDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}
