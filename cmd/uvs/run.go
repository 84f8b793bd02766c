package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
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
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/ctl/localnode"
	"uvs/ctl/routes"
	"uvs/dataplane"
	"uvs/dataplane/director"
)

// runConfig is the options of `uvs run`.
type runConfig struct {
	interfaces []string
	vlans      []routes.VLAN
	socket     string
	workers    int
	pin        bool
	connMax    int
	memory     int64 // bytes; 0: what connMax needs
	spin       time.Duration
	localnode  bool
	standby    bool
	log        zerolog.Logger
}

// runVerb makes the verb that runs the director with its options.
func runVerb(run func(context.Context, runConfig) error) *cobra.Command {
	var cfg runConfig
	cmd := &cobra.Command{
		Use: "run", Short: "run the director, in the foreground",
		Example: "uvs run --interface eth0 --interface eth1",
	}
	fs := cmd.Flags()
	fs.Func("interface", "run on this `INTERFACE`; may be given several times",
		repeatable(&cfg.interfaces, func(name string) (string, error) {
			if name == "" {
				return "", errors.New("empty value")
			}
			return name, nil
		}))
	fs.Func("vlan", "run on a VLAN of one of these that has no device: IF.NUMBER[=ADDR/BITS,...], "+
		"with its own addresses; may be given several times", repeatable(&cfg.vlans, routes.ParseVLAN))
	fs.IntVar(&cfg.workers, "workers", defaultWorkers(), "`NUMBER` of workers that process frames, each on its own CPU")
	fs.BoolVar(&cfg.pin, "pin", true, "pin workers to CPUs")
	fs.IntVar(&cfg.connMax, "conn-max", 1<<20, "maximum `NUMBER` of entries of the connection table")
	fs.Int64Var(&cfg.memory, "memory", 0,
		"most bytes the connection table may use; lowers --conn-max if needed (0: only --conn-max limits)")
	fs.DurationVar(&cfg.spin, "spin", 50*time.Microsecond, "how long an idle worker looks for frames before it sleeps")
	fs.BoolVar(&cfg.localnode, "localnode", false,
		"let the host itself be a server, through a virtual device to its stack")
	fs.BoolVar(&cfg.standby, "standby", false, "start on standby, until uvs active")
	level := fs.String("log-level", "info", "`LEVEL`: trace, debug, info, warn or error")
	format := fs.String("log-format", "text", "`FORM`: text or json")
	cmd.RunE = func(*cobra.Command, []string) error {
		if err := cfg.check(*level, *format); err != nil {
			return usageError{err}
		}
		cfg.socket = api.SocketPath()
		ctx, stop := signalContext()
		defer stop()
		context.AfterFunc(ctx, stop) // a second signal ends the process at once; the kernel then cleans up
		return run(ctx, cfg)
	}
	return cmd
}

// defaultWorkers returns half the CPUs. The kernel fills the rings on the
// others, where it serves interrupts and softirqs, and the host has its own
// work.
func defaultWorkers() int { return min(max(1, runtime.NumCPU()/2), maxWorkers()) }

// maxWorkers returns one worker for every CPU, up to the connection table's
// limit.
func maxWorkers() int { return min(runtime.NumCPU(), conntrack.MaxWorkers) }

// check returns what is wrong with the options, and makes the logger.
func (cfg *runConfig) check(level, format string) error {
	if len(cfg.interfaces) == 0 {
		return fmt.Errorf("no interface given; name one or more with --interface (there are: %s)",
			strings.Join(interfaceNames(), ", "))
	}
	if cfg.localnode && len(cfg.vlans) > 0 {
		return fmt.Errorf("--localnode and --vlan %s do not go together; make %[1]s a device of the host",
			cfg.vlans[0].Name())
	}
	if limit := maxWorkers(); cfg.workers < 1 || cfg.workers > limit {
		return fmt.Errorf("--workers %d: must be 1 to %d: one for every CPU, at most %d", cfg.workers, limit,
			conntrack.MaxWorkers)
	}
	if cfg.connMax < 1024 || cfg.connMax > 1<<28 {
		return fmt.Errorf("--conn-max %d: must be 1024 to %d", cfg.connMax, 1<<28)
	}
	if cfg.spin < 0 || cfg.spin > time.Second {
		return fmt.Errorf("--spin %v: must be 0s to 1s", cfg.spin)
	}
	lvl, err := zerolog.ParseLevel(level)
	if err != nil || lvl < zerolog.TraceLevel || lvl > zerolog.ErrorLevel || level == "" {
		return fmt.Errorf("--log-level %q: must be trace, debug, info, warn or error", level)
	}
	var out io.Writer = os.Stderr
	switch format {
	case "json":
	case "text":
		out = zerolog.ConsoleWriter{Out: os.Stderr, NoColor: true, TimeFormat: time.RFC3339}
	default:
		return fmt.Errorf("--log-format %q: must be text or json", format)
	}
	cfg.log = zerolog.New(out).Level(lvl).With().Timestamp().Logger()
	return nil
}

func interfaceNames() (names []string) {
	ifs, _ := net.Interfaces()
	for _, i := range ifs {
		if i.Flags&net.FlagLoopback == 0 {
			names = append(names, i.Name)
		}
	}
	return names
}

// run runs the director. It closes everything in the reverse order of opening.
func run(ctx context.Context, cfg runConfig) error {
	if err := checkCapabilities(); err != nil {
		return err
	}
	listener, err := ctl.Listen(cfg.socket)
	if err != nil {
		return err
	}
	defer listener.Close()

	host, err := routes.New(cfg.interfaces, cfg.vlans, cfg.log)
	if err != nil {
		return err
	}
	locks, err := lockInterfaces(cfg.interfaces)
	if err != nil {
		return err
	}
	defer locks.Close()

	stackGuard, err := guard.New(cfg.log)
	if err != nil {
		return err
	}
	defer stackGuard.Close()

	conns, err := conntrack.NewTable(conntrack.Config{
		Max: cfg.connMax, Memory: cfg.memory, Reserved: frag.Memory(cfg.workers), Workers: cfg.workers,
		ServerIDs: compile.MaxServerIDs, Sessions: conntrack.MaxSessions,
	})
	if errors.Is(err, unix.ENOMEM) {
		return fmt.Errorf("make the connection table: %w; lower --conn-max or raise ulimit -v", err)
	} else if err != nil {
		return fmt.Errorf("make the connection table: %w", err)
	}
	defer conns.Close()

	var localNode *localnode.Pair
	if cfg.localnode {
		if localNode, err = localnode.New(); err != nil {
			return err
		}
		defer localNode.Close()
		if err := stackGuard.RedirectReplies(localNode.HostIndex, localNode.DirectorMAC); err != nil {
			return err
		}
	}
	rings, err := openRings(cfg, host.HostNet(), localNode)
	if err != nil {
		return err
	}
	defer rings.close()

	manager := ctl.NewManager(conns, cfg.workers, host, stackGuard, cfg.log)
	if localNode != nil {
		port := director.Port{Name: localNode.Name, MAC: localNode.DirectorMAC, MTU: localnode.MTU}
		manager.SetLocalNode(compile.LocalNode{Port: port, HostMAC: localNode.HostMAC})
	}
	if cfg.standby {
		if err := manager.Apply(config.Op{Kind: config.Standby}); err != nil {
			return err
		}
	}
	plane := dataplane.New(conns, manager.FirstTable(), rings.planeLinks(), workerCPUs(cfg), host.Resolve)
	server := &ctl.Socket{
		Manager:  manager,
		Counters: func() []api.Counter { return nonVerdictCounters(rings.links, stackGuard, conns, plane) },
		Info: api.Info{
			Version: version, ConnSize: uint32(conns.Stats().Capacity), Interfaces: cfg.interfaces,
			Workers: cfg.workers, PID: os.Getpid(),
		},
		Started: time.Now(),
	}
	if err := checkAddressSpace(); err != nil {
		return err
	}
	manager.Start(plane)
	hostNetChanged := func(h *director.HostNet) {
		manager.RoutesChanged() // the guard comes before the rings
		rings.reopen(h)
	}
	return runAll(ctx, cfg, []func(context.Context) error{
		plane.Run,
		func(ctx context.Context) error { return host.Run(ctx, hostNetChanged) },
		func(ctx context.Context) error { manager.Run(ctx); return nil },
		func(ctx context.Context) error { return server.Serve(ctx, listener) },
	})
}

// runAll runs all parts and reports that the director is ready. It waits until
// ctx ends or a part fails, and then for all parts.
func runAll(ctx context.Context, cfg runConfig, parts []func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error)
	for _, part := range parts {
		go func() { errs <- part(ctx) }()
	}
	cfg.log.Info().Strs("interfaces", cfg.interfaces).Int("workers", cfg.workers).Str("socket", cfg.socket).Msg("ready")
	daemon.SdNotify(false, daemon.SdNotifyReady) // without NOTIFY_SOCKET it does nothing
	var first error
	for i := range parts {
		err := <-errs
		cancel()
		if i == 0 {
			daemon.SdNotify(false, daemon.SdNotifyStopping)
		}
		if first == nil && !errors.Is(err, context.Canceled) {
			first = err
		}
	}
	cfg.log.Info().Msg("stopped")
	return first
}

// workerCPUs returns the CPUs of the workers: the last ones that this process
// may use, because interrupts and other work are usually on the first.
func workerCPUs(cfg runConfig) []int {
	var set unix.CPUSet
	if !cfg.pin || unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var list []int
	for cpu := len(set)*64 - 1; cpu >= 0 && len(list) < cfg.workers; cpu-- {
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
