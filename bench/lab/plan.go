package lab

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"

	"uvs/bench/realserver"
	"uvs/fwd/tunnel"
)

// Plan describes a lab. The zero value of every field except Name means the
// default.
type Plan struct {
	Name       string `json:"name"`                  // letters and digits, at most 16
	Method     Method `json:"method"`                // NAT, DR or Tunnel
	Families   []int  `json:"families"`              // of the VIPs that get services: 4, 6 or both (the default)
	TunnelOver int    `json:"tunnel_over,omitempty"` // family of the outer header; 0: the VIP's own
	Encap      string `json:"encap,omitempty"`       // of a tunnel, a --tun-type; default ipip
	Scheduler  string `json:"scheduler"`             // default rr
	Clients    int    `json:"clients"`               // default 1
	Servers    int    `json:"servers"`               // default 3
	Arms       int    `json:"arms"`                  // the director's interfaces, 1 or 2; default 2 for NAT, else 1
	MTU        int    `json:"mtu"`                   // of every link, bytes; default 1500

	// NoOffloads turns checksum and segmentation offloads off on every link, so
	// that all frames have complete checksums and at most one MTU. By default
	// the offloads are the kernel's.
	NoOffloads bool `json:"no_offloads,omitempty"`
	// LossFree makes links queue where they would drop; see linkQueue.
	LossFree bool `json:"loss_free,omitempty"`
	// VIPOnDirector also configures the VIPs on the director's loopback device,
	// as the LVS recipes do. Forward makes the director's kernel a router.
	VIPOnDirector bool `json:"vip_on_director,omitempty"`
	Forward       bool `json:"forward,omitempty"`
}

// Method is how the lab's director forwards to its servers.
type Method string

const (
	NAT    Method = "nat"
	DR     Method = "dr" // direct routing
	Tunnel Method = "tunnel"
)

// Methods are all methods, in the order in which people learn them.
var Methods = []Method{NAT, DR, Tunnel}

// methodFlags are ipvsadm's options for the methods.
var methodFlags = map[Method]string{NAT: "-m", DR: "-g", Tunnel: "-i"}

// encapFlags are its options for a tunnel, with a checksum if it can have one.
func encapFlags(t tunnel.Type) (flags []string) {
	e := t.Encapsulation()
	if t != tunnel.IPIP { // ipvsadm's default
		flags = append(flags, "--tun-type", e.Name)
	}
	if e.Port != 0 {
		flags = append(flags, "--tun-port", strconv.Itoa(int(e.Port)))
	}
	if e.MaxFlags >= tunnel.Csum {
		flags = append(flags, "--tun-csum")
	}
	return flags
}

// encap is the plan's encapsulation.
func (p Plan) encap() (tunnel.Type, error) {
	return tunnel.ParseType(cmp.Or(p.Encap, tunnel.IPIP.String()))
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9]{1,16}$`)

// withDefaults returns the plan with its defaults, or what is wrong with it.
func (p Plan) withDefaults() (Plan, error) {
	if len(p.Families) == 0 {
		p.Families = []int{4, 6}
	}
	p.Scheduler = cmp.Or(p.Scheduler, "rr")
	p.Clients, p.Servers, p.MTU = cmp.Or(p.Clients, 1), cmp.Or(p.Servers, 3), cmp.Or(p.MTU, 1500)
	if p.Method == NAT {
		p.Arms = cmp.Or(p.Arms, 2)
	}
	p.Arms = cmp.Or(p.Arms, 1)

	_, unknownEncap := p.encap()
	switch {
	case !validName.MatchString(p.Name):
		return p, fmt.Errorf("lab name is %q; want 1 to 16 letters and digits", p.Name)
	case methodFlags[p.Method] == "":
		return p, fmt.Errorf("method is %q; want one of %v", p.Method, Methods)
	case p.TunnelOver != 0 && p.TunnelOver != 4 && p.TunnelOver != 6:
		return p, fmt.Errorf("tunnel over IPv%d; want 4 or 6", p.TunnelOver)
	case unknownEncap != nil:
		return p, fmt.Errorf("encap is %q; want %s", p.Encap, tunnel.OneOf())
	case p.Encap != "" && p.Method != Tunnel:
		return p, fmt.Errorf("encap is %q, but method %s is no tunnel", p.Encap, p.Method)
	case p.Clients < 1 || p.Clients > maxClients:
		return p, fmt.Errorf("%d clients; want 1 to %d", p.Clients, maxClients)
	case p.Servers < 1 || p.Servers > maxServers:
		return p, fmt.Errorf("%d servers; want 1 to %d", p.Servers, maxServers)
	case p.Arms != 1 && p.Arms != 2:
		return p, fmt.Errorf("director with %d arms; want 1 or 2", p.Arms)
	case p.MTU < minMTU6 || p.MTU > 65535:
		return p, fmt.Errorf("mtu is %d; want %d to 65535", p.MTU, minMTU6)
	}
	for _, family := range p.Families {
		if family != 4 && family != 6 {
			return p, fmt.Errorf("family is %d; want 4 or 6", family)
		}
	}
	return p, nil
}

// segment is an Ethernet segment of the lab, with its IPv4 and IPv6 networks.
type segment struct {
	bridge string
	number byte // third octet of the IPv4 network, and part of MAC addresses
	v4     string
	v6     string
}

var (
	front = segment{"front", 1, "10.1.0.%d/24", "fd00:1::%d/64"}
	back  = segment{"back", 2, "10.2.0.%d/24", "fd00:2::%d/64"}
)

// Host numbers. In decimal digits, they are the last part of an address in both
// families.
const (
	directorHost = 1
	serverHost   = 10 // rs1 is 11
	maxServers   = 89
	vipHost      = 100 // client1 is 101
	maxClients   = 99
	routerHost   = 254
)

// prefix returns a host's address with the prefix length of the network.
func (s segment) prefix(family, host int) netip.Prefix {
	if family == 4 {
		return netip.MustParsePrefix(fmt.Sprintf(s.v4, host))
	}
	return netip.MustParsePrefix(fmt.Sprintf(s.v6, host))
}

func (s segment) addr(family, host int) netip.Addr { return s.prefix(family, host).Addr() }

// VIP returns the VIP of a family.
func (p Plan) VIP(family int) netip.Addr { return front.addr(family, vipHost) }

// RIP returns the RIP of a family of server i, counted from 0.
func (p Plan) RIP(family, i int) netip.Addr {
	if p.oneNetwork() {
		return front.addr(family, serverHost+1+i)
	}
	return back.addr(family, serverHost+1+i)
}

// CIP returns the CIP of a family of client i, counted from 0.
func (p Plan) CIP(family, i int) netip.Addr { return front.addr(family, vipHost+1+i) }

// oneNetwork reports whether clients and servers share a network, as direct
// routing is usually drawn. (One-armed NAT has two networks on one segment,
// because replies must come back through the director.)
func (p Plan) oneNetwork() bool { return p.Method == DR && p.Arms == 1 }

// serverName and clientName return a node's name; i counts from 0.
func serverName(i int) string { return fmt.Sprintf("rs%d", i+1) }
func clientName(i int) string { return fmt.Sprintf("client%d", i+1) }

// Names of the other nodes. The switch holds the bridges.
const (
	switchNode   = "switch"
	DirectorNode = "director"
	routerNode   = "router"
)

// port is an interface of a node on a segment.
type port struct {
	node, iface string
	segment     segment
	host        int       // also in the MAC address
	addrs       []segment // networks in which the node has the host number
}

// switchIface returns the name of the other side of the port's link.
func (p port) switchIface() string { return p.node + "-" + p.iface }

// mac returns 02:00:00:00:SEGMENT:HOST, which is easy to recognise in a
// capture.
func (p port) mac() net.HardwareAddr {
	return net.HardwareAddr{2, 0, 0, 0, p.segment.number, byte(p.host)}
}

// layout is what a plan consists of: the nodes, their ports, and each node's
// gateway in both families.
type layout struct {
	nodes    []string
	ports    []port
	gateways map[string][2]netip.Addr // by node: IPv4, IPv6
}

// layout returns the layout of the plan:
//
//	NAT, two arms      clients --front-- director --back-- servers
//	NAT, one arm       clients, director and servers on one segment, with a
//	                   network each; the director routes between them
//	DR, one arm        clients, director and servers on one network
//	DR, two arms       clients --front-- director --back-- servers, and a router
//	                   beside the director for the replies
//	tunnel, one arm    clients, director --front-- router --back-- servers
//	tunnel, two arms   as DR, two arms
func (p Plan) layout() layout {
	l := layout{nodes: []string{switchNode}, gateways: map[string][2]netip.Addr{}}
	serversOn, serversNet := back, back
	if p.oneNetwork() {
		serversNet = front
	}
	if p.Arms == 1 && p.Method != Tunnel {
		serversOn = front
	}
	hasRouter := p.Method != NAT && serversOn == back
	node := func(name string, gateway int, ports ...port) {
		l.nodes = append(l.nodes, name)
		for i, port := range ports {
			port.node, port.iface = name, fmt.Sprintf("eth%d", i)
			l.ports = append(l.ports, port)
		}
		if gateway != 0 {
			net := ports[0].addrs[0]
			l.gateways[name] = [2]netip.Addr{net.addr(4, gateway), net.addr(6, gateway)}
		}
	}

	gateway, directorGateway := 0, 0
	switch {
	case p.Method == NAT:
		gateway = directorHost
	case hasRouter:
		gateway, directorGateway = routerHost, routerHost
	}
	for i := range p.Clients {
		node(clientName(i), gateway, port{segment: front, host: vipHost + 1 + i, addrs: []segment{front}})
	}
	director := []port{{segment: front, host: directorHost, addrs: []segment{front}}}
	switch {
	case p.Arms == 2:
		director = append(director, port{segment: back, host: directorHost, addrs: []segment{back}})
	case p.Method == NAT:
		director[0].addrs = []segment{front, back}
	}
	node(DirectorNode, directorGateway, director...)
	if hasRouter {
		node(routerNode, 0,
			port{segment: front, host: routerHost, addrs: []segment{front}},
			port{segment: back, host: routerHost, addrs: []segment{back}})
	}
	for i := range p.Servers {
		node(serverName(i), gateway, port{segment: serversOn, host: serverHost + 1 + i, addrs: []segment{serversNet}})
	}
	return l
}

// Interfaces returns the director's interfaces.
func (p Plan) Interfaces() []string {
	if p.Arms == 2 {
		return []string{"eth0", "eth1"}
	}
	return []string{"eth0"}
}

// serverHTTPPort returns the servers' HTTP port. NAT can translate ports, the
// other methods cannot.
func (p Plan) serverHTTPPort() uint16 {
	if p.Method == NAT {
		return 8080
	}
	return realserver.HTTPPort
}

// Commands returns the arguments of the ipvsadm commands for the lab's
// services. For each VIP these are HTTP over TCP and lvs-info over UDP.
func (p Plan) Commands() [][]string {
	var commands [][]string
	method := []string{methodFlags[p.Method]}
	if encap, err := p.encap(); err == nil && p.Method == Tunnel {
		method = append(method, encapFlags(encap)...)
	}
	for _, family := range p.Families {
		over := family
		if p.Method == Tunnel && p.TunnelOver != 0 {
			over = p.TunnelOver
		}
		for _, service := range []struct {
			flag               string
			port, portAtServer uint16
		}{
			{"-t", realserver.HTTPPort, p.serverHTTPPort()},
			{"-u", realserver.InfoPort, realserver.InfoPort},
		} {
			virtual := hostPort(p.VIP(family), service.port)
			commands = append(commands, []string{"-A", service.flag, virtual, "-s", p.Scheduler})
			for i := range p.Servers {
				real := hostPort(p.RIP(over, i), service.portAtServer)
				command := []string{"-a", service.flag, virtual, "-r", real}
				commands = append(commands, append(command, method...))
			}
		}
	}
	return commands
}

// hostPort joins an address and a port in the form of ipvsadm and package net.
func hostPort(addr netip.Addr, port uint16) string {
	return netip.AddrPortFrom(addr, port).String()
}
