package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
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
	c, err := api.Dial(api.SocketPath())
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
	service  *config.ServiceKey // nil: every service that has the server
	server   netip.AddrPort     // port 0: any
	deadline time.Duration      // 0: none
	reset    bool               // at the deadline, end the remaining connections
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
	if len(rest) != 1 {
		return misused(fs, fmt.Errorf("name one server, e.g. 10.0.0.11 or 10.0.0.11:8080"))
	}
	if d.reset && d.deadline == 0 {
		return misused(fs, fmt.Errorf("--reset needs a --deadline"))
	}
	filter, err := serverFilter(*service, rest[0])
	if err != nil {
		return misused(fs, err)
	}
	d.service, d.server = filter.Service, filter.Server
	if d.client, err = api.Dial(api.SocketPath()); err != nil {
		return failed(err)
	}
	return result(d.run())
}

// serverFilter selects the conns of a server, of one service unless that is
// empty.
func serverFilter(service, server string) (api.ConnFilter, error) {
	q := map[string][]string{"server": {server}}
	if service != "" {
		q["service"] = []string{service}
	}
	return api.ParseConnFilter(q)
}

func (d *drain) run() error {
	if err := d.quiesce(); err != nil {
		return err
	}
	filter := api.ConnFilter{Service: d.service, Server: d.server}
	for began := time.Now(); ; time.Sleep(time.Second) {
		conns, clients, err := d.countConns(filter)
		if err != nil || conns == 0 {
			return err
		}
		waited := time.Since(began)
		if d.deadline > 0 && waited >= d.deadline {
			return d.reachDeadline(filter, conns)
		}
		fmt.Printf("%s  %d connections of %d clients left\n", waited.Round(time.Second), conns, clients)
	}
}

// quiesce sets the server's weight to 0 in every service that has it.
func (d *drain) quiesce() error {
	list, err := findServers(d.client, d.service, d.server)
	for i := range list {
		list[i].server.Weight = 0
		if err := d.client.Apply(config.Op{
			Verb: config.EditServer, Service: &list[i].service,
			Server: &list[i].server,
		}); err != nil {
			return err
		}
		fmt.Printf("%s of %s has weight 0: it gets no new connections\n", list[i].server.ServerKey,
			list[i].service.ServiceKey)
	}
	return err
}

// serviceServer is a server with its service.
type serviceServer struct {
	service config.Service
	server  config.Server
}

// findServers finds a server in one service or, if that is nil, in all. It
// returns an error if no service has the server.
func findServers(c *api.Client, service *config.ServiceKey, server netip.AddrPort) (list []serviceServer, err error) {
	services, err := c.Services()
	if err != nil {
		return nil, err
	}
	for _, svc := range services {
		if service != nil && svc.ServiceKey != *service {
			continue
		}
		for _, r := range svc.Reals {
			if r.Addr == server.Addr() && (server.Port() == 0 || r.Port == server.Port()) {
				list = append(list, serviceServer{svc.Service, r.Server})
			}
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no service has the server %s; `uvs services` lists them",
			strings.TrimSuffix(server.String(), ":0"))
	}
	return list, nil
}

// countConns counts the connections of the server and their clients.
func (d *drain) countConns(f api.ConnFilter) (conns, clients int, err error) {
	seen := map[netip.Addr]bool{}
	err = d.client.ConnsOf(f, func(c api.ConnStatus) error {
		conns++
		seen[c.Client.Addr()] = true
		return nil
	})
	return conns, len(seen), err
}

// reachDeadline ends the remaining connections, or returns an error if that is
// not wanted.
func (d *drain) reachDeadline(f api.ConnFilter, conns int) error {
	if !d.reset {
		return fmt.Errorf("%d connections are left after %v; they go on, the server keeps weight 0", conns, d.deadline)
	}
	n, err := d.client.Flush(f)
	if err == nil {
		fmt.Printf("%s  %d connections ended\n", d.deadline, n)
	}
	return err
}
