package ipvsadm

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"uvs/ctl/config"
)

// names translates the names of hosts and services.
type names interface {
	addr(host string, v6 bool) (netip.Addr, bool)
	port(service string, proto config.Proto) (uint16, bool)
	host(a netip.Addr) string                       // "" if it has no name
	service(port uint16, proto config.Proto) string // "" if it has no name
}

// lookupTimeout bounds a query to the resolver.
const lookupTimeout = 5 * time.Second

// systemNames uses the resolver for hosts and /etc/services for services, each only when a
// name is needed. It caches answers. After a timeout it does not ask the resolver for names
// of hosts again, so that a long listing does not wait on each line.
type systemNames struct {
	services     []serviceName
	read         bool // services was read
	hosts        map[netip.Addr]string
	resolverDown bool // a query timed out
}

func (n *systemNames) addr(host string, v6 bool) (netip.Addr, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	network := "ip4"
	if v6 {
		network = "ip6"
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
	if err != nil || len(addrs) == 0 {
		return netip.Addr{}, false
	}
	a := addrs[0].Unmap().WithZone("")
	return a, a.Is6() == v6
}

func (n *systemNames) host(a netip.Addr) string {
	if name, known := n.hosts[a]; known || n.resolverDown {
		return name
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupAddr(ctx, a.String())
	n.resolverDown = err != nil && ctx.Err() != nil
	name := ""
	if len(found) > 0 {
		name = strings.TrimSuffix(found[0], ".")
	}
	if n.hosts == nil {
		n.hosts = make(map[netip.Addr]string)
	}
	n.hosts[a] = name
	return name
}

func (n *systemNames) port(service string, proto config.Proto) (uint16, bool) {
	for _, s := range n.table() {
		if s.proto == proto.Word() && s.name == service {
			return s.port, true
		}
	}
	return 0, false
}

// commonNames are names of ports that /etc/services may lack.
var commonNames = map[string]uint16{"dns": 53, "http": 80, "https": 443, "nfs": 2049}

// Port returns the port of a name in /etc/services, or of a common name.
func Port(service string, proto config.Proto) (uint16, bool) {
	if port, ok := new(systemNames).port(service, proto); ok {
		return port, true
	}
	port, ok := commonNames[service]
	return port, ok
}

func (n *systemNames) service(port uint16, proto config.Proto) string {
	for _, s := range n.table() {
		if s.proto == proto.Word() && s.port == port {
			return s.name
		}
	}
	return ""
}

// table parses /etc/services once. Without that file services have no names.
func (n *systemNames) table() []serviceName {
	if !n.read {
		n.read = true
		if f, err := os.Open("/etc/services"); err == nil {
			n.services = parseServices(f)
			f.Close()
		}
	}
	return n.services
}

// serviceName is a name of a port; aliases follow the official name.
type serviceName struct {
	name  string
	port  uint16
	proto string
}

// parseServices parses lines of "name port/protocol alias... # comment" (services(5)) and
// skips invalid ones.
func parseServices(r io.Reader) []serviceName {
	var list []serviceName
	for lines := bufio.NewScanner(r); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		number, proto, ok := strings.Cut(fields[1], "/")
		port, err := strconv.ParseUint(number, 10, 16)
		if !ok || err != nil {
			continue
		}
		fields[1] = fields[0]
		for _, name := range fields[1:] {
			list = append(list, serviceName{name, uint16(port), proto})
		}
	}
	return list
}

// numericNames has no names, for -n.
type numericNames struct{}

func (numericNames) addr(string, bool) (netip.Addr, bool)     { return netip.Addr{}, false }
func (numericNames) port(string, config.Proto) (uint16, bool) { return 0, false }
func (numericNames) host(netip.Addr) string                   { return "" }
func (numericNames) service(uint16, config.Proto) string      { return "" }

// endpointName returns an address and port as parseEndpoint takes them: with names where there
// are any, and with brackets around IPv6.
func endpointName(addr netip.Addr, port uint16, proto config.Proto, names names) string {
	host, service := names.host(addr), names.service(port, proto)
	if host == "" {
		host = addr.String()
	}
	if service == "" {
		service = strconv.Itoa(int(port))
	}
	if addr.Is6() {
		host = "[" + host + "]"
	}
	return host + ":" + service
}
