package wire_test

import (
	"fmt"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// Parse a frame and rewrite its destination, as NAT does. The frame comes from a
// link; here wiretest builds one.
func ExampleChecksumDelta() {
	f := wiretest.Packet{Src: "198.51.100.7:40000", Dst: "192.0.2.1:80", Payload: []byte("GET /")}.Frame()

	var p wire.Packet
	wire.Parse(&f, &p)
	fmt.Printf("%v:%d > %v:%d, checksum right: %t\n", p.Src, p.SrcPort, p.Dst, p.DstPort, wire.VerifyChecksum(&f, &p))

	server, port := wire.AddrFrom4([]byte{10, 0, 0, 2}), uint16(8080)
	wire.IPv4(f.From(p.L3)).ReplaceDst(server)
	wire.TCP(f.From(p.L4)).SetDstPort(port)
	wire.ChecksumDelta{}.Addr(p.Dst, server).Port(p.DstPort, port).Apply(&f, &p)

	wire.Parse(&f, &p)
	fmt.Printf("%v:%d > %v:%d, checksum right: %t\n", p.Src, p.SrcPort, p.Dst, p.DstPort, wire.VerifyChecksum(&f, &p))

	// Output:
	// 198.51.100.7:40000 > 192.0.2.1:80, checksum right: true
	// 198.51.100.7:40000 > 10.0.0.2:8080, checksum right: true
}
