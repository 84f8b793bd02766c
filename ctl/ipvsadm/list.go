package ipvsadm

import (
	"fmt"
	"net/netip"

	"uvs/ctl/api"
)

// kernelVersion is the version of IPVS in listings, which Linux has had since 2.6.
const kernelVersion = "1.2.1"

// list does -L. Every error has the exit code of a missing service.
func (t *tool) list(r *request) (err error) {
	switch {
	case r.given.has(optConnection):
		err = t.listConns(r)
	case r.given.has(optTimeout):
		err = t.listTimeouts()
	case r.given.has(optDaemon): // the director has none: print nothing
	default:
		err = t.listServices(r)
	}
	if err != nil {
		return &refusal{refusalText(getService, err), exitMissing, true}
	}
	return nil
}

func (t *tool) listTimeouts() error {
	s, err := t.director.Timeouts()
	if err == nil {
		fmt.Fprintf(t.out, "Timeout (tcp tcpfin udp): %d %d %d\n", s.TCP, s.TCPFin, s.UDP)
	}
	return err
}

// listConns prints conns in the order of the director.
func (t *tool) listConns(r *request) error {
	const line = "%-3s %-6s %-11s %-18s %-18s %s"
	names := t.listNames(r)
	engines := r.given.has(optPersistentConn)
	title := fmt.Sprintf(line, "pro", "expire", "state", "source", "virtual", "destination")
	if engines {
		title = fmt.Sprintf("%s        %-16s %s", title, "pe name", "pe_data")
	}
	fmt.Fprintf(t.out, "IPVS connection entries\n%s\n", title)
	return t.director.Conns(func(c api.ConnStatus) error {
		name := func(e netip.AddrPort) string { return endpointName(e.Addr(), e.Port(), c.Proto, names) }
		server := name(c.Server)
		if engines && c.PEName != "" {
			server = fmt.Sprintf("%-16s %-18s %s", server, c.PEName, c.PEData)
		}
		expire := fmt.Sprintf("%02d:%02d", c.Expires/60, c.Expires%60)
		_, err := fmt.Fprintf(t.out, line+"\n",
			c.Proto, expire, c.State, name(c.Client), name(c.Virtual), server)
		return err
	})
}

// listServices prints one service, or a line about the director and all services.
func (t *tool) listServices(r *request) error {
	services, err := t.services(r)
	if err != nil {
		return err
	}
	if !r.given.has(optService) {
		info, err := t.director.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "IP Virtual Server version %s (size=%d)\n", kernelVersion, info.ConnSize)
	}
	p := printer{Writer: t.out, names: t.listNames(r), exact: r.given.has(optExact)}
	layout := layoutFor(r.given)
	fmt.Fprintln(p, layout.title)
	var server api.ServerStatus
	for i := range services {
		layout.service(p, &services[i])
		for _, server = range services[i].ServerStatuses {
			fmt.Fprintf(p, "  -> %-28s", p.serverName(&services[i].ServiceKey, &server.ServerKey))
			server.Weight = server.EffectiveWeight()
			layout.server(p, &server)
		}
	}
	return nil
}

// services returns the services that a command lists: one or all, and sorted unless it says
// otherwise.
func (t *tool) services(r *request) (services []api.ServiceStatus, err error) {
	if r.given.has(optService) {
		services = make([]api.ServiceStatus, 1)
		services[0], err = t.director.Service(r.service.ServiceKey)
	} else {
		brief := !r.given.has(optStats) && !r.given.has(optRate)
		services, err = t.director.ServicesOf(api.ServiceFilter{Brief: brief})
	}
	if err != nil || r.given.has(optNoSort) {
		return services, err
	}
	services = mergeSort(services, compareServices)
	for i := range services {
		services[i].ServerStatuses = mergeSort(services[i].ServerStatuses, compareServers)
	}
	return services, nil
}

// listNames returns the names for a listing: none with -n.
func (t *tool) listNames(r *request) names {
	if r.given.has(optNumeric) {
		return numericNames{}
	}
	return t.names
}
