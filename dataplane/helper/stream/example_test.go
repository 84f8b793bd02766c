package stream_test

import (
	"bytes"
	"fmt"

	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// politeness replaces the word "now" at the end of the client's lines.
type politeness struct{}

// Judge decides about one line at a time.
func (politeness) Judge(dir conntrack.Dir, text []byte, last bool) stream.Judgement {
	end := bytes.IndexByte(text, '\n') + 1
	switch {
	case dir != conntrack.DirIn:
		return stream.Judgement{Do: stream.Pass, N: len(text)}
	case end > 0 && bytes.HasSuffix(text[:end], []byte(" now\n")):
		polite := bytes.Replace(text[:end], []byte("now"), []byte("please"), 1)
		return stream.Judgement{Do: stream.Replace, N: end, New: polite}
	case end == 0 && !last:
		return stream.Judgement{Do: stream.More} // keep it back until the line is whole
	case end == 0:
		end = len(text)
	}
	return stream.Judgement{Do: stream.Pass, N: end}
}

// A rewriter changes a word of the client's, and the server's acknowledgement
// arrives in the client's sequence numbers.
func Example() {
	var c stream.Conn
	process := func(dir conntrack.Dir, p wiretest.Packet) wire.TCP {
		f := p.Frame()
		var parsed wire.Packet
		wire.Parse(&f, &parsed)
		fmt.Print(c.Process(dir, &f, &parsed, politeness{}), ": ")
		return wire.TCP(f.From(parsed.L4))
	}

	client := wiretest.Packet{Src: "198.51.100.7:40000", Dst: "10.9.0.1:7", TCPFlags: wire.TCPAck, Seq: 1000, Ack: 1}
	client.Payload = []byte("send it now\n")
	tcp := process(conntrack.DirIn, client)
	fmt.Printf("%q\n", tcp[tcp.HeaderLen():])

	server := wiretest.Packet{Src: "10.0.0.2:7", Dst: "198.51.100.7:40000", TCPFlags: wire.TCPAck, Seq: 1, Ack: 1015}
	fmt.Println("acknowledged to", process(conntrack.DirOut, server).Ack())
	// Output:
	// passed: "send it please\n"
	// passed: acknowledged to 1012
}
