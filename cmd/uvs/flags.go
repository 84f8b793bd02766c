package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"uvs/ctl/api"
	"uvs/ctl/routes"
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
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Printf("Usage of %s:\n", fs.Name())
		fs.SetOutput(os.Stdout)
		fs.PrintDefaults()
		return nil, 0, false
	case err != nil:
		return nil, misused(fs, err), false
	}
	return fs.Args(), 0, true
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
	c, err := api.Dial(api.SocketPath())
	if err == nil {
		v, err = f(c)
	}
	return v, result(err) == 0
}

// printJSON prints a value as indented JSON and returns the exit status.
func printJSON(v any) int {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return result(enc.Encode(v))
}

// list is the values of an option that may be given several times.
type list []string

// vlans is the VLANs of an option that may be given several times.
type vlans []routes.VLAN

func (l *vlans) String() string { return "" }

func (l *vlans) Set(s string) error {
	v, err := routes.ParseVLAN(s)
	*l = append(*l, v)
	return err
}

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(v string) error {
	if v == "" {
		return errors.New("empty value")
	}
	*l = append(*l, v)
	return nil
}
