// Command uvs is the userspace virtual server: the director (uvs run), the
// ipvsadm command, and the tools for both, in one binary. Called as ipvsadm,
// ipvsadm-save or ipvsadm-restore it is that command.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"uvs/ctl/api"
	"uvs/ctl/file"
	"uvs/ctl/ipvsadm"
	"uvs/ctl/privsep"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "dev"

func main() {
	ipvsadm.Version = version
	switch filepath.Base(os.Args[0]) {
	case "ipvsadm":
		os.Exit(ipvsadm.Main(os.Args[1:], stdio(), connect))
	case "ipvsadm-save":
		os.Exit(ipvsadm.SaveMain(os.Args[1:], stdio(), connect))
	case "ipvsadm-restore":
		os.Exit(ipvsadm.RestoreMain(os.Args[1:], stdio(), connect))
	}
	if os.Args[0] == privsep.Name {
		os.Exit(directorMain())
	}
	os.Exit(dispatch(os.Args[1:]))
}

// newRoot makes the tree of verbs.
func newRoot() *cobra.Command {
	root := noun("uvs", "the userspace virtual server, a layer-4 load balancer")
	for group, verbs := range [][]*cobra.Command{
		groupDirector: {
			runVerb(run), statusVerb(), roleVerb("standby"), roleVerb("active"), showRole(), saveVerb(), restoreVerb(),
			checkVerb(), diffVerb(), applyVerb(), confirmVerb(), historyVerb(), rollbackVerb(), reloadVerb(), logNoun(),
			schemaVerb(),
		},
		groupServices: {serviceNoun(), serverNoun(), sorryNoun(), markNoun(), settingNoun()},
		groupTraffic:  {connNoun(), pathsVerb(), explainVerb(), eventsVerb(), statsVerb()},
		groupPrograms: {
			program("ipvsadm", "change and list virtual services, as ipvsadm does",
				"uvs ipvsadm -L -n", ipvsadm.Main),
			program("ipvsadm-save", "print the services in the form that ipvsadm-restore reads",
				"uvs ipvsadm-save -n", ipvsadm.SaveMain),
			program("ipvsadm-restore", "replace the services by those on standard input",
				"uvs ipvsadm-save -n | uvs ipvsadm-restore", ipvsadm.RestoreMain),
			rsVerb(), labNoun(), completionVerb(), helpVerb(), versionVerb(),
		},
	} {
		for _, verb := range verbs {
			verb.GroupID = groups[group].ID
			root.AddCommand(verb)
		}
	}
	// The verbs of earlier versions, for scripts.
	root.AddCommand(as("conns", connsVerb()), as("flush", connFlush()), as("services", servicesVerb()),
		as("drain", serverDrain()), as("down", serverDown()), as("up", serverUp()), as("get", settingGet()),
		as("set", settingSet().Command), manVerb())
	finish(root)
	return root
}

// dispatch runs a verb and returns the exit status.
func dispatch(args []string) int { return report(execute(args)) }

// execute runs a verb.
func execute(args []string) (*cobra.Command, error) {
	root := newRoot()
	begun := false
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		begun = true
		return useGlobalOptions(cmd)
	}
	root.SetArgs(withDashes(root, args))
	cmd, err := root.ExecuteC()
	if err != nil && !begun {
		err = flagError(cmd, err)
	}
	return cmd, err
}

// The exit statuses of uvs's own verbs.
const (
	exitRefused    = 1
	exitUsage      = 2
	exitNoDirector = 3
)

// fileLineError is a director's error that shows a line of its file.
type fileLineError struct{ error }

// report prints an error and returns the exit status. An error takes one line, and one of a
// file shows the file's line below.
func report(cmd *cobra.Command, err error) int {
	if err == nil {
		return 0
	}
	if status, ok := errors.AsType[exitStatus](err); ok {
		return int(status)
	}
	line := strings.TrimSpace(err.Error())
	_, ofFile := errors.AsType[*file.Error](err)
	if _, shows := errors.AsType[fileLineError](err); !ofFile && !shows {
		line = strings.ReplaceAll(line, "\n", "; ")
	}
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(os.Stderr, "%s: %s; see %[1]s -h\n", cmd.CommandPath(), line)
		return exitUsage
	}
	fmt.Fprintln(os.Stderr, "uvs:", line)
	if _, ok := errors.AsType[*api.NoDirectorError](err); ok {
		return exitNoDirector
	}
	return exitRefused
}

// signalContext returns a context that ends with SIGINT or SIGTERM. Output whose reader has gone
// is an error from now on, not the end of the process.
func signalContext() (context.Context, context.CancelFunc) {
	signal.Ignore(syscall.SIGPIPE)
	return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
}

func connect() (ipvsadm.Director, error) {
	c, err := dial()
	return c, err
}

func stdio() ipvsadm.Stdio { return ipvsadm.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr} }

// program makes a verb that is a program with its own options and exit status.
func program(
	name, short, example string,
	main func([]string, ipvsadm.Stdio, func() (ipvsadm.Director, error)) int,
) *cobra.Command {
	return &cobra.Command{
		Use: name + " ...", Short: short, Example: example, DisableFlagParsing: true, Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, words []string) error { return exited(main(words, stdio(), connect)) },
	}
}
