package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/compile"
	"uvs/ctl/localnode"
	"uvs/ctl/privsep"
	"uvs/ctl/rest"
	"uvs/ctl/routes"
	"uvs/ctl/store"
	"uvs/dataplane"
	"uvs/dataplane/director"
)

// runVerb makes the verb that runs the director with its options.
func runVerb(run func(*options, *runConfig) error) *cobra.Command {
	opts := new(options)
	cmd := &cobra.Command{
		Use: "run", Short: "run the director, in the foreground",
		Long: "Options may also stand in the configuration file, under director.\n" +
			"Those of the command line win.\nSIGHUP and `uvs reload` read the file again.",
		Example: "uvs run --interface eth0 --interface eth1\n" +
			"uvs run --config /etc/uvs/uvs.yaml --state /var/lib/uvs",
	}
	opts.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := opts.load()
		if err != nil {
			return err
		}
		if f := cmd.Flag("socket"); cfg.Socket == "" || f != nil && f.Changed {
			cfg.Socket = api.SocketPath()
		}
		return run(opts, cfg)
	}
	return cmd
}

// run runs the director: its privileged part here, the rest in a process of its own.
func run(opts *options, cfg *runConfig) error {
	if err := checkCapabilities(); err != nil {
		return err
	}
	log, logs := newLog()
	if err := logs.set(cfg.LogLevel, cfg.LogFormat); err != nil {
		return err
	}
	p, err := newPrivileged(opts, cfg, log)
	if err != nil {
		return err
	}
	defer p.Close()
	signal.Ignore(syscall.SIGPIPE) // a log without a reader ends no director
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if cfg.Sandbox {
		return p.supervise(signals)
	}
	return runDirector(p, &p.begin, signals, "off")
}

// runDirector runs everything that needs no privileges. It closes everything in the reverse order
// of opening. A closed channel of signals ends it, too.
func runDirector(part privsep.Part, begin *privsep.Begin, signals <-chan os.Signal, sandbox string) error {
	load := func() (*runConfig, error) { return decodeConfig(part.Config()) }
	cfg, err := decodeConfig(begin.Config, nil)
	if err != nil {
		return err
	}
	log, logs := newLog()
	if err := logs.set(cfg.LogLevel, cfg.LogFormat); err != nil {
		return err
	}
	source := newConfigSource(load, cfg, logs, log)
	ctx, stop := source.followSignals(signals)
	defer stop()
	defer begin.Listener.Close()
	remote, err := remoteListener(part, begin)
	if err != nil {
		return err
	}
	var kept keptState
	if begin.State != nil {
		if kept.store, kept.Kept, err = store.OpenDir(begin.State, cfg.State); err != nil {
			return err
		}
		defer kept.store.Close()
	}
	host, err := routes.New(cfg.Interfaces, cfg.vlans, part, log)
	if err != nil {
		return err
	}
	conns, err := newConns(cfg)
	if err != nil {
		return err
	}
	defer conns.Close()
	rings, err := openRings(cfg, log, host.HostNet(), begin.LocalNode, part.Sockets)
	if err != nil {
		return err
	}
	defer rings.close()

	manager := ctl.NewManager(conns, cfg.Workers, host, part, log)
	if node := begin.LocalNode; node != nil {
		port := director.Port{Name: node.Name, MAC: node.DirectorMAC, MTU: localnode.MTU}
		port.Forwards4, port.Forwards6 = true, true // what the host itself sends
		manager.SetLocalNode(compile.LocalNode{Port: port, HostMAC: node.HostMAC})
	}
	if err := source.start(manager, kept); err != nil {
		return err
	}
	plane := dataplane.New(conns, manager.FirstTable(), rings.planeLinks(), workerCPUs(cfg), host.Resolve)
	plane.OnFault = func(f director.Fault) {
		log.Error().Str("step", f.Step).Str("panic", fmt.Sprint(f.Value)).Hex("frame", f.Frame).
			Str("stack", string(f.Stack)).Msg("a panic in a worker: a fault of uvs; please report this line")
	}
	server := &rest.Server{
		Manager:  manager,
		Counters: func() []api.Counter { return nonVerdictCounters(rings.links, part, conns, plane) },
		Info: api.Info{
			Version: version, ConnSize: uint32(conns.Stats().Capacity), Interfaces: cfg.Interfaces,
			Workers: cfg.Workers, PID: begin.PID, Sandbox: sandbox,
		},
		Started: time.Now(),
		Healthy: func() error { return plane.Check(time.Second) },
		Access:  rest.Access{Group: cfg.Group, Readers: cfg.Readers},
		Reload:  source.reload, OwnFile: source.isOwnFile, NextStart: source.nextStart,
		Log: source.currentLog, SetLog: source.changeLog,
		Logger: log,
	}
	if err := checkAddressSpace(); err != nil {
		return err
	}
	manager.Start(plane)
	hostNetChanged := func(h *director.HostNet) {
		manager.RoutesChanged() // the guard comes before the rings
		rings.reopen(h)
	}
	parts := []func(context.Context) error{
		plane.Run,
		func(ctx context.Context) error { return host.Run(ctx, hostNetChanged) },
		func(ctx context.Context) error { manager.Run(ctx); return nil },
		func(ctx context.Context) error { return server.Serve(ctx, begin.Listener) },
		source.reloadOnHangup,
	}
	if remote != nil {
		server.Admins = cfg.TLS.Admins
		parts = append(parts, func(ctx context.Context) error { return server.Serve(ctx, remote) })
	}
	log.Info().Strs("interfaces", cfg.Interfaces).Int("workers", cfg.Workers).Str("socket", cfg.Socket).
		Str("sandbox", sandbox).Msg("ready")
	return runAll(ctx, log, part.Notify, parts)
}

// newConns makes the connection table.
func newConns(cfg *runConfig) (*conntrack.Table, error) {
	conns, err := conntrack.NewTable(conntrack.Config{
		Max: cfg.ConnMax, Memory: cfg.MemoryBytes, Reserved: frag.Memory(cfg.Workers), Workers: cfg.Workers,
		ServerIDs: compile.MaxServerIDs, Sessions: conntrack.MaxSessions,
	})
	if errors.Is(err, unix.ENOMEM) {
		return nil, fmt.Errorf("make the connection table: %w; lower --conn-max or raise ulimit -v", err)
	} else if err != nil {
		return nil, fmt.Errorf("make the connection table: %w", err)
	}
	return conns, nil
}

// runAll runs all parts and notifies the service manager, which need not be there. It waits until
// ctx ends or a part fails, and then for all parts.
func runAll(
	ctx context.Context, log zerolog.Logger, notify func(state string) error, parts []func(context.Context) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error)
	for _, part := range parts {
		go func() { errs <- part(ctx) }()
	}
	_ = notify(daemon.SdNotifyReady)
	var first error
	for i := range parts {
		err := <-errs
		cancel()
		if i == 0 {
			_ = notify(daemon.SdNotifyStopping)
		}
		if first == nil && !errors.Is(err, context.Canceled) {
			first = err
		}
	}
	log.Info().Msg("stopped")
	return first
}

// workerCPUs returns the CPUs of the workers: the last ones that this process
// may use, because interrupts and other work are usually on the first.
func workerCPUs(cfg *runConfig) []int {
	var set unix.CPUSet
	if !cfg.Pin || unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var list []int
	for cpu := len(set)*64 - 1; cpu >= 0 && len(list) < cfg.Workers; cpu-- {
		if set.IsSet(cpu) {
			list = append(list, cpu)
		}
	}
	return list
}

// heapRoom is the address space that the Go heap gets beside what is mapped.
const heapRoom = 128 << 20

// checkAddressSpace returns an error if the heap could not grow (ulimit -v). Go would
// print a stack trace then.
func checkAddressSpace() error {
	room, err := unix.Mmap(-1, 0, heapRoom, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("less than %d MiB of address space left: %w; raise ulimit -v or lower --conn-max",
			heapRoom>>20, err)
	}
	return unix.Munmap(room)
}

// checkCapabilities returns an error that names the first missing capability.
func checkCapabilities() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	for _, c := range []struct {
		bit  uint
		name string
		why  string
	}{
		{unix.CAP_NET_RAW, "CAP_NET_RAW", "to read and send frames"},
		{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "to keep the host's stack off them"},
	} {
		if data[0].Effective&(1<<c.bit) == 0 {
			return fmt.Errorf("not permitted: %s is missing (%s); run as root or grant it", c.name, c.why)
		}
	}
	return nil
}
