package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// The groups of verbs, in the order of the help text.
const (
	groupDirector = iota
	groupServices
	groupTraffic
	groupPrograms
)

var groups = []*cobra.Group{
	groupDirector: {ID: "director", Title: "The director"},
	groupServices: {ID: "services", Title: "Services and servers"},
	groupTraffic:  {ID: "traffic", Title: "Connections and packets"},
	groupPrograms: {ID: "programs", Title: "Programs"},
}

// usageError is a wrong command line.
type usageError struct{ error }

func misused(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitStatus ends uvs with a status, without a further word.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func exited(code int) error {
	if code == 0 {
		return nil
	}
	return exitStatus(code)
}

// noun makes a command whose verbs do the work.
func noun(name, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, Args: cobra.ArbitraryArgs, RunE: wantVerb}
	cmd.AddCommand(verbs...)
	return cmd
}

// wantVerb is what a noun does without a verb, or with one that it does not have.
func wantVerb(cmd *cobra.Command, words []string) error {
	var names, all []string
	for _, verb := range cmd.Commands() {
		all = append(all, verb.Name())
		if verb.IsAvailableCommand() {
			names = append(names, verb.Name())
		}
	}
	switch {
	case len(words) == 0 && !cmd.HasParent():
		cmd.SetOut(os.Stderr)
		printHelp(cmd)
		return exitStatus(exitUsage)
	case len(words) == 0:
		return misused("want %s", config.OneOf(names))
	case words[0] == "help":
		return cmd.Help()
	}
	text := fmt.Sprintf("unknown verb %q", words[0])
	if near := config.Nearest(words[0], all); near != "" {
		text += fmt.Sprintf("; did you mean %s?", near)
	} else if cmd.HasParent() {
		text += "; there are " + strings.Join(names, ", ")
	}
	return misused("%s", text)
}

// as gives a verb the name that it had in earlier versions, without listing it.
func as(name string, verb *cobra.Command) *cobra.Command {
	_, rest, _ := strings.Cut(verb.Use, " ")
	verb.Use, verb.Hidden = strings.TrimSpace(name+" "+rest), true
	return verb
}

// finish gives a tree what all of its verbs have.
func finish(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage, root.TraverseChildren = true, true, true
	root.CompletionOptions.DisableDefaultCmd = true
	cobra.EnableCommandSorting = false
	root.AddGroup(groups...)
	global := root.PersistentFlags()
	global.String("socket", "", fmt.Sprintf("the director's socket, a `PATH` (default $%s, or %s)", api.SocketEnv,
		api.DefaultSocket))
	global.Duration("wait", 0, fmt.Sprintf("`TIME` to wait for a director that is starting (default $%s, or 2s)",
		api.WaitEnv))
	printVersion := root.Flags().Bool("version", false, "print the version")
	root.RunE = func(cmd *cobra.Command, words []string) error {
		if *printVersion {
			return versionVerb().RunE(cmd, words)
		}
		return wantVerb(cmd, words)
	}
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(&cobra.Command{Use: "help", Hidden: true}) // in place of cobra's, beside helpVerb
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { printHelp(cmd) })
	eachVerb(root, func(cmd *cobra.Command) {
		if cmd.Args == nil {
			cmd.Args = countWords
		}
		cmd.Flags().SortFlags = false
		completeWords(cmd)
	})
}

// eachVerb calls visit for a command and all below it.
func eachVerb(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, verb := range cmd.Commands() {
		eachVerb(verb, visit)
	}
}

// useGlobalOptions hands --socket and --wait on, in the environment: programs that uvs
// starts have them too.
func useGlobalOptions(cmd *cobra.Command) error {
	for name, variable := range map[string]string{"socket": api.SocketEnv, "wait": api.WaitEnv} {
		if f := cmd.Flag(name); f != nil && f.Changed {
			if strings.HasPrefix(f.Value.String(), "-") {
				return misused("--%s %s: must not begin with a dash", name, f.Value)
			}
			if err := os.Setenv(variable, f.Value.String()); err != nil {
				return err
			}
		}
	}
	return nil
}

// operand is a word of a usage line: SERVICE, [SERVICE], NAME=VALUE... or [NAME...].
var operand = regexp.MustCompile(`^\[?([A-Z][A-Z:=|/]*)(\.\.\.)?\]?$`)

// operands returns the operands in a verb's usage line.
func operands(cmd *cobra.Command) (names []string, least, most int) {
	for word := range strings.FieldsSeq(cmd.Use) {
		m := operand.FindStringSubmatch(word)
		if m == nil {
			continue
		}
		names = append(names, m[1])
		if word[0] != '[' {
			least++
		}
		if most++; m[2] != "" {
			most = 1 << 20
		}
	}
	return names, least, most
}

// countWords checks that a verb gets as many words as its usage line has.
func countWords(cmd *cobra.Command, words []string) error {
	switch names, least, most := operands(cmd); {
	case len(words) > most:
		return misused("unexpected argument %q", words[most])
	case len(words) < least:
		return misused("want %s", strings.Join(names, " "))
	}
	return nil
}

// withDashes returns a command line with two dashes before the options that have one, as
// earlier versions took them, and with the value of --watch joined to it.
func withDashes(root *cobra.Command, args []string) []string {
	cmd, rest, err := root.Traverse(args)
	if err != nil || cmd.DisableFlagParsing {
		return args
	}
	fixed := append([]string{}, args[:len(args)-len(rest)]...)
	for i, word := range rest {
		name, _, _ := strings.Cut(strings.TrimPrefix(word, "-"), "=")
		switch {
		case word == "--":
			return append(fixed, rest[i:]...)
		case i > 0 && rest[i-1] == "--watch":
			if _, err := time.ParseDuration(word); err == nil {
				fixed[len(fixed)-1] += "=" + word
				continue
			}
		case len(name) > 1 && word[0] == '-' && name[0] != '-' && cmd.Flag(name) != nil:
			word = "-" + word
		}
		fixed = append(fixed, word)
	}
	return fixed
}

// flagError says what is wrong with an option, and what would be right or may be meant.
func flagError(cmd *cobra.Command, err error) error {
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		why := wrong.Unwrap().Error()
		_, isNumber := errors.AsType[*strconv.NumError](wrong)
		switch kind := wrong.GetFlag().Value.Type(); {
		case kind == "duration":
			why = "not a time with its unit, such as 500ms or 60s"
		case kind == "bool":
			why = "not true or false"
		case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"), isNumber:
			why = "not a whole number that this can be"
		}
		return misused("--%s %s: %s", wrong.GetFlag().Name, wrong.GetValue(), why)
	}
	if without, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		placeholder, _ := pflag.UnquoteUsage(without.GetFlag())
		return misused("--%s: want %s", without.GetFlag().Name, placeholder)
	}
	if wrong, ok := errors.AsType[*pflag.InvalidSyntaxError](err); ok {
		return misused("%q is not an option; write --NAME or --NAME=VALUE", wrong.GetSpecifiedFlag())
	}
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return usageError{err}
	}
	if words := cmd.Flags().Args(); len(words) > 0 && cmd.HasSubCommands() {
		return wantVerb(cmd, words) // the option is one of a verb that there is not
	}
	var names []string
	add := func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	}
	cmd.NonInheritedFlags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	name, dashes := unknown.GetSpecifiedName(), "--"
	if unknown.GetSpecifiedShortnames() != "" {
		dashes = "-"
	}
	if near := config.Nearest(name, names); near != "" {
		return misused("unknown option %s%s; did you mean --%s?", dashes, name, near)
	}
	return misused("unknown option %s%s", dashes, name)
}

// change is a verb that changes the configuration. op makes its operation from the words
// that are no options.
type change struct {
	*cobra.Command
	op func(words []string) (config.Op, error)
}

// newChange makes a verb that applies op with do.
func newChange(
	cmd *cobra.Command, do func(*api.Client, config.Op) error, op func(words []string) (config.Op, error),
) change {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(_ *cobra.Command, words []string) error {
		op, err := op(words)
		if err != nil {
			return usageError{err}
		}
		c, err := dial()
		if err != nil {
			return err
		}
		return do(c, op)
	}
	return change{cmd, op}
}

// parse returns the operation of a line of `uvs save`.
func (c change) parse(args []string) (config.Op, error) {
	if err := c.ParseFlags(args); err != nil {
		return config.Op{}, flagError(c.Command, err)
	}
	return c.op(c.Flags().Args())
}

// dial connects to the director. Commands do not live long, so that memory is collected rarely.
var dial = func() (*api.Client, error) {
	debug.SetGCPercent(400)
	return api.Dial(api.SocketPath())
}

// query calls f with a client of the director.
func query[T any](f func(*api.Client) (T, error)) (v T, err error) {
	c, err := dial()
	if err == nil {
		v, err = f(c)
	}
	return v, err
}

func applyOp(op config.Op) error {
	return do(func(c *api.Client) error { return c.Apply(op) })
}

// option makes an option that is parsed into v.
func option[T any](v *T, parse func(string) (T, error)) func(string) error {
	return func(s string) (err error) {
		*v, err = parse(s)
		return err
	}
}

// repeatable makes an option that may be given several times. Its first value
// replaces the list, and further values are appended.
func repeatable[T any](list *[]T, read func(string) (T, error)) func(string) error {
	given := false
	return func(s string) error {
		v, err := read(s)
		if err != nil {
			return err
		}
		if !given {
			*list, given = nil, true
		}
		*list = append(*list, v)
		return nil
	}
}
