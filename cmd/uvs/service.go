package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

func serviceNoun() *cobra.Command {
	return noun("service", "add, change, remove and list virtual services",
		serviceAdd(), serviceEdit(), serviceDelete(), serviceList(), serviceShow())
}

func serviceAdd() *cobra.Command {
	given := members{}
	cmd := &cobra.Command{
		Use: "add SERVICE", Short: "add a virtual service",
		Example: "uvs service add tcp:192.0.2.20:80 --scheduler wlc\n" +
			"uvs service add 192.0.2.20:https --protocol tcp --persistent 300s\n" +
			"uvs service add fwm:7 --scheduler rr",
	}
	proto := cmd.Flags().String("protocol", "tcp", "`PROTOCOL` of a SERVICE that is ADDRESS:PORT: tcp, udp or sctp")
	given.options(cmd, serviceFields)
	return newChange(cmd, (*api.Client).Apply, func(words []string) (op config.Op, err error) {
		if err := countWords(cmd, words); err != nil {
			return op, err
		}
		key, err := parseService(words[0])
		if err != nil {
			named, other := parseService(*proto + ":" + words[0])
			if other != nil {
				return op, err
			}
			key = named
		}
		op = config.Op{Kind: config.AddService, Service: new(config.Service)}
		return op, given.over(config.Service{ServiceKey: key, Scheduler: "wlc"}, op.Service)
	}).Command
}

func serviceEdit() *cobra.Command {
	given := members{}
	cmd := &cobra.Command{
		Use: "edit SERVICE", Short: "change a virtual service: what is given; the rest stays",
		Example: "uvs service edit tcp:192.0.2.10:80 --scheduler sh --scheduler-flags port,fallback\n" +
			"uvs service edit tcp:192.0.2.10:80 --persistent 0s",
	}
	given.options(cmd, serviceFields)
	cmd.RunE = func(_ *cobra.Command, words []string) error {
		c, s, err := findService(words[0])
		if err != nil {
			return err
		}
		op := config.Op{Kind: config.EditService, Service: new(config.Service)}
		if err := given.over(s.Service, op.Service); err != nil {
			return usageError{err}
		}
		return c.Apply(op)
	}
	return cmd
}

// findService returns a service that a command names.
func findService(name string) (c *api.Client, s api.ServiceStatus, err error) {
	key, err := parseService(name)
	if err != nil {
		return nil, s, usageError{err}
	}
	if c, err = dial(); err == nil {
		s, err = c.Service(key)
	}
	return c, s, err
}

func serviceDelete() *cobra.Command {
	return newChange(&cobra.Command{
		Use: "delete SERVICE", Short: "remove a virtual service with its servers",
		Example: "uvs service delete tcp:192.0.2.10:80",
	}, (*api.Client).Apply, func(words []string) (op config.Op, err error) {
		if len(words) != 1 {
			return op, fmt.Errorf("name one service, e.g. tcp:192.0.2.10:80")
		}
		key, err := parseService(words[0])
		return config.Op{Kind: config.DeleteService, Service: &config.Service{ServiceKey: key}}, err
	}).Command
}

func serviceList() *cobra.Command {
	return listing{
		columns: "SERVICE SCHEDULER PERSISTENT SERVERS ACTIVE INACTIVE " +
			"+CONNECTIONS +IN-PACKETS +OUT-PACKETS +IN-BYTES +OUT-BYTES +OPTIONS",
		list: func(words []string, add addRow) error {
			return eachService(words, func(s *api.ServiceStatus) error {
				active, inactive := 0, 0
				for _, v := range servers(s) {
					active, inactive = active+int(v.Active), inactive+int(v.Inactive)
				}
				persistent := ""
				if s.Persist != 0 {
					persistent = s.Persist.String()
				}
				return add(s, s.Text(), s.Scheduler, persistent, len(s.ServerStatuses), active, inactive,
					s.Stats.Conns, s.Stats.InPkts, s.Stats.OutPkts, s.Stats.InBytes, s.Stats.OutBytes,
					serviceWords(&s.Service))
			})
		},
	}.of(&cobra.Command{
		Use: "list", Short: "list virtual services", Example: "uvs service list\nuvs service list -o yaml",
	})
}

// serviceWords returns the options of a service beside scheduler and persistence.
func serviceWords(s *config.Service) string {
	var words []string
	if s.SchedFlags != 0 {
		flags, _ := s.SchedFlags.MarshalJSON()
		words = append(words, strings.NewReplacer(`"`, "", "[", "", "]", "").Replace(string(flags)))
	}
	if mask := s.Netmask.String(); mask != "" {
		words = append(words, "netmask="+mask)
	}
	if s.PE != "" {
		words = append(words, "persistence-engine="+s.PE)
	}
	if s.OPS {
		words = append(words, "one-packet")
	}
	return strings.Join(words, ",")
}

func serviceShow() *cobra.Command {
	return listing{
		columns: "NAME VALUE", headless: true, single: true,
		list: func(words []string, add addRow) error {
			_, s, err := findService(words[0])
			if err != nil {
				return err
			}
			add(s, "service", s.Text())
			add(nil, "scheduler", s.Scheduler)
			if s.Persist > 0 {
				add(nil, "persistent", s.Persist)
			}
			if words := serviceWords(&s.Service); words != "" {
				add(nil, "options", words)
			}
			add(nil, "connections", fmt.Sprintf("%d, %d/s", s.Stats.Conns, s.Stats.CPS))
			add(nil, "in", fmt.Sprintf("%d packets, %d bytes", s.Stats.InPkts, s.Stats.InBytes))
			add(nil, "out", fmt.Sprintf("%d packets, %d bytes", s.Stats.OutPkts, s.Stats.OutBytes))
			for _, v := range servers(&s) {
				add(nil, "server", fmt.Sprintf("%s %s weight %d active %d inactive %d: %s, %s", v.ServerKey, v.Method,
					v.Weight, v.Active, v.Inactive, v.State, v.NextHop))
			}
			return nil
		},
	}.of(&cobra.Command{
		Use: "show SERVICE", Short: "print everything about a virtual service",
		Example: "uvs service show tcp:192.0.2.10:80\nuvs service show tcp:192.0.2.10:http -o json",
	})
}
