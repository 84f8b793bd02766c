package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"uvs/bench/lab"
	"uvs/bench/realserver"
	"uvs/fwd/tunnel"
)

func labNoun() *cobra.Command {
	return noun("lab", "build a whole LVS on this machine, in network namespaces",
		labUp(), labDown(), labList(), labExec(), labDemo(), labGrid())
}

// labUp makes a lab and leaves it running.
func labUp() *cobra.Command {
	var p lab.Plan
	var bare bool
	cmd := &cobra.Command{
		Use: "up [LAB]", Short: "build a lab, start servers and director, configure services",
		Example: "uvs lab up l1 --method dr --servers 2",
	}
	check := planOptions(cmd.Flags(), &p, &bare)
	cmd.RunE = func(_ *cobra.Command, words []string) error {
		p.Name = strings.Join(words, "")
		if err := check(); err != nil {
			return err
		}
		return startLab(p, bare)
	}
	return cmd
}

// planOptions adds the options of a lab. The function that it returns checks them.
func planOptions(fs *pflag.FlagSet, p *lab.Plan, bare *bool) func() error {
	method := fs.String("method", "nat", "forwarding `METHOD`: nat, dr or tunnel")
	family := fs.String("family", "both", "`FAMILIES` of the VIPs: 4, 6 or both")
	fs.IntVar(&p.TunnelOver, "tunnel-over", 0, "`FAMILY` of the outer header, 4 or 6 (default as the VIP)")
	fs.StringVar(&p.Encap, "encap", "", "`TYPE` of tunnel: "+tunnel.OneOf()+" (default ipip)")
	fs.StringVar(&p.Scheduler, "scheduler", "rr", "scheduler of the services")
	fs.IntVar(&p.Clients, "clients", 1, "`NUMBER` of clients")
	fs.IntVar(&p.Servers, "servers", 3, "`NUMBER` of servers")
	fs.IntVar(&p.Arms, "arms", 0, "the director's `NUMBER` of interfaces, 1 or 2 (default 2 for nat, else 1)")
	fs.IntVar(&p.MTU, "mtu", 1500, "of every link, `BYTES`")
	offloads := fs.String("offloads", "default", "checksum and segmentation offloads: default or off")
	fs.BoolVar(&p.LossFree, "loss-free", false,
		"links queue up to 100000 frames instead of dropping (Linux 6.16 and later)")
	fs.BoolVar(&p.VIPOnDirector, "vip-on-director", false, "configure the VIPs on the director's loopback device too")
	fs.BoolVar(&p.Forward, "forward", false, "let the director's kernel route (ip_forward=1)")
	fs.BoolVar(bare, "bare", false, "no director and no services: start and configure them yourself")
	return func() error {
		for name, n := range map[string]int{"clients": p.Clients, "servers": p.Servers, "mtu": p.MTU} {
			if n < 1 { // the plan's default is 0
				return misused("%s is %d; want 1 or more", name, n)
			}
		}
		p.Method = lab.Method(*method)
		families := map[string][]int{"4": {4}, "6": {6}, "both": {4, 6}}
		if p.Families = families[*family]; p.Families == nil {
			return misused("family is %q; want 4, 6 or both", *family)
		}
		if p.NoOffloads = *offloads == "off"; !p.NoOffloads && *offloads != "default" {
			return misused("offloads is %q; want default or off", *offloads)
		}
		return nil
	}
}

func startLab(p lab.Plan, bare bool) error {
	if err := lab.Privileged(); err != nil {
		return fmt.Errorf("lab up: cannot make network namespaces: %w; needs root, "+
			"or CAP_SYS_ADMIN and CAP_NET_ADMIN (`uvs lab demo` works without)", err)
	}
	ctx, cancel := signalContext()
	defer cancel()
	l, err := lab.New(p)
	if err != nil {
		return err
	}
	if err := labStart(ctx, l, bare); err != nil {
		return errors.Join(err, l.Close())
	}
	fmt.Printf("\nnodes    %s\n", strings.Join(l.Nodes(), " "))
	fmt.Printf("try      %s lab exec %s client1 -- curl http://%s/\n", os.Args[0], l.Name,
		netip.AddrPortFrom(l.VIP(p.Families[0]), realserver.HTTPPort))
	fmt.Printf("and      %s lab exec %s director -- uvs ipvsadm -L -n\n", os.Args[0], l.Name)
	fmt.Printf("remove   %s lab down %s\n", os.Args[0], l.Name)
	return nil
}

// labStart starts the programs of a lab.
func labStart(ctx context.Context, l *lab.Lab, bare bool) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if bare {
		return l.StartServers(ctx, self)
	}
	return l.Start(ctx, self, func(command string) { fmt.Println(command) })
}

func labDown() *cobra.Command {
	cmd := &cobra.Command{
		Use: "down [LAB]", Short: "stop and remove a lab", Example: "uvs lab down l1\nuvs lab down --all",
	}
	all := cmd.Flags().Bool("all", false, "every lab")
	cmd.RunE = func(_ *cobra.Command, names []string) (err error) {
		switch {
		case *all == (len(names) > 0):
			return misused("want a lab's name, or --all")
		case *all:
			names, err = lab.List()
		}
		for _, name := range names {
			err = errors.Join(err, lab.Remove(name))
		}
		return err
	}
	return cmd
}

// labStatus is a lab that is up.
type labStatus struct {
	Name   string     `json:"name"`
	Method lab.Method `json:"method,omitempty"`
	Nodes  []string   `json:"nodes"` // none: it is incomplete
}

func labList() *cobra.Command {
	return listing{
		columns: "NAME METHOD NODES", headless: true,
		list: func(_ []string, add addRow) error {
			names, err := lab.List()
			for _, name := range names {
				l, err := lab.Open(name)
				if err != nil {
					add(labStatus{Name: name}, name, "", fmt.Sprintf("incomplete; `uvs lab down %s` removes it", name))
					continue
				}
				add(labStatus{name, l.Method, l.Nodes()}, name, l.Method, strings.Join(l.Nodes(), " "))
			}
			return err
		},
	}.of(&cobra.Command{Use: "list", Short: "list the labs that are up", Example: "uvs lab list"})
}

// labExec replaces this process by a command on a node.
func labExec() *cobra.Command {
	return &cobra.Command{
		Use: "exec LAB NODE -- COMMAND...", Short: "run a command on a node",
		Example: "uvs lab exec l1 client1 -- curl http://10.1.0.100/", DisableFlagParsing: true,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, words []string) error {
			if len(words) > 0 && (words[0] == "-h" || words[0] == "--help") {
				return cmd.Help()
			}
			if len(words) > 2 && words[2] == "--" {
				words = append(words[:2:2], words[3:]...)
			}
			if len(words) < 3 {
				return misused("want NAME NODE -- COMMAND …")
			}
			l, err := lab.Open(words[0])
			if err == nil {
				err = l.Enter(words[1], words[2:]...)
			}
			return err
		},
	}
}

// labDemo demonstrates every method.
func labDemo() *cobra.Command {
	cmd := &cobra.Command{
		Use: "demo", Short: "demonstrate every method with live traffic", Example: "uvs lab demo --method nat",
	}
	methods := lab.Methods
	cmd.Flags().Func("method", "demonstrate only this `METHOD`: nat, dr or tunnel", func(s string) error {
		methods = []lab.Method{lab.Method(s)}
		if !slices.Contains(lab.Methods, methods[0]) {
			return fmt.Errorf("want one of %v", lab.Methods)
		}
		return nil
	})
	cmd.RunE = func(*cobra.Command, []string) error {
		return runInLab("demo", func(ctx context.Context, self string) error {
			return lab.Demo(ctx, os.Stdout, self, methods)
		})
	}
	return cmd
}

// runInLab runs a verb that makes and removes its own labs; without privilege,
// in a user namespace. It gives do the path of this program.
func runInLab(verb string, do func(ctx context.Context, self string) error) error {
	if lab.Privileged() != nil {
		status, err := lab.RunUnprivileged()
		if err != nil {
			return fmt.Errorf("lab %s: %w; it needs root, or a kernel that lets users make namespaces", verb, err)
		}
		return exited(status)
	}
	if err := lab.SetUpUserNamespace(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := signalContext()
	defer cancel()
	if err := do(ctx, self); err != nil {
		fmt.Fprintf(os.Stderr, "uvs lab %s: %v\n", verb, err) // may be many lines: logs, several failures
		return exitStatus(exitRefused)
	}
	return nil
}

// labGrid runs the grid, or the part of it that the options select.
func labGrid() *cobra.Command {
	cmd := &cobra.Command{
		Use: "grid", Short: "test transfers with every mix of offloads, MTU, family and method",
		Example: "uvs lab grid --method nat --family 4 --mtu 1500 --ends none --director none",
	}
	fs := cmd.Flags()
	g := lab.WholeGrid()
	fs.Func("method", "try only this `METHOD`: "+strings.Join(lab.GridMethods, ", ")+" (repeatable)",
		repeatable(&g.Methods, func(s string) (string, error) { return s, nil }))
	fs.Func("family", "only this `FAMILY`: 4 or 6", repeatable(&g.Families, strconv.Atoi))
	fs.Func("mtu", "only this `MTU` (repeatable; default 9001 to 512)", repeatable(&g.MTUs, strconv.Atoi))
	fs.Func("ends", "only these `OFFLOADS` of clients and servers: gso+gro, gso, gro or none (repeatable)",
		repeatable(&g.Ends, lab.ParseOffloads))
	fs.Func("director", "only these `OFFLOADS` of the director (repeatable)",
		repeatable(&g.Director, lab.ParseOffloads))
	fs.IntVar(&g.TunnelOver, "tunnel-over", 0, "`FAMILY` of the outer header, 4 or 6 (default as the VIP)")
	fs.IntVar(&g.MaxGSO, "longest", 0, "longest GSO frame, `BYTES`; beyond 65536: BIG TCP (default the kernel's)")
	fs.DurationVar(&g.Timeout, "patience", g.Timeout, "`TIME` one transfer may take")
	cmd.RunE = func(*cobra.Command, []string) error {
		if err := g.Check(); err != nil {
			return usageError{err}
		}
		return runInLab("grid", func(ctx context.Context, self string) error { return g.Run(ctx, os.Stdout, self) })
	}
	return cmd
}
