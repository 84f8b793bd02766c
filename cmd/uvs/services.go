package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/fwd/tunnel"
)

// servicesMain lists every server of every service: uvs services [--json].
func servicesMain(args []string) int {
	return listMain("services", args, func(list []api.ServiceStatus) []api.ServiceStatus { return list }, printServices)
}

// listMain is a verb that prints convert(services), as JSON or with print.
func listMain[T any](
	name string, args []string, convert func([]api.ServiceStatus) T, print func(io.Writer, T) error,
) int {
	fs := newFlags(name)
	asJSON := fs.Bool("json", false, "print JSON")
	if code, ok := parse(fs, args); !ok {
		return code
	}
	list, ok := query((*api.Client).Services)
	switch {
	case !ok:
		return 1
	case *asJSON:
		return printJSON(convert(list))
	}
	return result(print(os.Stdout, convert(list)))
}

// servers returns the servers of a service, with the sorry server.
func servers(s *api.ServiceStatus) []api.ServerStatus {
	if s.Sorry == nil {
		return s.ServerStatuses
	}
	return append(s.ServerStatuses, *s.Sorry)
}

// printServices prints a line for every server, which also names its service,
// for scripts: service, scheduler, server, method, weight, active and inactive
// connections, templates, state, next hop. A service without servers has one
// line, too.
func printServices(out io.Writer, list []api.ServiceStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i := range list {
		svc := &list[i]
		for _, v := range servers(svc) {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", svc.Text(), svc.Scheduler,
				v.ServerKey, v.Method, v.Weight, v.Active, v.Inactive, v.Persist, v.State, v.NextHop)
		}
		if len(servers(svc)) == 0 {
			fmt.Fprintf(w, "%s\t%s\t-\t-\t0\t0\t0\t0\tempty\t-\n", svc.Text(), svc.Scheduler)
		}
	}
	return w.Flush()
}

// sorryMain sets or clears the sorry server of a service:
// uvs sorry --service S ADDR[:PORT] [-g|-m|-i [TUNNEL OPTIONS]], uvs sorry --service S --clear.
func sorryMain(args []string) int { return newSorryLine().run(args) }

func newSorryLine() commandLine {
	fs := newFlags("sorry")
	join := func(holds func(*tunnel.Encapsulation) bool) string { return strings.Join(tunnel.Names(holds), ", ") }
	service := fs.String("service", "", "of this service, e.g. tcp:192.0.2.1:80")
	clear := fs.Bool("clear", false, "take the sorry server away")
	direct := fs.Bool("g", false, "reach it by direct routing (default)")
	tunnelled := fs.Bool("i", false, "reach it by a tunnel")
	nat := fs.Bool("m", false, "reach it by NAT")
	tunType := fs.String("tun-type", tunnel.IPIP.String(), "`type` of the tunnel: "+tunnel.OneOf())
	tunPort := fs.Uint("tun-port", 0, join(tunnel.HasPort)+": destination `port`")
	tunCsum := fs.Bool("tun-csum", false, join(tunnel.HasFlag(tunnel.Csum))+": with a checksum")
	return commandLine{fs, func(words []string) (op config.Op, err error) {
		if *service == "" {
			return op, fmt.Errorf("name a service with --service, e.g. tcp:192.0.2.1:80")
		}
		key, err := config.ParseServiceKey(*service)
		if err != nil {
			return op, err
		}
		op = config.Op{Kind: config.SetSorry, Service: &config.Service{ServiceKey: key}}
		switch {
		case *clear && len(words) == 0:
			return op, nil
		case *clear || len(words) != 1:
			return op, fmt.Errorf("name one server, e.g. 10.0.0.9 or 10.0.0.9:8080, or --clear")
		}
		filter, err := api.ParseConnFilter(map[string][]string{"server": words})
		if err != nil {
			return op, err
		}
		server := &config.Server{
			ServerKey: config.ServerKey{Addr: filter.Server.Addr(), Port: cmp.Or(filter.Server.Port(), key.Port)},
			Tunnel:    config.Tunnel{Port: uint16(*tunPort)}, // the director checks which options go together
		}
		op.Server = server
		if server.Method, err = sorryMethod(*direct, *tunnelled, *nat); err != nil {
			return op, err
		}
		if *tunPort > 65535 {
			return op, fmt.Errorf("tun-port is %d; want 1 to 65535", *tunPort)
		}
		if *tunCsum {
			server.Tunnel.Checksum = tunnel.Csum
		}
		server.Tunnel.Type, err = tunnel.ParseType(*tunType)
		return op, err
	}}
}

func sorryMethod(direct, tunnelled, nat bool) (config.Method, error) {
	switch {
	case !tunnelled && !nat:
		return config.MethodDR, nil
	case tunnelled && !nat && !direct:
		return config.MethodTunnel, nil
	case nat && !tunnelled && !direct:
		return config.MethodNAT, nil
	}
	return 0, fmt.Errorf("-g, -i and -m exclude each other")
}
