// Package memlink is a Link in memory, for tests and to run captures (pcap, pcapng)
// through the director.
//
// It behaves like the AF_PACKET rings. Frames have wire.Headroom bytes of headroom,
// are lent until the next Recv, are split if their MTU asks for it, and need ten
// bytes of headroom to be sent. Config.Poison makes misuse visible: it overwrites
// lent memory when it takes it back, and fills the headroom.
package memlink
