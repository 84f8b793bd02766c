package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "dev"

// newFlags makes the flag set of a verb.
func newFlags(verb string) *flag.FlagSet {
	fs := flag.NewFlagSet("uvs "+verb, flag.ContinueOnError)
	fs.SetOutput(new(strings.Builder)) // errors are printed once, by parse
	fs.Usage = func() {}
	return fs
}

// parse parses a verb's options. ok is false if the verb must end with code.
func parse(fs *flag.FlagSet, args []string) (code int, ok bool) {
	rest, code, ok := parseRest(fs, args)
	if ok && len(rest) > 0 {
		return misused(fs, fmt.Errorf("unexpected argument %q", rest[0])), false
	}
	return code, ok
}

// parseRest is parse for verbs with arguments after the options.
func parseRest(fs *flag.FlagSet, args []string) (rest []string, code int, ok bool) {
	code, ok = reportParse(fs, fs.Parse(args))
	return fs.Args(), code, ok
}

// parseMixed is parseRest for verbs whose arguments may come before options.
func parseMixed(fs *flag.FlagSet, args []string) (words []string, code int, ok bool) {
	words, err := mixed(fs, args)
	code, ok = reportParse(fs, err)
	return words, code, ok
}

// mixed parses options and returns the words between them.
func mixed(fs *flag.FlagSet, args []string) (words []string, err error) {
	for err = fs.Parse(args); err == nil && fs.NArg() > 0; err = fs.Parse(fs.Args()[1:]) {
		words = append(words, fs.Arg(0))
	}
	return words, err
}

// reportParse prints the help that was requested, or what is wrong with the options.
func reportParse(fs *flag.FlagSet, err error) (code int, ok bool) {
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Printf("Usage of %s:\n", fs.Name())
		fs.SetOutput(os.Stdout)
		fs.PrintDefaults()
		return 0, false
	case err != nil:
		return misused(fs, err), false
	}
	return 0, true
}

// misused prints what is wrong with a command line and returns exit status 2.
func misused(fs *flag.FlagSet, err error) int {
	fmt.Fprintf(os.Stderr, "%s: %v; see %s -h\n", fs.Name(), err, fs.Name())
	return 2
}

// failed prints an error in one line and returns exit status 1.
func failed(err error) int {
	fmt.Fprintln(os.Stderr, "uvs:", strings.ReplaceAll(err.Error(), "\n", "; "))
	return 1
}

// result returns the exit status of a verb that ends with err, and prints err.
func result(err error) int {
	if err != nil {
		return failed(err)
	}
	return 0
}

// query calls f with a client of the director, and prints the error if there is
// one. ok is false then.
func query[T any](f func(*api.Client) (T, error)) (v T, ok bool) {
	c, err := dial()
	if err == nil {
		v, err = f(c)
	}
	return v, result(err) == 0
}

func dial() (*api.Client, error) { return api.Dial(api.SocketPath()) }

// printJSON prints a value as indented JSON and returns the exit status.
func printJSON(v any) int {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return result(enc.Encode(v))
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

// commandLine is a command that changes the configuration. op makes its
// operation from the words that are no options.
type commandLine struct {
	flags *flag.FlagSet
	op    func(words []string) (config.Op, error)
}

// run parses and applies the command, and returns the exit status.
func (l commandLine) run(args []string) int { return l.runWith(args, (*api.Client).Apply) }

// runWith is run for commands that do more with their operation.
func (l commandLine) runWith(args []string, do func(*api.Client, config.Op) error) int {
	words, code, ok := parseMixed(l.flags, args)
	if !ok {
		return code
	}
	op, err := l.op(words)
	if err != nil {
		return misused(l.flags, err)
	}
	c, err := dial()
	if err == nil {
		err = do(c, op)
	}
	return result(err)
}

// parse returns the operation of a line of `uvs save`.
func (l commandLine) parse(args []string) (config.Op, error) {
	words, err := mixed(l.flags, args)
	if err != nil {
		return config.Op{}, err
	}
	return l.op(words)
}
