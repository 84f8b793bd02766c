package main

import (
	"flag"
	"fmt"
	"net/url"

	"uvs/ctl/api"
	"uvs/ctl/ipvsadm"
)

// filterFlags adds the options that select conns. The function that it returns
// makes their filter.
func filterFlags(fs *flag.FlagSet) func() (api.ConnFilter, error) {
	values := map[string]*string{
		"service": fs.String("service", "", "of this service, e.g. tcp:192.0.2.1:80"),
		"server":  fs.String("server", "", "at this server, e.g. 10.0.0.11 or 10.0.0.11:8080"),
		"client":  fs.String("client", "", "of this client or network, e.g. 198.51.100.7 or 198.51.100.0/24"),
		"state":   fs.String("state", "", "in this state, e.g. ESTABLISHED"),
	}
	return func() (api.ConnFilter, error) {
		q := url.Values{}
		for name, v := range values {
			if *v != "" {
				q.Set(name, *v)
			}
		}
		return api.ParseConnFilter(q)
	}
}

// filteredClient is a client whose Conns lists the selected conns only.
type filteredClient struct {
	*api.Client
	filter api.ConnFilter
}

func (f filteredClient) Conns(visit func(api.ConnStatus) error) error {
	return f.ConnsOf(f.filter, visit)
}

// connsMain lists conns as `ipvsadm -Lnc` does.
func connsMain(args []string) int {
	fs := newFlags("conns")
	filter := filterFlags(fs)
	if code, ok := parse(fs, args); !ok {
		return code
	}
	f, err := filter()
	if err != nil {
		return misused(fs, err)
	}
	return ipvsadm.Main([]string{"-L", "-n", "-c"}, stdio(), func() (ipvsadm.Director, error) {
		c, err := dial()
		return filteredClient{c, f}, err
	})
}

// flushMain ends conns.
func flushMain(args []string) int {
	fs := newFlags("flush")
	filter := filterFlags(fs)
	all := fs.Bool("all", false, "all connections")
	if code, ok := parse(fs, args); !ok {
		return code
	}
	f, err := filter()
	switch {
	case err != nil:
		return misused(fs, err)
	case *all == (f != api.ConnFilter{}):
		return misused(fs, fmt.Errorf("select connections by --service, --server, --client or --state, or give --all"))
	}
	n, ok := query(func(c *api.Client) (int, error) { return c.Flush(f) })
	if !ok {
		return 1
	}
	fmt.Printf("%d connections ended\n", n)
	return 0
}
