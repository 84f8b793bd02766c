package tunnel_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"uvs/ctl/nettest"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/fwdtest"
	"uvs/fwd/tunnel"
)

// TestKernelDecapsulates: the kernel's tunnel devices understand the packets of Encap and
// the splitter. Whole datagrams, fragments of the outer packet and the segments of a GSO
// frame come out with their bytes, at a VIP of the host.
func TestKernelDecapsulates(t *testing.T) {
	host := nettest.New(t)
	host.Must(host.NL.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "wire"}))
	host.Up("eth0")
	host.Up("wire")
	host.Sysctl("ipv4/conf/all/rp_filter", "0")
	host.Addr("eth0", fwdtest.RIP4.String()+"/24")
	host.Addr("eth0", fwdtest.RIP6.String()+"/64")
	var vips [2]*net.UDPConn
	for i, family := range fwdtest.Families {
		vip := netip.MustParseAddrPort(family.VIP)
		host.Addr("lo", netip.PrefixFrom(vip.Addr(), vip.Addr().BitLen()).String())
		host.Do(func() {
			var err error
			vips[i], err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(vip))
			host.Must(err)
		})
		t.Cleanup(func() { vips[i].Close() })
	}
	j := kernelJudge{
		t: t, wire: host.Tap("wire"), mac: wire.MAC(host.Link("eth0").Attrs().HardwareAddr),
		splitter: wire.NewSplitter(),
	}
	for _, tun := range fwdtest.Tunnels {
		t.Run(tun.Name, func(t *testing.T) {
			kernelTunnel(t, host, &tun.Tunnel)
			j.t = t
			for i, family := range fwdtest.Families {
				for _, what := range []struct {
					name     string
					payload  int
					gso      uint16
					received []int
				}{
					{"a datagram", 5, 0, []int{5}},
					{"one that just fits", tun.MTU - 8 - []int{20, 40}[i], 0, []int{tun.MTU - 8 - []int{20, 40}[i]}},
					{"one in fragments", 4000, 0, []int{4000}},
					{"a GSO frame", 2500, 1000, []int{1000, 1000, 500}},
				} {
					j.name = fmt.Sprintf("%s, %s", family.Name, what.name)
					payload := make([]byte, what.payload)
					for k := range payload {
						payload[k] = byte(k * 7)
					}
					j.send(&tun.Tunnel, wiretest.Packet{
						Src: family.Client, Dst: family.VIP, Proto: wire.ProtoUDP, DstMAC: j.mac, GSOSize: what.gso,
						Payload: payload,
					})
					for _, n := range what.received {
						j.receive(vips[i], payload[:n])
						payload = payload[n:]
					}
				}
			}
		})
	}
}

// kernelTunnel makes, for the time of a test, the devices that take packets of both
// families out of a tunnel from any address. The test skips where the kernel has none.
func kernelTunnel(t *testing.T, host *nettest.Namespace, tun *tunnel.Tunnel) {
	name := func(n string) netlink.LinkAttrs { return netlink.LinkAttrs{Name: n} }
	any4, any6 := net.IPv4zero, net.IPv6zero
	here, over6 := net.IP(tun.Dst.Netip().AsSlice()), !tun.Dst.Is4()
	devices := []netlink.Link{
		&netlink.Iptun{LinkAttrs: name("ipip"), Local: here, Remote: any4},
		&netlink.Sittun{LinkAttrs: name("sit"), Local: here, Remote: any4},
	}
	if over6 {
		// of both families
		devices = []netlink.Link{&netlink.Ip6tnl{LinkAttrs: name("ip6tnl"), Local: here, Remote: any6}}
	}
	if tun.Type == tunnel.GRE {
		gre := &netlink.Gretun{LinkAttrs: name("gre"), Local: here, Remote: any4}
		if over6 {
			gre.Remote = any6
		}
		if tun.Checksum {
			gre.IFlags = 0x8000 // C, RFC 2784 section 2.1
		}
		devices = []netlink.Link{gre}
	}
	for _, d := range devices {
		if err := host.NL.LinkAdd(d); errors.Is(err, unix.EOPNOTSUPP) {
			t.Skipf("the kernel has no %s devices (modules ipip, sit, ip6_tunnel, ip_gre, ip6_gre)", d.Type())
		} else if err != nil {
			t.Fatalf("make %s: %v", d.Attrs().Name, err)
		}
		t.Cleanup(func() { host.Must(host.NL.LinkDel(d)) })
		host.Sysctl("ipv4/conf/"+d.Attrs().Name+"/rp_filter", "0")
		host.Up(d.Attrs().Name)
	}
	if tun.Type == tunnel.GUE { // which passes the inner packet to the devices above
		listen := []string{"fou", "add", "port", fmt.Sprint(tun.Port), "gue"}
		if over6 {
			listen = append(listen, "-6")
		}
		var out []byte
		var err error
		host.Do(func() { out, err = exec.Command("ip", listen...).CombinedOutput() })
		if err != nil {
			t.Skipf("needs the program ip and the kernel modules fou and fou6: ip %v: %v %s", listen, err, out)
		}
		t.Cleanup(func() {
			listen[1] = "del"
			host.Do(func() {
				exec.Command("ip", slices.DeleteFunc(listen, func(w string) bool { return w == "gue" })...).Run()
			})
		})
	}
}

// kernelJudge sends frames to a host and compares what arrives.
type kernelJudge struct {
	t        *testing.T
	name     string
	wire     *packet.Conn
	mac      wire.MAC
	splitter *wire.Splitter
}

// send encapsulates a packet and sends it as the link would.
func (j *kernelJudge) send(tun *tunnel.Tunnel, p wiretest.Packet) {
	j.t.Helper()
	f := p.Frame()
	f.MTU = 1500
	if !tun.Encap(&f, fwdtest.Parse(j.t, &f)) {
		j.t.Fatalf("%s: Encap refused", j.name)
	}
	j.splitter.Reset()
	pieces, ok := j.splitter.Split(&f)
	if !ok {
		j.t.Fatalf("%s: Split refused", j.name)
	}
	for _, piece := range pieces {
		if _, err := j.wire.WriteTo(piece.Bytes(), &packet.Addr{HardwareAddr: j.mac[:]}); err != nil {
			j.t.Fatalf("%s: send: %v", j.name, err)
		}
	}
}

// receive waits for one datagram.
func (j *kernelJudge) receive(vip *net.UDPConn, want []byte) {
	j.t.Helper()
	buf := make([]byte, 1<<16)
	vip.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, _, err := vip.ReadFromUDPAddrPort(buf)
	if err != nil {
		j.t.Fatalf("%s: nothing arrived: %v", j.name, err)
	}
	if !bytes.Equal(buf[:n], want) {
		j.t.Errorf("%s: %d bytes arrived, want %d, or others", j.name, n, len(want))
	}
}
