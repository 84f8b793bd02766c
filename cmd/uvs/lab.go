package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"uvs/bench/lab"
	"uvs/bench/realserver"
	"uvs/fwd/tunnel"
)

const labUsage = `uvs lab: build a whole LVS on this machine, in network namespaces

  uvs lab up NAME [options]          build a lab, start servers and director, configure services
  uvs lab down NAME | --all          stop and remove a lab
  uvs lab list                       list the labs that are up
  uvs lab exec NAME NODE -- CMD …    run a command on a node
  uvs lab demo [--method nat|dr|tunnel]
                                     demonstrate every method with live traffic
  uvs lab grid [options]             test transfers with every mix of offloads, MTU, family and method

Options of up and grid: uvs lab up -h, uvs lab grid -h
`

// labMain is `uvs lab`.
func labMain(args []string) int {
	verbs := map[string]func([]string) int{
		"up": labUp, "down": labDown, "list": labList, "exec": labExec, "demo": labDemo, "grid": labGrid,
	}
	if len(args) > 0 && verbs[args[0]] != nil {
		return verbs[args[0]](args[1:])
	}
	switch {
	case len(args) == 0:
		fmt.Fprint(os.Stderr, labUsage)
	case args[0] == "help" || args[0] == "-h" || args[0] == "--help":
		fmt.Print(labUsage)
		return 0
	default:
		fmt.Fprintf(os.Stderr, "uvs lab: unknown verb %q; `uvs lab help` lists them\n", args[0])
	}
	return 2
}

// parseLabPlan parses the name and options of `uvs lab up`. ok is false if the
// verb must end with code. bare means no director.
func parseLabPlan(args []string) (p lab.Plan, bare bool, code int, ok bool) {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		p.Name, args = args[0], args[1:]
	}
	fs := newFlags("lab up NAME")
	method := fs.String("method", "nat", "forwarding `method`: nat, dr or tunnel")
	family := fs.String("family", "both", "`families` of the VIPs: 4, 6 or both")
	fs.IntVar(&p.TunnelOver, "tunnel-over", 0, "`family` of the outer header, 4 or 6 (default as the VIP)")
	fs.StringVar(&p.Encap, "encap", "", "`type` of tunnel: "+tunnel.OneOf()+" (default ipip)")
	fs.StringVar(&p.Scheduler, "scheduler", "rr", "scheduler of the services")
	fs.IntVar(&p.Clients, "clients", 1, "`number` of clients")
	fs.IntVar(&p.Servers, "servers", 3, "`number` of servers")
	fs.IntVar(&p.Arms, "arms", 0, "the director's `number` of interfaces, 1 or 2 (default 2 for nat, else 1)")
	fs.IntVar(&p.MTU, "mtu", 1500, "of every link, `bytes`")
	offloads := fs.String("offloads", "default", "checksum and segmentation offloads: default or off")
	fs.BoolVar(&p.LossFree, "loss-free", false,
		"links queue up to 100000 frames instead of dropping (Linux 6.16 and later)")
	fs.BoolVar(&p.VIPOnDirector, "vip-on-director", false, "configure the VIPs on the director's loopback device too")
	fs.BoolVar(&p.Forward, "forward", false, "let the director's kernel route (ip_forward=1)")
	fs.BoolVar(&bare, "bare", false, "no director and no services: start and configure them yourself")
	if code, ok = parse(fs, args); !ok {
		return p, bare, code, false
	}
	for name, n := range map[string]int{"clients": p.Clients, "servers": p.Servers, "mtu": p.MTU} {
		if n < 1 { // the plan's default is 0
			return p, bare, usageError("lab up", fmt.Errorf("%s is %d; want 1 or more", name, n)), false
		}
	}
	p.Method = lab.Method(*method)
	families := map[string][]int{"4": {4}, "6": {6}, "both": {4, 6}}
	if p.Families, ok = families[*family]; !ok {
		return p, bare, usageError("lab up", fmt.Errorf("family is %q; want 4, 6 or both", *family)), false
	}
	if p.NoOffloads = *offloads == "off"; !p.NoOffloads && *offloads != "default" {
		return p, bare, usageError("lab up", fmt.Errorf("offloads is %q; want default or off", *offloads)), false
	}
	return p, bare, 0, true
}

// labUp makes a lab and leaves it running.
func labUp(args []string) int {
	p, bare, code, ok := parseLabPlan(args)
	if !ok {
		return code
	}
	if err := lab.Privileged(); err != nil {
		return failed(fmt.Errorf("lab up: cannot make network namespaces: %w; needs root, "+
			"or CAP_SYS_ADMIN and CAP_NET_ADMIN (`uvs lab demo` works without)", err))
	}
	ctx, cancel := signalContext()
	defer cancel()
	l, err := lab.New(p)
	if err != nil {
		return failed(err)
	}
	if err := labStart(ctx, l, bare); err != nil {
		return failed(errors.Join(err, l.Close()))
	}
	fmt.Printf("\nnodes    %s\n", strings.Join(l.Nodes(), " "))
	fmt.Printf("try      %s lab exec %s client1 -- curl http://%s/\n", os.Args[0], l.Name,
		netip.AddrPortFrom(l.VIP(p.Families[0]), realserver.HTTPPort))
	fmt.Printf("and      %s lab exec %s director -- uvs ipvsadm -L -n\n", os.Args[0], l.Name)
	fmt.Printf("remove   %s lab down %s\n", os.Args[0], l.Name)
	return 0
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

// usageError reports a wrong command line.
func usageError(verb string, err error) int {
	fmt.Fprintf(os.Stderr, "uvs %s: %v\n", verb, err)
	return 2
}

// labDown removes one lab or all.
func labDown(args []string) int {
	names := args
	switch {
	case len(args) == 1 && (args[0] == "--all" || args[0] == "-all"):
		var err error
		if names, err = lab.List(); err != nil {
			return failed(err)
		}
	case len(args) != 1 || strings.HasPrefix(args[0], "-"):
		return usageError("lab down", errors.New("want a lab's name, or --all"))
	}
	for _, name := range names {
		if err := lab.Remove(name); err != nil {
			return failed(err)
		}
	}
	return 0
}

// labList prints a line for every lab.
func labList(args []string) int {
	fs := newFlags("lab list")
	if code, ok := parse(fs, args); !ok {
		return code
	}
	names, err := lab.List()
	if err != nil {
		return failed(err)
	}
	for _, name := range names {
		l, err := lab.Open(name)
		if err != nil {
			fmt.Printf("%-16s incomplete; `uvs lab down %s` removes it\n", name, name)
			continue
		}
		fmt.Printf("%-16s %-6s %s\n", name, l.Method, strings.Join(l.Nodes(), " "))
	}
	return 0
}

// labExec replaces this process by a command on a node.
func labExec(args []string) int {
	if len(args) > 2 && args[2] == "--" {
		args = append(args[:2:2], args[3:]...)
	}
	if len(args) < 3 {
		return usageError("lab exec", errors.New("want NAME NODE -- COMMAND …"))
	}
	l, err := lab.Open(args[0])
	if err == nil {
		err = l.Enter(args[1], args[2:]...)
	}
	return failed(err)
}

// labDemo demonstrates every method.
func labDemo(args []string) int {
	fs := newFlags("lab demo")
	methods := lab.Methods
	fs.Func("method", "demonstrate only this `method`: nat, dr or tunnel", func(s string) error {
		methods = []lab.Method{lab.Method(s)}
		if !slices.Contains(lab.Methods, methods[0]) {
			return fmt.Errorf("want one of %v", lab.Methods)
		}
		return nil
	})
	if code, ok := parse(fs, args); !ok {
		return code
	}
	return runInLab("demo", func(ctx context.Context, self string) error {
		return lab.Demo(ctx, os.Stdout, self, methods)
	})
}

// runInLab runs a verb that makes and removes its own labs; without privilege,
// in a user namespace. It gives do the path of this program.
func runInLab(verb string, do func(ctx context.Context, self string) error) int {
	if lab.Privileged() != nil {
		status, err := lab.RunUnprivileged()
		if err != nil {
			return failed(fmt.Errorf("lab %s: %w; it needs root, or a kernel that lets users make namespaces", verb,
				err))
		}
		return status
	}
	if err := lab.SetUpUserNamespace(); err != nil {
		return failed(err)
	}
	self, err := os.Executable()
	if err != nil {
		return failed(err)
	}
	signal.Ignore(syscall.SIGPIPE) // the labs are removed also if the reader of the output ends
	ctx, cancel := signalContext()
	defer cancel()
	if err := do(ctx, self); err != nil {
		fmt.Fprintf(os.Stderr, "uvs lab %s: %v\n", verb, err) // may be many lines: logs, several failures
		return 1
	}
	return 0
}

// labGrid runs the grid, or the part of it that the options select.
func labGrid(args []string) int {
	fs := newFlags("lab grid")
	g := lab.WholeGrid()
	fs.Func("method", "try only this `method`: "+strings.Join(lab.GridMethods, ", ")+" (repeatable)",
		repeatable(&g.Methods, func(s string) (string, error) { return s, nil }))
	fs.Func("family", "only this `family`: 4 or 6", repeatable(&g.Families, strconv.Atoi))
	fs.Func("mtu", "only this `MTU` (repeatable; default 9001 to 512)", repeatable(&g.MTUs, strconv.Atoi))
	fs.Func("ends", "only these `offloads` of clients and servers: gso+gro, gso, gro or none (repeatable)",
		repeatable(&g.Ends, lab.ParseOffloads))
	fs.Func("director", "only these `offloads` of the director (repeatable)",
		repeatable(&g.Director, lab.ParseOffloads))
	fs.IntVar(&g.TunnelOver, "tunnel-over", 0, "`family` of the outer header, 4 or 6 (default as the VIP)")
	fs.IntVar(&g.MaxGSO, "longest", 0, "longest GSO frame, `bytes`; beyond 65536: BIG TCP (default the kernel's)")
	fs.DurationVar(&g.Timeout, "patience", g.Timeout, "`time` one transfer may take")
	if code, ok := parse(fs, args); !ok {
		return code
	}
	if err := g.Check(); err != nil {
		return usageError("lab grid", err)
	}
	return runInLab("grid", func(ctx context.Context, self string) error { return g.Run(ctx, os.Stdout, self) })
}
