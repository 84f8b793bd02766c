package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"uvs/conntrack"
	"uvs/ctl"
	"uvs/ctl/guard"
	"uvs/ctl/hop"
	"uvs/dataplane"
	"uvs/dataplane/director"
	"uvs/dataplane/ring"
)

// runConfig is what `uvs run` was told.
type runConfig struct {
	interfaces []string
	socket     string
	workers    int
	pin        bool
	connMax    int
	memory     int64 // bytes; 0: as connMax needs
	spin       time.Duration
	log        zerolog.Logger
}

func runMain(args []string) int {
	cfg, code, ok := runFlags(args)
	if !ok {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, cfg); err != nil {
		return failed(err)
	}
	return 0
}

func runFlags(args []string) (cfg runConfig, code int, ok bool) {
	fs := newFlags("run")
	fs.Var((*list)(&cfg.interfaces), "interface", "run on this interface; may be given several times")
	fs.StringVar(&cfg.socket, "socket", ctl.SocketPath(), "listen for commands on this socket (also "+ctl.SocketEnv+")")
	fs.IntVar(&cfg.workers, "workers", max(1, runtime.NumCPU()/2), "how many workers carry frames, each on a CPU of its own")
	fs.BoolVar(&cfg.pin, "pin", true, "pin workers to CPUs")
	fs.IntVar(&cfg.connMax, "conn-max", 1<<20, "most entries of the connection table")
	fs.Int64Var(&cfg.memory, "memory", 0, "most bytes the connection table may use; lowers --conn-max if need be (0: no limit but that)")
	fs.DurationVar(&cfg.spin, "spin", 50*time.Microsecond, "how long an idle worker looks for frames before it sleeps")
	level := fs.String("log-level", "info", "trace, debug, info, warn or error")
	format := fs.String("log-format", "text", "text or json")
	if code, ok = parse(fs, args); !ok {
		return cfg, code, false
	}
	if err := cfg.check(*level, *format); err != nil {
		fmt.Fprintf(os.Stderr, "uvs run: %v\n", err)
		return cfg, 2, false
	}
	return cfg, 0, true
}

// check says what is wrong with the values given, and makes the logger.
func (cfg *runConfig) check(level, format string) error {
	if len(cfg.interfaces) == 0 {
		return fmt.Errorf("no interface given; name one or more with --interface (there are: %s)", strings.Join(interfaceNames(), ", "))
	}
	if limit := runtime.NumCPU(); cfg.workers < 1 || cfg.workers > limit {
		return fmt.Errorf("--workers %d: must be 1 to %d, the number of CPUs", cfg.workers, limit)
	}
	if cfg.connMax < 1024 || cfg.connMax > 1<<28 {
		return fmt.Errorf("--conn-max %d: must be 1024 to %d", cfg.connMax, 1<<28)
	}
	lvl, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
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

// run is the director from start to end: what is opened first is closed last.
func run(ctx context.Context, cfg runConfig) error {
	if err := permitted(); err != nil {
		return err
	}
	listener, err := ctl.Listen(cfg.socket)
	if err != nil {
		return err
	}
	defer listener.Close()

	host, err := hop.New(cfg.interfaces, cfg.log)
	if err != nil {
		return err
	}
	stackGuard, err := guard.New(cfg.log)
	if err != nil {
		return err
	}
	defer stackGuard.Close()

	conns, err := conntrack.NewTable(conntrack.Config{Max: cfg.connMax, Memory: cfg.memory, Workers: cfg.workers, MaxServers: ctl.MaxServers})
	if err != nil {
		return fmt.Errorf("make the connection table: %w", err)
	}
	defer conns.Close()

	links, rings, err := openLinks(cfg)
	if err != nil {
		return err
	}
	defer closeLinks(rings)

	manager := ctl.NewManager(conns, cfg.workers, host, stackGuard, cfg.log)
	plane := dataplane.New(conns, manager.FirstTable(), links, cpus(cfg))
	server := &ctl.Socket{
		Manager:  manager,
		Counters: func() []ctl.Counter { return rimCounters(rings, stackGuard, conns) },
		Info: ctl.Info{
			Version: version, ConnSize: uint32(conns.Stats().Capacity), Interfaces: cfg.interfaces,
			Workers: cfg.workers, PID: os.Getpid(),
		},
	}
	return runAll(ctx, cfg, plane, manager, host, server, listener)
}

// runAll starts everything that runs, tells the world it is ready, and waits
// for the end of ctx or the first failure.
func runAll(ctx context.Context, cfg runConfig, plane *dataplane.Plane, manager *ctl.Manager, host *hop.Watcher, server *ctl.Socket, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	manager.Start(plane)
	errs := make(chan error)
	parts := []func() error{
		func() error { return plane.Run(ctx) },
		func() error { return host.Run(ctx, func(*director.Hops) { manager.HopsChanged() }) },
		func() error { manager.Tend(ctx); return nil },
		func() error { return server.Serve(ctx, l) },
	}
	for _, part := range parts {
		go func() { errs <- part() }()
	}
	cfg.log.Info().Strs("interfaces", cfg.interfaces).Int("workers", cfg.workers).Str("socket", cfg.socket).Msg("ready")
	daemon.SdNotify(false, daemon.SdNotifyReady) // an error only means nobody listens
	var first error
	for range parts {
		err := <-errs
		cancel()
		if first == nil && !errors.Is(err, context.Canceled) {
			first = err
		}
	}
	daemon.SdNotify(false, daemon.SdNotifyStopping)
	cfg.log.Info().Msg("stopped")
	return first
}

// openLinks opens the rings of all workers.
func openLinks(cfg runConfig) (links []dataplane.Link, rings []*ring.Link, err error) {
	c := ring.Config{Spin: cfg.spin}
	for _, name := range cfg.interfaces {
		c.Interfaces = append(c.Interfaces, ring.Interface{Name: name})
	}
	if rings, err = ring.OpenGroup(c, cfg.workers); err != nil {
		return nil, nil, err
	}
	for _, r := range rings {
		links = append(links, r)
	}
	return links, rings, nil
}

func closeLinks(rings []*ring.Link) {
	for _, r := range rings {
		r.Close()
	}
}

// cpus are the CPUs of the workers: the last ones this process may use, since
// interrupts and everything else tend to the first.
func cpus(cfg runConfig) []int {
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

// permitted says which capability is missing, if one is.
func permitted() error {
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
