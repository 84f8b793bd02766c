// Package memlink is the other rims: a Link whose frames come from memory and go
// to memory, for tests and for running captures (pcap, pcapng) through the
// director.
//
// It behaves as the AF_PACKET rings do: frames have wire.Headroom bytes in
// front, are lent until the next Recv, are split on the way out if they ask for
// it, and need ten bytes of room to be sent. With Config.Poison it makes misuse
// visible: lent memory is overwritten when it is taken back, and the headroom is
// never zero.
package memlink
