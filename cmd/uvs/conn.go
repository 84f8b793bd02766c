package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"uvs/ctl/api"
	"uvs/ctl/ipvsadm"
)

func connNoun() *cobra.Command {
	return noun("conn", "list, count and end connections", connList(), connCount(), connFlush())
}

// filterOptions adds the options that select conns. The function that it returns
// makes their filter.
func filterOptions(cmd *cobra.Command) func() (api.ConnFilter, error) {
	fs := cmd.Flags()
	values := map[string]*string{
		"service": fs.String("service", "", "of this `SERVICE`, e.g. tcp:192.0.2.1:80"),
		"server":  fs.String("server", "", "at this `SERVER`, e.g. 10.0.0.11 or 10.0.0.11:8080"),
		"client":  fs.String("client", "", "of this `CLIENT` or network, e.g. 198.51.100.7 or 198.51.100.0/24"),
		"state":   fs.String("state", "", "in this `STATE`, e.g. ESTABLISHED"),
	}
	return func() (api.ConnFilter, error) {
		q := url.Values{}
		for name, v := range values {
			if *v != "" {
				q.Set(name, *v)
			}
		}
		if key, err := parseService(q.Get("service")); err == nil {
			q.Set("service", key.Text())
		}
		f, err := api.ParseConnFilter(q)
		if err != nil {
			err = usageError{err}
		}
		return f, err
	}
}

func connList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "list connections, selected by service, server, client and state",
		Example: "uvs conn list --service tcp:192.0.2.10:80 --state ESTABLISHED\n" +
			"uvs conn list --client 198.51.100.0/24 -o json",
	}
	filter := filterOptions(cmd)
	return listing{
		columns: "PROTOCOL EXPIRES STATE CLIENT VIRTUAL SERVER +AGE +LIVE +PE-NAME +PE-DATA",
		list: func(_ []string, add addRow) error {
			f, err := filter()
			if err != nil {
				return err
			}
			c, err := dial()
			if err != nil {
				return err
			}
			return c.ConnsOf(f, func(s api.ConnStatus) error {
				return add(s, s.Proto.Word(), s.Expires, s.State, s.Client, s.Virtual, s.Server, s.Age, s.Live,
					s.PEName, s.PEData)
			})
		},
	}.of(cmd)
}

func connCount() *cobra.Command {
	cmd := &cobra.Command{
		Use: "count", Short: "count connections, selected by service, server, client and state",
		Example: "uvs conn count --server 10.0.0.11",
	}
	filter := filterOptions(cmd)
	return listing{
		columns: "NAME VALUE", headless: true, single: true,
		list: func(_ []string, add addRow) error {
			f, err := filter()
			if err != nil {
				return err
			}
			n, err := query(func(c *api.Client) (api.ConnCount, error) { return c.CountConns(f) })
			if err != nil {
				return err
			}
			add(n, "live", n.Live)
			add(nil, "closing", n.Closing)
			add(nil, "templates", n.Templates)
			add(nil, "clients", n.Clients)
			return add(nil, "oldest", fmt.Sprintf("%ds", n.Oldest))
		},
	}.of(cmd)
}

// filteredClient is a client whose Conns lists the selected conns only.
type filteredClient struct {
	*api.Client
	filter api.ConnFilter
}

func (f filteredClient) Conns(visit func(api.ConnStatus) error) error {
	return f.ConnsOf(f.filter, visit)
}

// connsVerb lists conns as `ipvsadm -Lnc` does.
func connsVerb() *cobra.Command {
	cmd := &cobra.Command{Use: "conns", Short: "list connections as ipvsadm -Lnc does"}
	filter := filterOptions(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		f, err := filter()
		if err != nil {
			return err
		}
		c, err := dial()
		if err != nil {
			return err
		}
		return exited(ipvsadm.Main([]string{"-L", "-n", "-c"}, stdio(), func() (ipvsadm.Director, error) {
			return filteredClient{c, f}, nil
		}))
	}
	return cmd
}

func connFlush() *cobra.Command {
	cmd := &cobra.Command{
		Use: "flush", Short: "end connections, selected the same way",
		Example: "uvs conn flush --server 10.0.0.11 --state ESTABLISHED\nuvs conn flush --all",
	}
	filter := filterOptions(cmd)
	all := cmd.Flags().Bool("all", false, "all connections")
	cmd.RunE = func(*cobra.Command, []string) error {
		f, err := filter()
		switch {
		case err != nil:
			return err
		case *all == (f != api.ConnFilter{}):
			return misused("select connections by --service, --server, --client or --state, or give --all")
		}
		n, err := query(func(c *api.Client) (int, error) { return c.Flush(f) })
		if err == nil {
			fmt.Printf("%d connections ended\n", n)
		}
		return err
	}
	return cmd
}
