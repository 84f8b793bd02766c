package main

import (
	"flag"
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
	fs := newFlags("services")
	asJSON := fs.Bool("json", false, "print JSON")
	if code, ok := parse(fs, args); !ok {
		return code
	}
	list, ok := query((*api.Client).Services)
	if !ok {
		return 1
	}
	if *asJSON {
		return printJSON(list)
	}
	return result(printServices(os.Stdout, list))
}

// printServices prints a line for every server, which also names its service,
// for scripts: service, scheduler, server, method, weight, active and inactive
// connections, templates, state, next hop. A service without servers has one
// line, too.
func printServices(out io.Writer, list []api.ServiceStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i := range list {
		svc := &list[i]
		reals := svc.Reals
		if svc.Sorry != nil {
			reals = append(reals, *svc.Sorry)
		}
		for _, v := range reals {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", svc.Text(), svc.Scheduler,
				v.ServerKey, v.Method, v.Weight, v.Active, v.Inactive, v.Persist, v.State, v.NextHop)
		}
		if len(reals) == 0 {
			fmt.Fprintf(w, "%s\t%s\t-\t-\t0\t0\t0\t0\tempty\t-\n", svc.Text(), svc.Scheduler)
		}
	}
	return w.Flush()
}

// sorryMain sets or clears the sorry server of a service:
// uvs sorry --service S ADDR[:PORT] [-g|-m|-i [TUNNEL OPTIONS]], uvs sorry --service S --clear.
func sorryMain(args []string) int {
	line := newSorryLine()
	words, code, ok := parseMixed(line.flags, args)
	if !ok {
		return code
	}
	op, err := line.op(words)
	if err != nil {
		return misused(line.flags, err)
	}
	return applyOp(op)
}

// sorryLine is the command line of `uvs sorry`.
type sorryLine struct {
	flags              *flag.FlagSet
	service            string
	clear              bool
	route, tunnel, nat bool
	tunType            string
	tunPort            uint
	tunCsum            bool
}

func newSorryLine() *sorryLine {
	l := &sorryLine{flags: newFlags("sorry")}
	join := func(holds func(tunnel.Encapsulation) bool) string { return strings.Join(tunnel.Names(holds), ", ") }
	l.flags.StringVar(&l.service, "service", "", "of this service, e.g. tcp:192.0.2.1:80")
	l.flags.BoolVar(&l.clear, "clear", false, "take the sorry server away")
	l.flags.BoolVar(&l.route, "g", false, "reach it by direct routing (default)")
	l.flags.BoolVar(&l.tunnel, "i", false, "reach it by a tunnel")
	l.flags.BoolVar(&l.nat, "m", false, "reach it by NAT")
	l.flags.StringVar(&l.tunType, "tun-type", tunnel.IPIP.String(), "`type` of the tunnel: "+tunnel.OneOf())
	l.flags.UintVar(&l.tunPort, "tun-port", 0, join(tunnel.HasPort)+": destination `port`")
	l.flags.BoolVar(&l.tunCsum, "tun-csum", false, join(tunnel.HasFlag(tunnel.Csum))+": with a checksum")
	return l
}

// op returns the operation of the line.
func (l *sorryLine) op(words []string) (op config.Op, err error) {
	if l.service == "" {
		return op, fmt.Errorf("name a service with --service, e.g. tcp:192.0.2.1:80")
	}
	key, err := config.ParseServiceKey(l.service)
	if err != nil {
		return op, err
	}
	op = config.Op{Verb: config.SetSorry, Service: &config.Service{ServiceKey: key}}
	switch {
	case l.clear && len(words) == 0:
		return op, nil
	case l.clear || len(words) != 1:
		return op, fmt.Errorf("name one server, e.g. 10.0.0.9 or 10.0.0.9:8080, or --clear")
	}
	filter, err := api.ParseConnFilter(map[string][]string{"server": words})
	if err != nil {
		return op, err
	}
	op.Server = &config.Server{ServerKey: config.ServerKey{Addr: filter.Server.Addr(), Port: filter.Server.Port()}}
	if op.Server.Port == 0 {
		op.Server.Port = key.Port
	}
	if op.Server.Method, err = l.method(); err != nil {
		return op, err
	}
	return op, l.tunnelOptions(&op.Server.Tunnel)
}

// tunnelOptions parses the tunnel's options. The director checks which go
// together.
func (l *sorryLine) tunnelOptions(t *config.Tunnel) (err error) {
	if l.tunPort > 65535 {
		return fmt.Errorf("tun-port is %d; want 1 to 65535", l.tunPort)
	}
	t.Port = uint16(l.tunPort)
	if l.tunCsum {
		t.Flags = tunnel.Csum
	}
	t.Type, err = tunnel.ParseType(l.tunType)
	return err
}

func (l *sorryLine) method() (config.Method, error) {
	switch {
	case !l.tunnel && !l.nat:
		return config.MethodRoute, nil
	case l.tunnel && !l.nat && !l.route:
		return config.MethodTunnel, nil
	case l.nat && !l.tunnel && !l.route:
		return config.MethodMasq, nil
	}
	return 0, fmt.Errorf("-g, -i and -m exclude each other")
}

// parseMixed is parseRest for verbs whose arguments may come before options.
func parseMixed(fs *flag.FlagSet, args []string) (words []string, code int, ok bool) {
	for {
		rest, code, ok := parseRest(fs, args)
		if !ok || len(rest) == 0 {
			return words, code, ok
		}
		words, args = append(words, rest[0]), rest[1:]
	}
}
