package ipvsadm

import (
	"bufio"
	"fmt"
	"net/netip"
	"strings"

	"uvs/conntrack"
	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/fwd/tunnel"
	"uvs/sched"
)

// layout is a format of the service list. The function server prints the line of a server
// after its name.
type layout struct {
	option  option
	title   string
	service func(printer, *api.ServiceStatus)
	server  func(printer, *api.ServerStatus)
}

// layouts are in order of precedence; the last is the default.
var layouts = [...]layout{
	{
		optStats, "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n" +
			"  -> RemoteAddress:Port",
		printer.serviceStats, printer.serverStats,
	},
	{
		optRate, "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n" +
			"  -> RemoteAddress:Port",
		printer.serviceRate, printer.serverRate,
	},
	{
		optThresholds, "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n" +
			"  -> RemoteAddress:Port",
		printer.describe, printer.serverThresholds,
	},
	{
		optPersistentConn, "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n" +
			"  -> RemoteAddress:Port",
		printer.describe, printer.serverPersistent,
	},
	{
		optTunInfo, "Prot LocalAddress:Port Scheduler Flags\n" +
			"  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn",
		printer.describe, printer.serverTunnel,
	},
	{
		optNone, "Prot LocalAddress:Port Scheduler Flags\n" +
			"  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
		printer.describe, printer.serverPlain,
	},
}

func layoutFor(given optionSet) *layout {
	for i := range layouts {
		if given.has(layouts[i].option) {
			return &layouts[i]
		}
	}
	return &layouts[len(layouts)-1]
}

// printer writes the lines of a service list.
type printer struct {
	*bufio.Writer
	names names
	exact bool // -X
	whole bool // see Commands
}

// The most bytes of a name at the start of an IPv4 service's or server's line. IPv6 names
// push the columns to the right.
const (
	maxServiceName = 33
	maxServerName  = 28
)

// serviceName returns the start of a service's line. A mark is a signed number, because ipvsadm
// prints it with %d.
func (p printer) serviceName(k *config.ServiceKey) string {
	if k.FWMark != 0 {
		name := fmt.Sprintf("FWM  %d", int32(k.FWMark))
		if k.IPv6 {
			name += " IPv6"
		}
		return name
	}
	name := fmt.Sprintf("%-4s %s", k.Proto, endpointName(k.Addr, k.Port, k.Proto, p.names))
	return cut(name, k.Addr, maxServiceName)
}

func (p printer) serverName(v *config.ServiceKey, k *config.ServerKey) string {
	return cut(endpointName(k.Addr, k.Port, v.Proto, p.names), k.Addr, maxServerName)
}

func cut(name string, a netip.Addr, limit int) string {
	if a.Is4() && len(name) > limit {
		return name[:limit]
	}
	return name
}

// describe prints a service with its scheduler and settings.
func (p printer) describe(s *api.ServiceStatus) {
	fmt.Fprintf(p, "%s %s", p.serviceName(&s.ServiceKey), s.Scheduler)
	if flags := flagNames(&s.Service); flags != "" {
		fmt.Fprintf(p, " (%s)", flags)
	}
	if s.Persist != 0 {
		fmt.Fprintf(p, " persistent %d", uint32(s.Persist))
		if mask := s.Netmask.String(); mask != "" {
			fmt.Fprintf(p, " mask %s", mask)
		}
		if s.PE != "" {
			fmt.Fprintf(p, " pe %s", s.PE)
		}
	}
	if s.OPS {
		p.WriteString(" ops")
	}
	p.WriteByte('\n')
}

// flagNames returns a service's scheduler flags as -b takes them.
func flagNames(s *config.Service) string {
	return strings.Join(sched.Flags(s.SchedFlags).Names(s.Scheduler), ",")
}

func (p printer) serverPlain(s *api.ServerStatus) {
	fmt.Fprintf(p, " %-7s %-6d %-10d %-10d\n", methodName(s.Method), s.Weight, s.Active, s.Inactive)
}

func (p printer) serverThresholds(s *api.ServerStatus) {
	fmt.Fprintf(p, " %-10d %-10d %-10d %-10d\n", s.Upper, s.Lower, s.Active, s.Inactive)
}

func (p printer) serverPersistent(s *api.ServerStatus) {
	fmt.Fprintf(p, " %-9d %-11d %-10d %-10d\n", s.Weight, s.Persist, s.Active, s.Inactive)
}

func (p printer) serverTunnel(s *api.ServerStatus) {
	fmt.Fprintf(p, " %-7s %-13s %-6d %-10d %-10d\n", methodName(s.Method), tunnelInfo(&s.Server), s.Weight, s.Active,
		s.Inactive)
}

// methodName is ipvsadm's word for a forwarding method: Masq, Tunnel, Route.
func methodName(m config.Method) string { return conntrack.Method(m).String() }

// tunnelCsums are the names of a tunnel's checksum in listings and as an option, by the
// checksum of config.Tunnel.
var tunnelCsums = [...]struct {
	short  string
	option option
}{
	tunnel.NoCsum:  {"-c", optTunNoCsum},
	tunnel.Csum:    {"+c", optTunCsum},
	tunnel.RemCsum: {"r+c", optTunRemCsum},
}

// tunnelInfo returns a server's tunnel in short: gue:6080:+c.
func tunnelInfo(s *config.Server) string {
	if s.Method != config.MethodTunnel {
		return "n/a"
	}
	e := s.Tunnel.Type.Encapsulation()
	info := e.Name
	if e.Port != 0 {
		info += fmt.Sprintf(":%d", s.Tunnel.Port)
	}
	if e.MaxFlags > 0 {
		info += ":" + tunnelCsums[min(uint16(s.Tunnel.Checksum), e.MaxFlags)].short
	}
	return info
}

func (p printer) serviceStats(s *api.ServiceStatus) {
	fmt.Fprintf(p, "%-*s", maxServiceName, p.serviceName(&s.ServiceKey))
	p.stats(&s.Stats)
}

func (p printer) serverStats(s *api.ServerStatus) { p.stats(&s.Stats) }

func (p printer) stats(s *api.Stats) {
	p.numbers(p.exact, s.Conns, s.InPkts, s.OutPkts, s.InBytes, s.OutBytes)
	p.WriteByte('\n')
}

func (p printer) serviceRate(s *api.ServiceStatus) {
	fmt.Fprintf(p, "%-*s", maxServiceName, p.serviceName(&s.ServiceKey))
	p.numbers(p.exact, s.Stats.CPS, s.Stats.InPPS, s.Stats.OutPPS, s.Stats.InBPS, s.Stats.OutBPS)
	p.WriteByte('\n')
}

// serverRate abbreviates only the bytes.
func (p printer) serverRate(s *api.ServerStatus) {
	p.numbers(true, s.Stats.CPS, s.Stats.InPPS, s.Stats.OutPPS)
	p.numbers(p.exact, s.Stats.InBPS, s.Stats.OutBPS)
	p.WriteByte('\n')
}

// numbers prints counters in columns of nine.
func (p printer) numbers(exact bool, counters ...uint64) {
	for _, n := range counters {
		if exact {
			fmt.Fprintf(p, " %8d", n)
		} else {
			p.WriteString(abbreviate(n))
		}
	}
}

// abbreviate fits a counter into nine columns with decimal units, rounded down.
func abbreviate(n uint64) string {
	switch {
	case n >= 1e14:
		return fmt.Sprintf("%8dT", n/1e12)
	case n >= 1e11:
		return fmt.Sprintf("%8dG", n/1e9)
	case n >= 1e9:
		return fmt.Sprintf("%8dM", n/1e6)
	case n >= 1e8:
		return fmt.Sprintf("%8dK", n/1e3)
	}
	return fmt.Sprintf("%9d", n)
}
