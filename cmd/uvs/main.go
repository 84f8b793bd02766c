// Command uvs is the userspace virtual server: the director (uvs run), the
// ipvsadm command, and the tools for both, in one binary. Called as ipvsadm,
// ipvsadm-save or ipvsadm-restore it is that command.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"uvs/ctl/api"
	"uvs/ctl/ipvsadm"
)

// verb is a subcommand of uvs.
type verb struct {
	name, args, summary string
	run                 func(args []string) int
}

// verbs returns the verbs in the order of the help text.
func verbs() []verb {
	return []verb{
		{"run", "--interface IF …", "run the director, in the foreground", runMain},
		{"ipvsadm", "…", "change and list virtual services, as ipvsadm does", ipvsadmMain},
		{"ipvsadm-save", "[-n]", "print the services in the form that ipvsadm-restore reads", ipvsadmSaveMain},
		{"ipvsadm-restore", "", "replace the services by those on standard input", ipvsadmRestoreMain},
		{"conns", "[--service S] …", "list connections, selected by service, server, client, state", connsMain},
		{"flush", "[--service S] …", "end connections, selected the same way", flushMain},
		{"services", "[--json]", "list services, one line for every server", servicesMain},
		{"paths", "[--json]", "list the MTU and the path MTU to every server", pathsMain},
		{"sorry", "--service S SERVER|--clear", "set the server for connections that no other can take", sorryMain},
		{"mark", "add|delete|list|import", "set which packets have the marks of ipvsadm -f", markMain},
		{"drain", "[--deadline D] … SERVER", "give a server weight 0, and wait for its connections", drainMain},
		{"down", "[--service S] … SERVER | --list", "give a server no new connections until uvs up", downMain},
		{"up", "[--service S] SERVER", "give a server new connections again", upMain},
		{"standby", "", "leave the VIPs to another director: answer and forward nothing", standbyMain},
		{"active", "", "serve the VIPs again, and announce them", activeMain},
		{"role", "", "print whether the director is active or standby", roleMain},
		{"explain", "PROTO CLIENT VIRTUAL …", "explain what happens to a client's packet, and why", explainMain},
		{"events", "", "print the director's events as they happen", eventsMain},
		{"get", "[--service S] [NAME …]", "print settings", getMain},
		{"set", "[--service S] NAME=VALUE …", "change settings, or take those in a file of sysctl.d", setMain},
		{"save", "", "print the whole configuration, as commands", saveMain},
		{"restore", "", "replace the configuration by the commands on standard input", restoreMain},
		{"stats", "", "print the director's counters", statsMain},
		{"rs", "…", "run a real server for tests: reply, hold the VIP, decapsulate", rsMain},
		{"lab", "up|down|list|exec|demo|grid", "build a whole LVS on this machine", labMain},
		{"version", "", "print the version", versionMain},
	}
}

func main() {
	ipvsadm.Version = version
	switch filepath.Base(os.Args[0]) {
	case "ipvsadm":
		os.Exit(ipvsadmMain(os.Args[1:]))
	case "ipvsadm-save":
		os.Exit(ipvsadmSaveMain(os.Args[1:]))
	case "ipvsadm-restore":
		os.Exit(ipvsadmRestoreMain(os.Args[1:]))
	}
	os.Exit(dispatch(os.Args[1:]))
}

// dispatch runs a verb. It returns exit status 2 for a wrong command line.
func dispatch(args []string) int {
	if len(args) == 0 {
		usage(os.Stderr)
		return 2
	}
	switch args[0] {
	case "help", "-h", "--help":
		usage(os.Stdout)
		return 0
	}
	for _, v := range verbs() {
		if v.name == args[0] {
			return v.run(args[1:])
		}
	}
	fmt.Fprintf(os.Stderr, "uvs: unknown verb %q; `uvs help` lists them\n", args[0])
	return 2
}

// signalContext returns a context that ends with SIGINT or SIGTERM.
func signalContext() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
}

func usage(w io.Writer) {
	fmt.Fprint(w, "uvs: the userspace virtual server\n\n")
	for _, v := range verbs() {
		fmt.Fprintf(w, "  uvs %-38s %s\n", v.name+" "+v.args, v.summary)
	}
	fmt.Fprintf(w, "\nThe director's socket is %s, or the path in %s.\nOptions of a verb: uvs VERB -h\n",
		api.DefaultSocket, api.SocketEnv)
}

func connect() (ipvsadm.Director, error) {
	c, err := dial()
	return c, err
}

func stdio() ipvsadm.Stdio { return ipvsadm.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr} }

func ipvsadmMain(args []string) int        { return ipvsadm.Main(args, stdio(), connect) }
func ipvsadmSaveMain(args []string) int    { return ipvsadm.SaveMain(args, stdio(), connect) }
func ipvsadmRestoreMain(args []string) int { return ipvsadm.RestoreMain(args, stdio(), connect) }

func versionMain(args []string) int {
	if code, ok := parse(newFlags("version"), args); !ok {
		return code
	}
	fmt.Println("uvs", version)
	return 0
}

// statsMain prints one `name value` line for every counter that is not zero.
func statsMain(args []string) int {
	fs := newFlags("stats")
	all := fs.Bool("all", false, "also print counters that are zero")
	if code, ok := parse(fs, args); !ok {
		return code
	}
	list, ok := query((*api.Client).Counters)
	if !ok {
		return 1
	}
	for _, v := range list {
		if v.Value != 0 || *all {
			fmt.Println(v.Name, v.Value)
		}
	}
	return 0
}
