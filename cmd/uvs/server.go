package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

func serverNoun() *cobra.Command {
	return noun("server", "add, change, remove, list and take out the servers of services",
		serverAdd(), serverEdit(), serverDelete(), serverList(), serverDrain(), serverDown(), serverUp())
}

func serverAdd() *cobra.Command {
	given := members{}
	cmd := &cobra.Command{
		Use: "add SERVICE SERVER", Short: "add a server to a service",
		Long: "SERVER is ADDRESS or ADDRESS:PORT; without a port it has the service's.\n" +
			"Its method is nat and its weight 1 unless others are given, as in files.",
		Example: "uvs server add tcp:192.0.2.10:80 10.0.0.13:8080 --method nat --weight 3\n" +
			"uvs server add udp:192.0.2.10:53 10.0.0.13 --method tunnel --tunnel-type gue --tunnel-port 6080",
	}
	given.options(cmd, serverFields, tunnelFields)
	return newChange(cmd, (*api.Client).Apply, func(words []string) (op config.Op, err error) {
		key, server, err := serverWords(cmd, words)
		if err != nil {
			return op, err
		}
		op = config.Op{
			Kind: config.AddServer, Service: &config.Service{ServiceKey: key}, Server: new(config.Server),
		}
		return op, given.over(config.Server{ServerKey: server, Weight: 1}, op.Server)
	}).Command
}

// serverWords parses SERVICE SERVER.
func serverWords(cmd *cobra.Command, words []string) (s config.ServiceKey, v config.ServerKey, err error) {
	if err := countWords(cmd, words); err != nil {
		return s, v, err
	}
	if s, err = parseService(words[0]); err == nil {
		v, err = parseServer(words[1], s)
	}
	return s, v, err
}

// parseServer parses a server of a service: ADDRESS or ADDRESS:PORT.
func parseServer(text string, of config.ServiceKey) (config.ServerKey, error) {
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return config.ServerKey{Addr: addr.Unmap(), Port: of.Port}, nil
	}
	text = numberPort(text, cmp.Or(of.Proto.Word(), "tcp"))
	filter, err := api.ParseConnFilter(map[string][]string{"server": {text}})
	return config.ServerKey{Addr: filter.Server.Addr(), Port: filter.Server.Port()}, err
}

func serverEdit() *cobra.Command {
	given := members{}
	cmd := &cobra.Command{
		Use: "edit SERVICE SERVER", Short: "change a server of a service: what is given; the rest stays",
		Example: "uvs server edit tcp:192.0.2.10:80 10.0.0.11:8080 --weight 5",
	}
	given.options(cmd, serverFields, tunnelFields)
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		_, key, err := serverWords(cmd, words)
		if err != nil {
			return usageError{err}
		}
		c, s, err := findService(words[0])
		if err != nil {
			return err
		}
		for _, v := range s.ServerStatuses {
			if v.ServerKey != key {
				continue
			}
			op := config.Op{Kind: config.EditServer, Service: &s.Service, Server: new(config.Server)}
			if err := given.over(v.Server, op.Server); err != nil {
				return usageError{err}
			}
			if err := op.Server.CheckEdited(s.ServiceKey); err != nil {
				return err
			}
			return c.Apply(op)
		}
		return fmt.Errorf("service %s has no server %s", s.ServiceKey, key)
	}
	return cmd
}

func serverDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete SERVICE SERVER", Short: "remove a server from a service",
		Example: "uvs server delete tcp:192.0.2.10:80 10.0.0.11:8080",
	}
	return newChange(cmd, (*api.Client).Apply, func(words []string) (op config.Op, err error) {
		key, server, err := serverWords(cmd, words)
		return config.Op{
			Kind: config.DeleteServer, Service: &config.Service{ServiceKey: key},
			Server: &config.Server{ServerKey: server},
		}, err
	}).Command
}

// serverColumns are the cells of serverCells.
const serverColumns = "SERVICE SCHEDULER SERVER METHOD WEIGHT ACTIVE INACTIVE TEMPLATES STATE NEXT-HOP"

func serverCells(service string, s *api.ServiceStatus, v *api.ServerStatus) []any {
	return []any{
		service, s.Scheduler, v.ServerKey, v.Method, v.Weight, v.Active, v.Inactive, v.Persist, v.State, v.NextHop,
	}
}

// serverOf is a server with the name of its service.
type serverOf struct {
	Service string `json:"service"`
	api.ServerStatus
}

func serverList() *cobra.Command {
	return listing{
		columns: serverColumns,
		list: func(words []string, add addRow) error {
			return eachService(words, func(s *api.ServiceStatus) error {
				row := &serverOf{Service: s.Text()}
				for _, row.ServerStatus = range servers(s) {
					if err := add(row, serverCells(row.Service, s, &row.ServerStatus)...); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}.of(&cobra.Command{
		Use: "list [SERVICE]", Short: "list servers, of one service or all",
		Example: "uvs server list\nuvs server list tcp:192.0.2.10:80 -o json",
	})
}

// eachService calls visit for the service that a command names, or for all.
func eachService(words []string, visit func(*api.ServiceStatus) error) error {
	if len(words) > 0 {
		_, s, err := findService(words[0])
		if err != nil {
			return err
		}
		return visit(&s)
	}
	c, err := dial()
	if err != nil {
		return err
	}
	return c.EachService(api.ServiceFilter{}, visit)
}

// servicesVerb lists every server of every service. A service without servers has a row, too.
func servicesVerb() *cobra.Command {
	return listing{
		columns: serverColumns, headless: true,
		list: func(words []string, add addRow) error {
			return eachService(words, func(s *api.ServiceStatus) error { return addServers(s, add) })
		},
	}.of(&cobra.Command{Use: "services", Short: "list services, one line for every server"})
}

func addServers(s *api.ServiceStatus, add addRow) error {
	var value any = s
	name, list := s.Text(), servers(s)
	for i := range list {
		if err := add(value, serverCells(name, s, &list[i])...); err != nil {
			return err
		}
		value = nil
	}
	if value != nil {
		return add(value, name, s.Scheduler, "", "", 0, 0, 0, 0, "empty", "")
	}
	return nil
}

// servers returns the servers of a service, with the sorry server.
func servers(s *api.ServiceStatus) []api.ServerStatus {
	if s.Sorry == nil {
		return s.ServerStatuses
	}
	return append(s.ServerStatuses, *s.Sorry)
}
