package main

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// drain waits until the connections of a drained server have ended.
type drain struct {
	client   *api.Client
	scope    config.AdminScope
	deadline time.Duration // 0: none
	reset    bool          // at the deadline, end the remaining connections
	remove   bool          // when they have ended, delete the server from its services
}

func serverDrain() *cobra.Command {
	d := drain{}
	verb := newAdmin(config.AdminDrain, "give a server weight 0, and wait for its connections",
		"uvs server drain 10.0.0.12:8080\n"+
			"uvs server drain --service tcp:192.0.2.10:80 --deadline 10m --reset --remove 10.0.0.11:8080",
		func(c *api.Client, op config.Op) error {
			d.client, d.scope = c, op.Admin.AdminScope
			if err := setAdmin(c, op); err != nil {
				return err
			}
			if err := d.wait(); err != nil || !d.remove {
				return err
			}
			return d.removeServers()
		},
		func() error {
			if d.reset && d.deadline == 0 {
				return fmt.Errorf("--reset needs a --deadline")
			}
			return nil
		})
	verb.Flags().DurationVar(&d.deadline, "deadline", 0,
		"wait no longer than this `TIME`, e.g. 10m (0: until the last connection ended)")
	verb.Flags().BoolVar(&d.reset, "reset", false,
		"end the remaining connections at the deadline; their clients are reset")
	verb.Flags().BoolVar(&d.remove, "remove", false, "delete the server from its services when the drain has ended")
	return verb.Command
}

// wait waits until no connection can carry data any more. Once a second it prints how many
// there are, less often if the director takes long to count them.
func (d *drain) wait() error {
	for began := time.Now(); ; {
		if err := d.checkDrained(); err != nil {
			return err
		}
		asked := time.Now()
		n, err := d.client.CountConns(connsAt(d.scope))
		if err != nil {
			return err
		}
		waited := time.Since(began)
		if n.Live == 0 {
			fmt.Printf("%s  no live connection is left; %d are closing\n", waited.Round(time.Second), n.Closing)
			return nil
		}
		live := fmt.Sprintf("%d live connections of %d clients, the oldest for %s", n.Live, n.Clients,
			time.Duration(n.Oldest)*time.Second)
		if d.deadline > 0 && waited >= d.deadline {
			return d.reachDeadline(live)
		}
		fmt.Printf("%s  %s; %d closing, %d templates\n", waited.Round(time.Second), live, n.Closing, n.Templates)
		time.Sleep(max(time.Second, 20*time.Since(asked)))
	}
}

// checkDrained returns an error if the servers are no longer drained, because the wait would
// not end.
func (d *drain) checkDrained() error {
	rules, err := d.client.AdminRules()
	if err == nil && !slices.ContainsFunc(rules, func(r config.AdminRule) bool { return r.AdminScope == d.scope }) {
		err = fmt.Errorf("the drain was taken back by `uvs up`")
	}
	return err
}

// reachDeadline ends the remaining connections, or returns an error if that is not wanted.
func (d *drain) reachDeadline(live string) error {
	if !d.reset {
		return fmt.Errorf("%s are left after %v; they go on, `uvs up %s` ends the drain", live, d.deadline, d.scope)
	}
	n, err := d.client.Flush(connsAt(d.scope))
	if err == nil {
		fmt.Printf("%s  %d connections ended\n", d.deadline, n)
	}
	return err
}

// removeServers deletes the servers from their services, up to api.MaxOps of them at once.
func (d *drain) removeServers() error {
	var ops []config.Op
	var texts []string
	if err := eachServer(d.client, d.scope, func(s *api.ServiceStatus, v *config.Server, sorry bool) {
		op := config.Op{Kind: config.DeleteServer, Service: &s.Service, Server: v}
		if sorry {
			op = config.Op{Kind: config.SetSorry, Service: &s.Service}
		}
		ops, texts = append(ops, op), append(texts, fmt.Sprintf("%s removed from %s", v.ServerKey, s.ServiceKey))
	}); err != nil {
		return err
	}
	for some := range slices.Chunk(ops, api.MaxOps) {
		for i, err := range d.client.ApplyAll(some) {
			switch {
			case errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESRCH): // somebody else was first
			case err != nil:
				return err
			default:
				fmt.Println(texts[i])
			}
		}
		texts = texts[len(some):]
	}
	return nil
}
