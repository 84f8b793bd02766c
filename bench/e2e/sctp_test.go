package e2e

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"net"
	"testing"
	"time"
)

// sctp sends an SCTP packet with verification tag 7 from the client to a port of the VIP, and
// returns tag and chunks of the answer in hexadecimal.
func (e *clientServer) sctp(port uint16, chunk string) (answer string) {
	e.t.Helper()
	const clientPort = 5000
	p := binary.BigEndian.AppendUint16(nil, clientPort)
	p = binary.BigEndian.AppendUint16(p, port)
	p = binary.BigEndian.AppendUint64(p, 7<<32) // and no CRC32c yet
	body, err := hex.DecodeString(chunk)
	must(e.t, err)
	p = append(p, body...)
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
	network := map[bool]string{false: "ip4:132", true: "ip6:132"}[e.v6]
	must(e.t, e.inNetns("client", func() error {
		c, err := net.ListenPacket(network, e.addr(1, 2))
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.WriteTo(p, &net.IPAddr{IP: net.ParseIP(e.vip())}); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 100)
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		if b = b[:n]; n < 16 || from.String() != e.vip() || binary.BigEndian.Uint16(b) != port {
			return fmt.Errorf("%s answered %x", from, b)
		}
		answer = hex.EncodeToString(b[4:8]) + " " + hex.EncodeToString(b[12:])
		return nil
	}))
	return answer
}

// SCTP that has no conn is answered as by a host with SCTP. This kernel may be one without, so
// the packets are made here.
func TestSCTPWithoutConn(t *testing.T) {
	const (
		data        = "00030010000000010000000000000000"
		initiate    = "0100001400112233000100000001000100000001"
		shutdownAck = "08000004"
	)
	needs(t)
	for _, v6 := range []bool{false, true} {
		for _, onHost := range []bool{false, true} {
			t.Run(fmt.Sprintf("v6=%t/vip-on-director=%t", v6, onHost), func(t *testing.T) {
				s := &topology{network: newNetwork(t), method: "nat", v6: v6, onHost: onHost}
				e := newClientServerOn(s, 1)
				if onHost {
					e.run("director", "ip addr add "+e.vip()+e.prefixLen()+" dev lo")
				}
				service := e.url(e.vip()) + ":9"
				e.ipvsadm("director", "ipvsadm -A --sctp-service "+service+" -s rr")
				e.dial("tcp").Close() // the client knows the director's hardware address
				want := map[string]string{data: "00000007 06010004", shutdownAck: "00000007 0e010004"}
				for chunk, answer := range want {
					if got := e.sctp(9, chunk); got != answer {
						t.Errorf("chunk %s without a conn is answered %s, want %s", chunk, got, answer)
					}
				}
				e.run("director", uvsBinary+" set no_server=1")
				if got := e.sctp(9, initiate); got != "00112233 06000004" {
					t.Errorf("INIT to a service without a server is answered %s", got)
				}
				if onHost {
					return // the port without a service is the host's
				}
				if got := e.sctp(10, initiate); got != "00112233 06000004" {
					t.Errorf("INIT to a port without a service is answered %s", got)
				}
			})
		}
	}
}
