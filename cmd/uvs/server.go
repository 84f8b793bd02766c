package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"syscall"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// newAdminLine makes the command down, drain or up [--service S] SERVER. It sets the admin
// state of a server, in one service or in all that have it now or later.
func newAdminLine(admin config.Admin) commandLine {
	fs := newFlags(admin.String())
	service := fs.String("service", "", "in this service only, e.g. tcp:192.0.2.1:80")
	return commandLine{fs, func(words []string) (op config.Op, err error) {
		if len(words) != 1 {
			return op, fmt.Errorf("name one server, e.g. 10.0.0.11 or 10.0.0.11:8080")
		}
		filter, err := api.ParseConnFilter(map[string][]string{"server": words})
		if err != nil {
			return op, err
		}
		rule := &config.AdminRule{Admin: admin}
		rule.Addr, rule.Port = filter.Server.Addr(), filter.Server.Port()
		if *service != "" {
			rule.Service, err = config.ParseServiceKey(*service)
		}
		return config.Op{Kind: config.SetAdmin, Admin: rule}, err
	}}
}

// connsAt selects the conns at the servers of a scope.
func connsAt(a config.AdminScope) api.ConnFilter {
	f := api.ConnFilter{Server: netip.AddrPortFrom(a.Addr, a.Port)}
	if a.Service != (config.ServiceKey{}) {
		f.Service = &a.Service
	}
	return f
}

// upMain takes back what downMain and drainMain did: uvs up [--service S] SERVER.
func upMain(args []string) int { return newAdminLine(config.AdminUp).runWith(args, setAdmin) }

// downMain takes a server down: uvs down [--service S] [--reset] SERVER, uvs down --list.
func downMain(args []string) int {
	line := newAdminLine(config.AdminDown)
	reset := line.flags.Bool("reset", false, "end the server's connections; their clients are reset")
	list := line.flags.Bool("list", false, "list the servers that are down or drained, in a service or not")
	parse := line.op
	line.op = func(words []string) (config.Op, error) {
		switch {
		case *list && (*reset || len(words) > 0):
			return config.Op{}, fmt.Errorf("--list goes without a server and --reset")
		case *list:
			return config.Op{}, nil
		}
		return parse(words)
	}
	return line.runWith(args, func(c *api.Client, op config.Op) error {
		if op.Admin == nil {
			return writeAdmin(os.Stdout, c)
		}
		if err := setAdmin(c, op); err != nil || !*reset {
			return err
		}
		n, err := c.Flush(connsAt(op.Admin.AdminScope))
		if err == nil {
			fmt.Printf("%d connections ended\n", n)
		}
		return err
	})
}

// writeAdmin writes the commands that set the admin states, one per line.
func writeAdmin(w io.Writer, c *api.Client) error {
	rules, err := c.AdminRules()
	for _, r := range rules {
		fmt.Fprintln(w, r.Admin, r.AdminScope)
	}
	return err
}

// adminTexts describe a server in an admin state.
var adminTexts = []string{
	config.AdminUp: "is up", config.AdminDrain: "has weight 0: it gets no new connections",
	config.AdminDown: "is down: it gets no new connections",
}

// setAdmin sets the admin state of a scope. It prints a line for each server in it.
func setAdmin(c *api.Client, op config.Op) error {
	if err := c.Apply(op); err != nil {
		return err
	}
	found := false
	err := eachServer(c, op.Admin.AdminScope, func(s *api.ServiceStatus, v *config.Server, _ bool) {
		fmt.Println(v.ServerKey, "of", s.ServiceKey, adminTexts[v.Admin])
		found = true
	})
	if err == nil && !found && op.Admin.Admin != config.AdminUp {
		fmt.Fprintf(os.Stderr, "no service has %s now; in those that it joins it %s\n",
			op.Admin.AdminScope, adminTexts[op.Admin.Admin])
	}
	return err
}

// eachServer calls visit for the servers of a scope, sorry servers included.
func eachServer(
	c *api.Client, scope config.AdminScope, visit func(s *api.ServiceStatus, v *config.Server, sorry bool),
) error {
	services, err := servicesOf(c, scope)
	if err != nil {
		return err
	}
	for i := range services {
		s := &services[i]
		for j, v := range servers(s) {
			if scope.Contains(config.AdminScope{Service: s.ServiceKey, Addr: v.Addr, Port: v.Port}) {
				visit(s, &v.Server, j == len(s.ServerStatuses))
			}
		}
	}
	return nil
}

// servicesOf returns the services that a scope may concern.
func servicesOf(c *api.Client, scope config.AdminScope) ([]api.ServiceStatus, error) {
	if scope.Service == (config.ServiceKey{}) {
		return c.Services()
	}
	service, err := c.Service(scope.Service)
	if errors.Is(err, syscall.ESRCH) { // it may be added later
		return nil, nil
	}
	return []api.ServiceStatus{service}, err
}
