package ring

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/net/bpf"

	"uvs/dataplane/wire"
)

// Interface is one network interface of a link.
type Interface struct {
	Name string
	// QdiscBypass sends without the queueing discipline (PACKET_QDISC_BYPASS). It
	// is faster, but frames do not wait while the device is busy, and tcpdump on
	// this host does not see them.
	QdiscBypass bool
	// Netns is the descriptor of the interface's network namespace. 0: that of
	// the calling thread.
	Netns int
}

// Config configures a link. Only Interfaces is required. The zero value of any other
// field means its default.
type Config struct {
	// Interfaces are the ports of the link: a frame's In and Out are indexes into
	// this list. They must be Ethernet devices, and may be down.
	Interfaces []Interface

	// BlockSize is the size of a ring block in bytes, a multiple of the page size. A
	// frame longer than a block is lost, so a block must hold a GSO frame: at least 128
	// KiB. The default, 1 MiB, is more than the longest GSO frame (GSO_MAX_SIZE,
	// 8*65535 bytes). From 16 KiB to 4 MiB the block size does not affect the speed.
	//
	// On machines that read only closed blocks (see arch_closed.go) the default is
	// 128 KiB. There the block timer of 1 ms uses up a block for a single frame. So
	// a ring of many small blocks lasts longer while the worker is away.
	BlockSize int
	// Blocks is the number of blocks of a ring, at least 2. Default 8 of 1 MiB, or
	// 64 of 128 KiB: 8 MiB per interface and worker. That holds about 50 ms of the
	// smallest frames at a million frames per second.
	Blocks int

	// Mark, if not 0, is the firewall mark of every sent frame (SO_MARK). With it
	// the host's rules can distinguish them.
	Mark uint32

	// SendBuffer is the socket's send buffer in bytes. Default 4 MiB: a batch of
	// 64 GSO frames of 64 KiB.
	SendBuffer int

	// Spin is how long Recv polls before it sleeps. With the default, 50 µs, the
	// round trip of a single frame takes 93-124 µs instead of 140-185. The price
	// is up to 50 µs of CPU time before each sleep. Negative: sleep at once.
	Spin time.Duration
	// Idle is the longest sleep of Recv. Default 100 ms.
	Idle time.Duration

	// Steer is a classic BPF program that selects the worker for a frame: its
	// result modulo the number of workers. Offset 0 is the IP header. Default:
	// the kernel's flow hash, which is the same for both directions.
	Steer []bpf.RawInstruction

	// Open opens the sockets of all workers on interface i, as OpenSockets does with the same
	// Config. Default: OpenSockets in this process.
	Open func(i int) ([]Sockets, error)
}

// minBlock holds a 64 KiB GSO frame with its slot header and headroom. It is rounded
// up to a power of two.
const minBlock = 128 << 10

// withDefaults returns c with defaults, or an error if a value is invalid.
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
	blockSize, blocks := 1<<20, 8
	if !readsOpenBlocks {
		blockSize, blocks = minBlock, 64
	}
	orDefault(&c.BlockSize, blockSize)
	orDefault(&c.Blocks, blocks)
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

// orDefault sets *v to def if it is zero.
func orDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}
