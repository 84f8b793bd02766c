package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"uvs/ctl/config"
)

// printHelp prints what a command does, how it is written, examples, its verbs and options.
func printHelp(cmd *cobra.Command) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%s: %s\n", cmd.CommandPath(), cmd.Short)
	if cmd.Long != "" {
		fmt.Fprintf(out, "\n%s\n", cmd.Long)
	}
	fmt.Fprintf(out, "\nUsage:\n  %s\n", synopsis(cmd))
	if cmd.Example != "" {
		fmt.Fprintf(out, "\nExamples:\n  %s\n", strings.ReplaceAll(cmd.Example, "\n", "\n  "))
	}
	printVerbs(cmd, func(format string, args ...any) { fmt.Fprintf(out, format, args...) })
	for _, options := range []struct {
		title string
		flags *pflag.FlagSet
	}{{"Options", cmd.NonInheritedFlags()}, {"Options of every verb", cmd.InheritedFlags()}} {
		if options.flags.HasAvailableFlags() {
			fmt.Fprintf(out, "\n%s:\n%s", options.title, options.flags.FlagUsages())
		}
	}
	if !cmd.HasParent() {
		fmt.Fprintf(out, "\nA service is written tcp:192.0.2.1:80, udp:[2001:db8::1]:dns or fwm:1.\n"+
			"Options of a verb: uvs VERB -h\nExit status: 0 done, %d refused, %d wrong usage, %d no director\n",
			exitRefused, exitUsage, exitNoDirector)
	}
}

// printVerbs prints the verbs of a noun, those of uvs by group.
func printVerbs(cmd *cobra.Command, printf func(format string, args ...any)) {
	print := func(title, group string) {
		printf("\n%s:\n", title)
		for _, verb := range cmd.Commands() {
			if verb.IsAvailableCommand() && verb.GroupID == group {
				printf("  %-16s %s\n", verb.Name(), verb.Short)
			}
		}
	}
	switch {
	case len(cmd.Groups()) > 0:
		for _, g := range cmd.Groups() {
			print(g.Title, g.ID)
		}
	case cmd.HasAvailableSubCommands():
		print("Verbs", "")
	}
}

// synopsis returns the usage line of a command.
func synopsis(cmd *cobra.Command) string {
	line := cmd.Use
	if cmd.HasParent() {
		line = cmd.Parent().CommandPath() + " " + cmd.Use
	}
	switch {
	case cmd.HasAvailableSubCommands():
		return line + " VERB ..."
	case cmd.LocalFlags().HasAvailableFlags() && !cmd.DisableFlagParsing:
		return line + " [options]"
	}
	return line
}

func helpVerb() *cobra.Command {
	return &cobra.Command{
		Use: "help [VERB...]", Short: "print this, or the help of a verb",
		Example: "uvs help service add",
		ValidArgsFunction: func(cmd *cobra.Command, words []string, begin string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if verb, rest, err := cmd.Root().Find(words); err == nil && len(rest) == 0 {
				for _, v := range verb.Commands() {
					if v.IsAvailableCommand() && strings.HasPrefix(v.Name(), begin) {
						names = append(names, v.Name())
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, words []string) error {
			verb, rest, err := cmd.Root().Find(words)
			if err != nil {
				return usageError{err}
			}
			if len(rest) > 0 {
				return wantVerb(verb, rest)
			}
			verb.InitDefaultHelpFlag()
			printHelp(verb)
			return nil
		},
	}
}

func versionVerb() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Example: "uvs version",
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Println("uvs", version)
			return err
		},
	}
}

// completionVerb prints a script that a shell reads when it starts.
func completionVerb() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "print a script with which a shell completes uvs: " + config.OneOf(shells),
		Example: "uvs completion bash >~/.uvs-completion # and in .bashrc: . ~/.uvs-completion\n" +
			"uvs completion zsh >~/_uvs # in a directory of $fpath\n" +
			"uvs completion fish >~/uvs.fish # in ~/.config/fish/completions",
		RunE: func(cmd *cobra.Command, words []string) error {
			switch words[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(os.Stdout, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(os.Stdout)
			case "fish":
				return cmd.Root().GenFishCompletion(os.Stdout, true)
			}
			return misused("shell %q is not %s", words[0], config.OneOf(shells))
		},
	}
}
