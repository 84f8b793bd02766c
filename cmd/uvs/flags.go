package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
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

// parse reads a verb's options; ok is false when the verb must end with code.
func parse(fs *flag.FlagSet, args []string) (code int, ok bool) {
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Printf("Usage of %s:\n", fs.Name())
		fs.SetOutput(os.Stdout)
		fs.PrintDefaults()
		return 0, false
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v; see %s -h\n", fs.Name(), err, fs.Name())
		return 2, false
	case fs.NArg() > 0:
		fmt.Fprintf(os.Stderr, "%s: unexpected argument %q; see %s -h\n", fs.Name(), fs.Arg(0), fs.Name())
		return 2, false
	}
	return 0, true
}

// failed prints what went wrong in one line.
func failed(err error) int {
	fmt.Fprintln(os.Stderr, "uvs:", strings.ReplaceAll(err.Error(), "\n", "; "))
	return 1
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(v string) error {
	if v == "" {
		return errors.New("empty value")
	}
	*l = append(*l, v)
	return nil
}
