package conntrack_test

import (
	"fmt"
	"net/netip"

	"uvs/conntrack"
	"uvs/dataplane/wire"
)

// A TCP connection from its SYN to its expiry.
func Example() {
	table, err := conntrack.NewTable(conntrack.Config{Max: 1000})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer table.Close()
	w := table.Worker(0)
	addr := func(s string) wire.Addr { return wire.AddrFrom(netip.MustParseAddr(s)) }
	client, vip, server := addr("192.0.2.1"), addr("198.51.100.1"), addr("10.0.0.1")

	// The client's SYN finds no conn, so one is inserted for the chosen server.
	w.Begin(0)
	packet := []conntrack.Query{{
		Client: client, ClientPort: 40000, Peer: vip, PeerPort: 80, Proto: wire.ProtoTCP, Dir: conntrack.DirIn,
	}}
	w.Lookup(packet)
	fmt.Println("SYN finds a conn:", packet[0].Ref != 0)
	ref, created := w.Insert(&conntrack.Entry{
		Client: client, ClientPort: 40000, VIP: vip, VPort: 80, Server: server, SPort: 8080,
		Proto: wire.ProtoTCP, Method: conntrack.MethodNAT, ServerID: 1,
	})
	_, state := w.Step(ref, conntrack.DirIn, conntrack.EventSYN, nil)
	fmt.Println("created:", created, state)
	w.End()

	// The server's reply has the server as its peer, and finds the same conn.
	w.Begin(10)
	packet[0].Peer, packet[0].PeerPort, packet[0].Dir = server, 8080, conntrack.DirOut
	w.Lookup(packet)
	fmt.Println("reply finds it:", packet[0].Ref == ref)
	w.Step(ref, conntrack.DirOut, conntrack.EventSYN, nil)
	_, state = w.Step(ref, conntrack.DirIn, conntrack.EventACK, nil)
	fmt.Println("after the handshake:", state, table.Counts(1).Active.Load(), "active")
	w.End()

	// No packet comes for 15 minutes. End expires the conn, a part of the work at a time.
	for more := true; more; {
		w.Begin(901 * conntrack.Second)
		more = w.End()
	}
	fmt.Println("in use:", table.Stats().InUse)

	// Output:
	// SYN finds a conn: false
	// created: true SYN_RECV
	// reply finds it: true
	// after the handshake: ESTABLISHED 1 active
	// in use: 0
}
