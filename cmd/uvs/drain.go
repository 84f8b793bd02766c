package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// eventsMain prints the director's events, one JSON line each.
func eventsMain(args []string) int {
	fs := newFlags("events")
	if code, ok := parse(fs, args); !ok {
		return code
	}
	c, err := dial()
	if err != nil {
		return failed(err)
	}
	enc := json.NewEncoder(os.Stdout)
	return failed(c.Events(func(ev api.Event) error { return enc.Encode(ev) }))
}

// drain drains a server: it sets its weight to 0 in its services, then waits
// until its connections have ended.
type drain struct {
	client   *api.Client
	filter   api.ConnFilter // the server, and the service if it is only one
	deadline time.Duration  // 0: none
	reset    bool           // at the deadline, end the remaining connections
}

// drainMain: uvs drain [--service S] [--deadline D] [--reset] SERVER.
func drainMain(args []string) int {
	fs := newFlags("drain")
	service := fs.String("service", "", "in this service only, e.g. tcp:192.0.2.1:80")
	d := drain{}
	fs.DurationVar(&d.deadline, "deadline", 0,
		"wait no longer than this, e.g. 10m (0: until the last connection ended)")
	fs.BoolVar(&d.reset, "reset", false, "end the remaining connections at the deadline; their clients are reset")
	rest, code, ok := parseRest(fs, args)
	if !ok {
		return code
	}
	var err error
	if d.filter, err = serverFilter(*service, rest...); err != nil {
		return misused(fs, err)
	}
	if d.reset && d.deadline == 0 {
		return misused(fs, fmt.Errorf("--reset needs a --deadline"))
	}
	if d.client, err = dial(); err != nil {
		return failed(err)
	}
	return result(d.run())
}

// serverFilter selects the conns of a server, of one service unless that is
// empty.
func serverFilter(service string, servers ...string) (api.ConnFilter, error) {
	if len(servers) != 1 {
		return api.ConnFilter{}, fmt.Errorf("name one server, e.g. 10.0.0.11 or 10.0.0.11:8080")
	}
	q := map[string][]string{"server": servers}
	if service != "" {
		q["service"] = []string{service}
	}
	return api.ParseConnFilter(q)
}

func (d *drain) run() error {
	if err := editServers(d.client, d.filter, config.EditServer, func(s *config.Server) { s.Weight = 0 },
		"%s of %s has weight 0: it gets no new connections\n"); err != nil {
		return err
	}
	for began := time.Now(); ; time.Sleep(time.Second) {
		conns, clients, err := d.countConns()
		if err != nil || conns == 0 {
			return err
		}
		waited := time.Since(began)
		if d.deadline > 0 && waited >= d.deadline {
			return d.reachDeadline(conns)
		}
		fmt.Printf("%s  %d connections of %d clients left\n", waited.Round(time.Second), conns, clients)
	}
}

// editServers changes the server of a filter in the service, or in all that
// have it, up to api.MaxOps of them at once. It prints a line for each, and
// fails if none has it.
func editServers(c *api.Client, f api.ConnFilter, verb config.Verb, edit func(*config.Server), line string) error {
	services, err := c.Services()
	if err != nil {
		return err
	}
	var ops []config.Op
	for i := range services {
		for _, r := range services[i].Reals {
			if (f.Service == nil || services[i].ServiceKey == *f.Service) &&
				r.Addr == f.Server.Addr() && (f.Server.Port() == 0 || r.Port == f.Server.Port()) {
				edit(&r.Server)
				ops = append(ops, config.Op{Verb: verb, Service: &services[i].Service, Server: &r.Server})
			}
		}
	}
	if len(ops) == 0 {
		return fmt.Errorf("no service has the server %s; `uvs services` lists them",
			strings.TrimSuffix(f.Server.String(), ":0"))
	}
	for some := range slices.Chunk(ops, api.MaxOps) {
		for i, err := range c.ApplyAll(some) {
			if err != nil {
				return err
			}
			fmt.Printf(line, some[i].Server.ServerKey, some[i].Service.ServiceKey)
		}
	}
	return nil
}

// countConns counts the connections of the server and their clients.
func (d *drain) countConns() (conns, clients int, err error) {
	seen := map[netip.Addr]bool{}
	err = d.client.ConnsOf(d.filter, func(c api.ConnStatus) error {
		conns++
		seen[c.Client.Addr()] = true
		return nil
	})
	return conns, len(seen), err
}

// reachDeadline ends the remaining connections, or returns an error if that is
// not wanted.
func (d *drain) reachDeadline(conns int) error {
	if !d.reset {
		return fmt.Errorf("%d connections are left after %v; they go on, the server keeps weight 0", conns, d.deadline)
	}
	n, err := d.client.Flush(d.filter)
	if err == nil {
		fmt.Printf("%s  %d connections ended\n", d.deadline, n)
	}
	return err
}
