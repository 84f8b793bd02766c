package ipvsadm

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/dataplane/wire"
)

// save does -S: it prints the commands that make the table, in the order of the list.
func (t *tool) save(r *request) error {
	services, err := t.services(r)
	if err != nil {
		return &refusal{refusalText(getService, err), exitMissing, true}
	}
	p := printer{Writer: t.out, names: t.listNames(r)}
	for i := range services {
		p.saveAll(&services[i])
	}
	return nil
}

// Commands writes the commands that make a service and its servers, as -S does, but in numbers
// and whole: also with a netmask that only matters with persistence. The servers are in the order
// of adding, on which a scheduler depends.
func Commands(w io.Writer, s *config.Service) {
	b := bufio.NewWriter(w)
	defer b.Flush()
	status := api.ServiceStatus{Service: *s}
	for _, v := range slices.Backward(s.Servers) {
		status.ServerStatuses = append(status.ServerStatuses, api.ServerStatus{Server: v})
	}
	printer{Writer: b, names: numericNames{}, whole: true}.saveAll(&status)
}

// saveAll prints a service and its servers.
func (p printer) saveAll(s *api.ServiceStatus) {
	service := p.serviceOption(&s.ServiceKey)
	p.saveService(service, &s.Service)
	for j := range s.ServerStatuses {
		server := endpointName(s.ServerStatuses[j].Addr, s.ServerStatuses[j].Port, s.Proto, p.names)
		p.saveServer(service, server, &s.ServerStatuses[j].Server)
	}
}

// serviceOptions and methodOptions are the options for protocols and methods.
var (
	serviceOptions = map[config.Proto]string{wire.ProtoTCP: "-t", wire.ProtoUDP: "-u", wire.ProtoSCTP: "--sctp-service"}
	methodOptions  = map[config.Method]string{
		config.MethodNAT: "-m", config.MethodTunnel: "-i", config.MethodDR: "-g",
	}
)

// serviceOption returns the option that names a service.
func (p printer) serviceOption(k *config.ServiceKey) string {
	if k.FWMark != 0 {
		option := "-f " + strconv.FormatUint(uint64(k.FWMark), 10)
		if k.IPv6 {
			option += " -6"
		}
		return option
	}
	return serviceOptions[k.Proto] + " " + endpointName(k.Addr, k.Port, k.Proto, p.names)
}

func (p printer) saveService(service string, s *config.Service) {
	fmt.Fprintf(p, "-A %s -s %s", service, s.Scheduler)
	if s.Persist != 0 {
		fmt.Fprintf(p, " -p %d", uint32(s.Persist))
	}
	if mask := s.Netmask.String(); mask != "" && (s.Persist != 0 || p.whole) {
		fmt.Fprintf(p, " -M %s", mask)
	}
	if s.PE != "" {
		fmt.Fprintf(p, " --pe %s", s.PE)
	}
	if s.OPS {
		p.WriteString(" -o")
	}
	if flags := flagNames(s); flags != "" {
		fmt.Fprintf(p, " -b %s", flags)
	}
	p.WriteByte('\n')
}

func (p printer) saveServer(service, server string, s *config.Server) {
	fmt.Fprintf(p, "-a %s -r %s %s -w %d", service, server, methodOptions[s.Method], s.Weight)
	if s.Upper != 0 {
		fmt.Fprintf(p, " -x %d", s.Upper)
	}
	if s.Lower != 0 {
		fmt.Fprintf(p, " -y %d", s.Lower)
	}
	if s.Method == config.MethodTunnel {
		p.saveTunnel(&s.Tunnel)
	}
	p.WriteByte('\n')
}

func (p printer) saveTunnel(t *config.Tunnel) {
	fmt.Fprintf(p, " --tun-type %s", t.Type)
	e := t.Type.Encapsulation()
	if e.Port != 0 {
		fmt.Fprintf(p, " --tun-port %d", t.Port)
	}
	if e.MaxFlags > 0 {
		fmt.Fprintf(p, " --%s", tunnelCsums[min(uint16(t.Checksum), e.MaxFlags)].option)
	}
}
