package ipvsadm_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/gaissmai/bart"
	"github.com/rs/zerolog"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/ctl/ipvsadm"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// kernelFile is what a Linux 6.1 kernel did, given these commands and packets.
// Its IPVS was asked in User Mode Linux, with frames sent into one side of it and
// caught on the other. Lines are commands as they were given to it (where it
// could not take one, its exit code stands behind), or packets of flows, which
// every scenario numbers from 0:
//
//	new N: servers     one packet each of the next N flows (a datagram or a
//	                   SYN), and who got it: digit or letter i is server
//	                   10.2.0.(i+1) or fd00:2::(i+1), "-" is nobody
//	ack A B, rst A B   a segment of the flows A to B; what becomes of it shows in
//	                   the servers that come after
//
// The addresses of flow N are those of flowEnds.
const kernelFile = "testdata/kernel-6.1.txt"

// TestAsTheKernel gives the director the commands and packets the kernel got, and
// wants every packet at the server the kernel sent it to: all schedulers but
// twos, which draws lots, over UDP, TCP, marks and persistence, IPv4 and IPv6,
// with servers added, removed, added again and re-weighted in between.
func TestAsTheKernel(t *testing.T) {
	for _, s := range readScenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			d := newDirected(t)
			for _, line := range s.lines {
				d.do(&s, line)
			}
		})
	}
}

// scenario is one part of the file, which begins with "# number: name".
type scenario struct {
	number     int
	name       string
	v6, marked bool
	proto      uint8
	lines      []string
}

func readScenarios(t *testing.T) (list []scenario) {
	f, err := os.Open(kernelFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if title, ok := strings.CutPrefix(line, "# "); ok {
			s := scenario{name: title, v6: strings.Contains(title, "IPv6"), marked: strings.Contains(title, "mark"), proto: wire.ProtoTCP}
			if strings.Contains(title, "mark udp") {
				s.proto = wire.ProtoUDP
			}
			fmt.Sscanf(title, "%d:", &s.number)
			list = append(list, s)
		} else if line != "" {
			s := &list[len(list)-1]
			s.lines = append(s.lines, line)
			if strings.Contains(line, " -u ") {
				s.proto = wire.ProtoUDP
			}
		}
	}
	if len(list) == 0 {
		t.Fatalf("%s holds no scenario", kernelFile)
	}
	return list
}

// flowEnds are the ends of flow n of a scenario. With a mark it goes to one of
// 256 addresses, else to the service.
func (s *scenario) flowEnds(n int) (client, vip string) {
	h := uint32(n)*2654435761 + 12345
	from := netip.AddrFrom4([4]byte{10, byte(100 + h>>24&15), byte(h >> 16), byte(h >> 8)})
	to := netip.AddrFrom4([4]byte{10, 9, byte(s.number), 1})
	which := uint16(uint32(n) * 40503 >> 3 & 255)
	if s.marked {
		to = netip.AddrFrom4([4]byte{10, 9, byte(s.number), byte(which)})
	}
	if s.v6 {
		a, b := [16]byte{0xfd, 0, 1, 0}, [16]byte{0xfd, 0, 0, 9}
		a[1], a[2], a[3] = 0, 1, 0
		binary.BigEndian.PutUint16(a[8:], uint16(h>>16))
		binary.BigEndian.PutUint16(a[14:], uint16(h))
		binary.BigEndian.PutUint16(b[14:], uint16(s.number))
		if s.marked {
			binary.BigEndian.PutUint16(b[12:], uint16(s.number))
			binary.BigEndian.PutUint16(b[14:], which)
		}
		from, to = netip.AddrFrom16(a), netip.AddrFrom16(b)
	}
	port := uint16(80)
	if s.proto == wire.ProtoUDP && !s.marked {
		port = 53
	}
	return netip.AddrPortFrom(from, uint16(1024+h>>7%60000)).String(), netip.AddrPortFrom(to, port).String()
}

// directed is a director under a manager, without links: frames are handed to it.
type directed struct {
	*ctl.Manager
	t     *testing.T
	dir   *director.Director
	table *director.Table
	flows int
}

func newDirected(t *testing.T) *directed {
	conns, err := conntrack.NewTable(conntrack.Config{Max: 1 << 12, Workers: 1, MaxServers: compile.MaxServers, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conns.Close() })
	d := &directed{t: t, dir: director.New(conns.Worker(0), frag.New(1, 1), 0)}
	d.Manager = ctl.NewManager(conns, 1, quietHost{}, noGuard{}, zerolog.Nop())
	d.table = d.FirstTable()
	d.Start((*handPlane)(d))
	if err := d.Apply(config.Op{Verb: config.SetSettings, Settings: config.Values{"expire_nodest_conn": 0}}); err != nil {
		t.Fatal(err)
	}
	return d
}

// do carries out a line of the file.
func (d *directed) do(s *scenario, line string) {
	d.t.Helper()
	command, want, _ := strings.Cut(line, ": ")
	words := strings.Fields(line)
	var a, b int
	switch words[0] {
	case "ipvsadm":
		d.ipvsadm(words[1:])
	case "iptables", "ip6tables":
		rules, err := config.ParseIPTables(strings.NewReader(line + "\n"))
		if err == nil {
			err = d.Apply(config.Op{Verb: config.AddMarks, Marks: rules})
		}
		if err != nil {
			d.t.Fatalf("%s: %v", line, err)
		}
	case "new":
		fmt.Sscanf(command, "new %d", &a)
		got := ""
		for range a {
			got += d.packet(s, d.flows, wire.TCPSyn)
			d.flows++
		}
		if got != want {
			d.t.Fatalf("%s\nis    %s\nof flows from %d on", line, got, d.flows-a)
		}
	case "ack", "rst":
		fmt.Sscanf(command, words[0]+" %d %d", &a, &b)
		flags := map[string]uint8{"ack": wire.TCPAck, "rst": wire.TCPRst | wire.TCPAck}[words[0]]
		for n := a; n <= b; n++ {
			d.packet(s, n, flags)
		}
	default:
		d.t.Fatalf("no such line: %s", line)
	}
}

func (d *directed) ipvsadm(args []string) {
	d.t.Helper()
	var messages strings.Builder
	std := ipvsadm.Stdio{In: strings.NewReader(""), Out: &messages, Err: &messages}
	if exit := ipvsadm.Main(args, std, func() (ipvsadm.Director, error) { return asked{d.Manager}, nil }); exit != 0 {
		d.t.Fatalf("ipvsadm %s: exit %d, %s", strings.Join(args, " "), exit, &messages)
	}
}

// packet sends one packet of a flow, and returns who got it.
func (d *directed) packet(s *scenario, n int, flags uint8) string {
	client, vip := s.flowEnds(n)
	p := wiretest.Packet{Src: client, Dst: vip, Proto: s.proto, DstMAC: ports[0].MAC}
	if s.proto == wire.ProtoTCP {
		p.TCPFlags = flags
	}
	frames, verdicts := []wire.Frame{p.Frame()}, make([]director.Verdict, 1)
	d.dir.Process(1000, d.table, frames, verdicts)
	if verdicts[0] != director.ForwardedMasq {
		return "-"
	}
	var out wire.Packet
	wire.Parse(&frames[0], &out)
	last := out.Dst.Netip().AsSlice()
	return "0123456789abcdefghijklmnopqrstuvwxyz"[last[len(last)-1]-1:][:1]
}

// ports are the director's: the client's side and the servers'.
var ports = []director.Port{
	{Name: "eth0", Index: 2, MAC: wire.MAC{2, 0, 0, 0, 0, 0xd}, MTU: 1500},
	{Name: "eth1", Index: 3, MAC: wire.MAC{2, 0, 0, 0, 1, 0xd}, MTU: 1500},
}

// quietHost is a host that reaches every server through one gateway.
type quietHost struct{}

func (quietHost) HostNet() *director.HostNet {
	h := &director.HostNet{
		Ports: ports, Routes: new(bart.Table[director.Route]), HostAddrs: map[wire.Addr]int{},
		Neighbours: map[director.NeighbourKey]wire.MAC{},
	}
	for _, route := range []struct{ prefix, via string }{{"0.0.0.0/0", "10.2.255.254"}, {"::/0", "fd00:2::fffe"}} {
		via := netip.MustParseAddr(route.via)
		h.Routes.Insert(netip.MustParsePrefix(route.prefix), director.Route{Port: 1, Via: via})
		h.Neighbours[director.NeighbourKey{Port: 1, Addr: wire.AddrFrom(via)}] = wire.MAC{2, 0, 0, 0, 1, 1}
	}
	return h
}

func (quietHost) KeepResolved([]netip.Addr)                                      {}
func (quietHost) WaitResolved(context.Context, []netip.Addr) (left []netip.Addr) { return nil }
func (quietHost) Announce([]netip.Addr)                                          {}

type noGuard struct{}

func (noGuard) Apply(guard.Rules) error { return nil }

// handPlane keeps the table for the one who hands the director frames.
type handPlane directed

func (p *handPlane) Publish(t *director.Table)                 { p.table = t }
func (p *handPlane) Verdicts() (v [director.NumVerdict]uint64) { return v }
func (p *handPlane) Now() conntrack.Tick                       { return 1000 }

// asked lets the command ask the manager in this process.
type asked struct{ *ctl.Manager }

func (a asked) Info() (api.Info, error)                { return api.Info{}, nil }
func (a asked) Services() ([]api.ServiceStatus, error) { return a.Manager.Services(), nil }
func (a asked) Timeouts() (config.Timeouts, error)     { return a.Manager.Timeouts(), nil }
func (a asked) Conns(func(api.ConnStatus) error) error { return nil }
