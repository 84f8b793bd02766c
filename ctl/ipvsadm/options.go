package ipvsadm

import (
	"net/netip"
	"strings"

	"uvs/ctl/config"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// Limits and defaults of ipvsadm 1.31.
const (
	defaultScheduler = "wlc"
	defaultInterface = "eth0"
	defaultPersist   = 360        // seconds; its manual page says 300
	maxTimeout       = 31 * 86400 // seconds
	maxInt32         = 1<<31 - 1
	maxSyncLen       = 65535 - 20 - 8 // of an IPv4 UDP datagram
)

// daemon has the options of the sync daemon; zero values are defaults.
type daemon struct {
	backup bool
	iface  string
	syncID uint8
	maxLen uint16
	group  netip.Addr
	port   uint16
	ttl    uint8
}

// setter stores the value of an option; nil: none was given.
type setter func(p *parser, value *string) error

func daemonRole(message string) setter {
	return func(p *parser, role *string) error {
		p.daemon.backup = *role == "backup"
		if *role != "master" && *role != "backup" {
			return refuse("%s", message)
		}
		return nil
	}
}

func addressService(proto config.Proto) setter {
	return func(p *parser, value *string) error {
		e, ok := parseEndpoint(*value, proto, p.names)
		if !ok {
			return refuse("illegal virtual server address[:port] specified")
		}
		p.service.ServiceKey = config.ServiceKey{Proto: proto, Addr: e.addr, Port: e.port}
		if e.addr.Is6() {
			p.service.Netmask = config.Netmask{}
		}
		return nil
	}
}

func serviceMark(p *parser, value *string) error {
	n, ok := number(*value, 1, 1<<32-1)
	if !ok {
		return refuse("invalid fwmark value `%s' specified", *value)
	}
	p.service.FWMark = uint32(n)
	return nil
}

// markIPv6 replaces any netmask given before, as an IPv6 address does. It ends its error
// with an empty line, as ipvsadm does.
func markIPv6(p *parser, _ *string) error {
	if p.service.FWMark == 0 {
		return refuse("-6 used before -f\n")
	}
	p.service.IPv6, p.service.Netmask = true, config.Netmask{}
	return nil
}

func scheduler(p *parser, value *string) error {
	if *value != "" {
		p.service.Scheduler = *value
	}
	return nil
}

func persistent(p *parser, value *string) error {
	p.service.Persist = defaultPersist
	if value == nil {
		return nil
	}
	n, ok := number(*value, 1, maxTimeout)
	if !ok {
		return refuse("invalid timeout value `%s' specified", *value)
	}
	p.service.Persist = config.Seconds(n)
	return nil
}

func netmask(p *parser, value *string) error {
	if p.service.Is6() {
		n, ok := number(*value, 1, 128)
		if !ok {
			return refuse("illegal ipv6 netmask specified")
		}
		p.service.Netmask = config.PrefixLen6(uint32(n))
		return nil
	}
	mask, ok := parseIPv4(*value)
	if !ok {
		return refuse("illegal virtual server persistent mask specified")
	}
	p.service.Netmask = config.Mask4(mask)
	return nil
}

func persistenceEngine(p *parser, value *string) error {
	p.service.PE = *value
	return nil
}

func onePacket(p *parser, _ *string) error {
	p.service.OPS = true
	return nil
}

func schedFlags(p *parser, value *string) error {
	p.flags = *value
	return nil
}

// realServer takes the port, if none is given, and the protocol of port names from the
// service given before; for a mark the protocol is TCP.
func realServer(p *parser, value *string) error {
	proto := p.service.Proto
	if p.service.FWMark != 0 {
		proto = wire.ProtoTCP
	}
	e, ok := parseEndpoint(*value, proto, p.names)
	if !ok {
		return refuse("illegal real server address[:port] specified")
	}
	if !e.hasPort {
		e.port = p.service.Port
	}
	p.server.ServerKey = config.ServerKey{Addr: e.addr, Port: e.port}
	return nil
}

func method(m config.Method) setter {
	return func(p *parser, _ *string) error {
		p.server.Method = m
		return nil
	}
}

func tunType(p *parser, value *string) (err error) {
	if p.server.Tunnel.Type, err = tunnel.ParseType(*value); err != nil {
		return refuse("illegal tunnel type specified")
	}
	return nil
}

func tunChecksum(checksum config.Checksum) setter {
	return func(p *parser, _ *string) error {
		p.server.Tunnel.Checksum |= checksum
		return nil
	}
}

func mcastInterface(p *parser, value *string) error {
	if *value != "" {
		p.daemon.iface = *value
	}
	return nil
}

func mcastGroup(p *parser, value *string) error {
	family := "IPv4"
	if strings.Contains(*value, ":") {
		family = "IPv6"
	}
	a, err := netip.ParseAddr(*value)
	if err != nil || !a.IsMulticast() || a.Zone() != "" {
		return refuse("invalid %s mcast-group `%s'", family, *value)
	}
	p.daemon.group = a
	return nil
}

// store parses the value, which must be between low and high, into a field. name
// is the option's in the message.
func store[T uint8 | uint16 | uint32 | int32](field func(*parser) *T, low, high int64, name string) setter {
	return func(p *parser, value *string) error {
		n, ok := number(*value, low, high)
		if !ok {
			return refuse("illegal %s specified", name)
		}
		*field(p) = T(n)
		return nil
	}
}

func weight(p *parser) *int32          { return &p.server.Weight }
func upperThreshold(p *parser) *uint32 { return &p.server.Upper }
func lowerThreshold(p *parser) *uint32 { return &p.server.Lower }
func tunPort(p *parser) *uint16        { return &p.server.Tunnel.Port }
func syncID(p *parser) *uint8          { return &p.daemon.syncID }
func syncMaxLen(p *parser) *uint16     { return &p.daemon.maxLen }
func mcastPort(p *parser) *uint16      { return &p.daemon.port }
func mcastTTL(p *parser) *uint8        { return &p.daemon.ttl }
