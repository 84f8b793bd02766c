package dataplane

import "uvs/dataplane/wire"

// Link is a way in and out for frames. One worker uses a link; only Wake may be
// called from elsewhere. It is implemented by the AF_PACKET rings
// (dataplane/ring) and by memory and pcap files (dataplane/memlink).
type Link interface {
	// Recv lends up to len(in) frames and returns how many. It waits until
	// there are frames, Wake is called, or a short idle time has passed; then
	// n may be 0. Frames are lent until the next Recv.
	Recv(in []wire.Frame) (n int, err error)
	// Send sends every frame whose Out is not wire.NoPort and returns how many
	// it handed on. A full device is waited for briefly, then frames are
	// dropped and counted by the link; err means the link is unusable.
	Send(frames []wire.Frame) (sent int, err error)
	// Wake makes a waiting or the next Recv return at once.
	Wake()
	Close() error
}
