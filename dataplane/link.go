package dataplane

import "uvs/dataplane/wire"

// Link receives and sends frames. One worker uses a link; any goroutine may call Wake.
// There are AF_PACKET rings (dataplane/ring), and memory and captures
// (dataplane/memlink).
type Link interface {
	// Recv lends up to len(in) frames and returns how many. It waits until there
	// are frames, Wake is called, or a short idle time has passed. Then n may be
	// 0. The frames are lent until the next Recv.
	Recv(in []wire.Frame) (n int, err error)
	// Send sends every frame whose Out is not wire.NoPort, and returns how many
	// the device accepted. It waits briefly for a full device; then the link
	// drops frames and counts them. An error means that the link is unusable.
	Send(frames []wire.Frame) (sent int, err error)
	// Wake makes a waiting or the next Recv return at once.
	Wake()
	Close() error
}
