package ipvsadm_test

import (
	"bufio"
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

// kernelFile is what IPVS of a Linux 6.1 kernel did with these commands and packets. It ran in
// User Mode Linux; frames were sent into one side and captured on the other. Lines are
// commands (with the exit code if it failed), or packets of flows, which every scenario
// numbers from 0:
//
//	new N: servers     one packet each of the next N flows (a datagram or a
//	                   SYN), and which server got it: digit or letter i is
//	                   10.2.0.(i+1) or fd00:2::(i+1), "-" is none
//	ack A B, rst A B   a segment of the flows A to B, whose effect shows in later
//	                   lines
//
// The addresses of flow N are those of flowAddrs.
const kernelFile = "testdata/kernel-6.1.txt"

// TestAsTheKernel gives the director the kernel's commands and packets, and checks that every
// packet goes to the same server. It covers all schedulers except twos, which is random, with
// UDP, TCP, marks and persistence, IPv4 and IPv6, while servers are added, removed, added
// again and get other weights.
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

// scenario is a part of the file that starts with "# number: name".
type scenario struct {
	number     int
	name       string
	v6, marked bool
	proto      config.Proto
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
			s := scenario{
				name: title, v6: strings.Contains(title, "IPv6"), marked: strings.Contains(title, "mark"),
				proto: wire.ProtoTCP,
			}
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

// flowAddrs returns the addresses of flow n of a scenario. With a mark the flow goes to one of 256
// addresses, otherwise to the service.
func (s *scenario) flowAddrs(n int) (client, vip string) {
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

// kernelTwin is a director with a manager and without links; the test hands it frames.
type kernelTwin struct {
	*ctl.Manager
	t     *testing.T
	dir   *director.Director
	table *director.Table
	flows int
}

func newDirected(t *testing.T) *kernelTwin {
	conns, err := conntrack.NewTable(conntrack.Config{
		Max: 1 << 12, Workers: 1, ServerIDs: compile.MaxServerIDs,
		Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conns.Close() })
	d := &kernelTwin{t: t, dir: director.New(conns.Worker(0), frag.New(1, 1), 0)}
	d.Manager = ctl.NewManager(conns, 1, gatewayHost{}, noGuard{}, zerolog.Nop())
	d.table = d.FirstTable()
	d.Start((*handPlane)(d))
	if err := d.Apply(config.Op{
		Kind:     config.SetSettings,
		Settings: config.Values{"expire_nodest_conn": 0},
	}); err != nil {
		t.Fatal(err)
	}
	return d
}

// do runs a line of the file.
func (d *kernelTwin) do(s *scenario, line string) {
	d.t.Helper()
	command, want, _ := strings.Cut(line, ": ")
	words := strings.Fields(line)
	var a, b int
	switch words[0] {
	case "ipvsadm":
		d.ipvsadm(words[1:])
	case "iptables", "ip6tables":
		rules, _, err := config.ParseIPTables(strings.NewReader(line + "\n"))
		if err == nil {
			err = d.Apply(config.Op{Kind: config.AddMarks, Marks: rules})
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

func (d *kernelTwin) ipvsadm(args []string) {
	d.t.Helper()
	var messages strings.Builder
	std := ipvsadm.Stdio{In: strings.NewReader(""), Out: &messages, Err: &messages}
	if exit := ipvsadm.Main(args, std,
		func() (ipvsadm.Director, error) { return localDirector{d.Manager}, nil }); exit != 0 {
		d.t.Fatalf("ipvsadm %s: exit %d, %s", strings.Join(args, " "), exit, &messages)
	}
}

// packet sends a packet of a flow, and returns the server that got it.
func (d *kernelTwin) packet(s *scenario, n int, flags uint8) string {
	client, vip := s.flowAddrs(n)
	p := wiretest.Packet{Src: client, Dst: vip, Proto: uint8(s.proto), DstMAC: ports[0].MAC}
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

// ports are the director's ports to the client and to the servers.
var ports = []director.Port{
	{Name: "eth0", Index: 2, MAC: wire.MAC{2, 0, 0, 0, 0, 0xd}, MTU: 1500},
	{Name: "eth1", Index: 3, MAC: wire.MAC{2, 0, 0, 0, 1, 0xd}, MTU: 1500},
}

// gatewayHost is a host with one gateway to all servers.
type gatewayHost struct{}

func (gatewayHost) HostNet() *director.HostNet {
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

func (gatewayHost) KeepResolved([]netip.Addr) {}
func (gatewayHost) Announce([]netip.Addr)     {}

type noGuard struct{}

func (noGuard) Apply(guard.Rules) error { return nil }

// handPlane keeps the table for the test.
type handPlane kernelTwin

func (p *handPlane) Publish(t *director.Table)                 { p.table = t }
func (p *handPlane) Verdicts() (v [director.NumVerdict]uint64) { return v }
func (p *handPlane) Now() conntrack.Tick                       { return 1000 }

// localDirector is the manager as the command's Director.
type localDirector struct{ *ctl.Manager }

func (a localDirector) Info() (api.Info, error) { return api.Info{}, nil }
func (a localDirector) Service(key config.ServiceKey) (api.ServiceStatus, error) {
	return a.Manager.Service(key)
}

func (a localDirector) ServicesOf(api.ServiceFilter) ([]api.ServiceStatus, error) {
	return a.Manager.Services(), nil
}
func (a localDirector) Timeouts() (config.Timeouts, error)     { return a.Manager.Timeouts(), nil }
func (a localDirector) Conns(func(api.ConnStatus) error) error { return nil }
