package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// newAdmin makes the verb down, drain or up. It sets the admin state of a server, in one
// service or in all that have it now or later. check, unless nil, checks the options first.
func newAdmin(
	admin config.Admin, short, example string, do func(*api.Client, config.Op) error, check func() error,
) change {
	cmd := &cobra.Command{Use: admin.String() + " SERVER", Short: short, Example: example}
	service := cmd.Flags().String("service", "", "in this `SERVICE` only, e.g. tcp:192.0.2.1:80")
	return newChange(cmd, do, func(words []string) (op config.Op, err error) {
		if check != nil {
			if err := check(); err != nil {
				return op, err
			}
		}
		if len(words) != 1 {
			return op, fmt.Errorf("name one server, e.g. 10.0.0.11 or 10.0.0.11:8080")
		}
		server, err := parseServer(words[0], config.ServiceKey{})
		if err != nil {
			return op, err
		}
		rule := &config.AdminRule{Admin: admin}
		rule.Addr, rule.Port = server.Addr, server.Port
		if *service != "" {
			rule.Service, err = parseService(*service)
		}
		return config.Op{Kind: config.SetAdmin, Admin: rule}, err
	})
}

// connsAt selects the conns at the servers of a scope.
func connsAt(a config.AdminScope) api.ConnFilter {
	f := api.ConnFilter{Server: netip.AddrPortFrom(a.Addr, a.Port)}
	if a.Service != (config.ServiceKey{}) {
		f.Service = &a.Service
	}
	return f
}

func serverUp() *cobra.Command {
	return newAdmin(config.AdminUp, "give a server new connections again", "uvs server up 10.0.0.11", setAdmin,
		nil).Command
}

func serverDown() *cobra.Command {
	var reset, list bool
	down := newAdmin(config.AdminDown, "give a server no new connections until uvs server up",
		"uvs server down 10.0.0.11\nuvs server down --service tcp:192.0.2.10:80 --reset 10.0.0.11:8080\n"+
			"uvs server down --list",
		func(c *api.Client, op config.Op) error {
			if err := setAdmin(c, op); err != nil || !reset {
				return err
			}
			n, err := c.Flush(connsAt(op.Admin.AdminScope))
			if err == nil {
				fmt.Printf("%d connections ended\n", n)
			}
			return err
		}, nil)
	down.Flags().BoolVar(&reset, "reset", false, "end the server's connections; their clients are reset")
	down.Flags().BoolVar(&list, "list", false, "list the servers that are down or drained, in a service or not")
	run := down.RunE
	down.RunE = func(cmd *cobra.Command, words []string) error {
		switch {
		case !list:
			return run(cmd, words)
		case reset || len(words) > 0:
			return misused("--list goes without a server and --reset")
		}
		c, err := dial()
		if err != nil {
			return err
		}
		rules, err := c.AdminRules()
		writeAdmin(os.Stdout, rules)
		return err
	}
	return down.Command
}

// writeAdmin writes the commands that set the admin states, one per line.
func writeAdmin(w io.Writer, rules []config.AdminRule) {
	for _, r := range rules {
		fmt.Fprintln(w, r.Admin, r.AdminScope)
	}
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
