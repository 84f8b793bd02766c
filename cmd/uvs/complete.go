package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"uvs/bench/lab"
	"uvs/conntrack"
	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/fwd/tunnel"
	"uvs/sched"
)

// completers return the words that an operand of a usage line, or the value of an option, can
// have. Those of a director are nil without one.
var completers = map[string]func(words []string) []string{
	"SERVICE":    liveServices,
	"SERVER":     liveServers,
	"NAME":       settingNames(""),
	"NAME=VALUE": settingNames("="),
	"SCHEDULER":  func([]string) []string { return sched.Names() },
	"METHOD":     fixed("nat", "dr", "tunnel"),
	"PROTOCOL":   fixed("tcp", "udp", "sctp"),
	"FORMAT":     fixed(formats...),
	"SHELL":      fixed("bash", "zsh", "fish"),
	"LEVEL":      fixed(config.LogLevels...),
	"FORM":       fixed(config.LogFormats...),
	"WHICH":      fixed(config.StartFromNames...),
	"REVISION":   revisions,
	"STATE":      states,
	"TYPE":       func([]string) []string { return tunnel.Names(tunnel.Every) },
	"CHECKSUM":   fixed(config.ChecksumNames...),
	"FLAGS":      fixed("fallback", "port", "flag-3"),
	"ENGINE":     fixed("sip"),
	"INTERFACE":  func([]string) []string { return interfaceNames() },
	"LAB": func([]string) []string {
		names, _ := lab.List()
		return names
	},
}

func fixed(words ...string) func([]string) []string { return func([]string) []string { return words } }

// completeWords makes a shell complete the operands and options of a verb.
func completeWords(cmd *cobra.Command) {
	names, _, most := operands(cmd)
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = func(_ *cobra.Command, words []string, begin string) (
			[]string, cobra.ShellCompDirective,
		) {
			if len(words) >= most || cmd.HasSubCommands() {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return complete(cmd, names[min(len(words), len(names)-1)], words, begin)
		}
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		placeholder, _ := pflag.UnquoteUsage(f)
		if placeholder == "FILE" || placeholder == "PATH" {
			return
		}
		cmd.RegisterFlagCompletionFunc(f.Name, func(_ *cobra.Command, words []string, begin string) (
			[]string, cobra.ShellCompDirective,
		) {
			return complete(cmd, placeholder, words, begin)
		})
	})
}

// complete returns what a placeholder can be that begins so.
func complete(cmd *cobra.Command, placeholder string, words []string, begin string) (
	[]string, cobra.ShellCompDirective,
) {
	completer := completers[placeholder]
	if completer == nil || useGlobalOptions(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	directive := cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	if strings.HasSuffix(placeholder, "=VALUE") {
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return slices.DeleteFunc(slices.Clone(completer(words)), func(word string) bool {
		return !strings.HasPrefix(word, begin)
	}), directive
}

// completionTime is how long a shell waits for a director.
const completionTime = time.Second

// live calls f with a client of the director. Without a director, or if that is slow, the
// result is empty.
func live[T any](f func(*api.Client) (T, error)) (v T) {
	result := make(chan T, 1)
	go func() {
		var found T
		if c, err := api.DialWait(api.SocketPath(), 0); err == nil {
			found, _ = f(c)
		}
		result <- found
	}()
	select {
	case v = <-result:
	case <-time.After(completionTime):
	}
	return v
}

func liveServices([]string) (names []string) {
	for _, s := range live((*api.Client).Services) {
		names = append(names, s.Text())
	}
	return names
}

// liveServers returns the servers of the service that the words name, or of all services.
func liveServers(words []string) (names []string) {
	var of config.ServiceKey
	if len(words) > 0 {
		of, _ = parseService(words[0])
	}
	seen := map[string]bool{}
	for _, s := range live((*api.Client).Services) {
		if of != (config.ServiceKey{}) && s.ServiceKey != of {
			continue
		}
		for _, v := range servers(&s) {
			if name := v.ServerKey.String(); !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}

// revisions returns those that `uvs history` lists, the newest first.
func revisions([]string) (names []string) {
	for _, v := range live((*api.Client).Versions) {
		names = append(names, strconv.FormatUint(v.Revision, 10))
	}
	return names
}

// states returns the states of connections.
func states([]string) (names []string) {
	for s := range conntrack.NumState {
		names = append(names, s.String())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func settingNames(suffix string) func([]string) []string {
	return func([]string) (names []string) {
		for _, k := range new(config.State).Director().List() {
			names = append(names, k.Name+suffix)
		}
		return names
	}
}
