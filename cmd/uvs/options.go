package main

import (
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"uvs/ctl/config"
	"uvs/ctl/file"
	"uvs/ctl/routes"
)

// runFields are the options of `uvs run`, and the members of director in a file.
var runFields = []field{
	{member: "interfaces", option: "interface", kind: repeated, help: "run on this `INTERFACE` (repeatable)"},
	{member: "vlans", option: "vlan", kind: repeated, help: "run on a VLAN of one of these that has no device: " +
		"`IF.NUMBER[=ADDR/BITS,...]`, with its own addresses (repeatable)"},
	{member: "workers", help: "`NUMBER` of workers that process frames, each on its own CPU (default half the CPUs)"},
	{member: "pin", kind: asTrue, help: "pin workers to CPUs (default true)"},
	{member: "conn_max", help: "maximum `NUMBER` of entries of the connection table (default 1048576)"},
	{member: "memory_bytes", option: "memory", help: "most `BYTES` of the connection table; lowers --conn-max if " +
		"needed (0: only --conn-max limits)"},
	{member: "spin", kind: asText, help: "`TIME` an idle worker looks for frames before it sleeps (default 50us)"},
	{
		member: "localnode", kind: asTrue,
		help: "let the host itself be a server, through a device to its stack",
	},
	{member: "standby", kind: asTrue, help: "start on standby, until uvs active"},
	{member: "state", kind: asText, help: "keep what commands change in this `DIR`, for the next start"},
	{member: "start_from", kind: asText, help: "start from `WHICH` of --config and --state: newest (the file " +
		"if it has changed since it was applied), file or state"},
	{member: "sandbox", kind: asTrue, help: "run all but a small part as another user, without capabilities and with " +
		"few system calls (default true)"},
	{member: "user", kind: asText, help: "that `USER` (default: the account uvs, or user 64738)"},
	{member: "log_level", kind: asText, help: "`LEVEL`: trace, debug, info, warn or error (default info)"},
	{member: "log_format", kind: asText, help: "`FORM`: text, json or syslog (default text)"},
	{member: "group", kind: asText, help: "members of this `GROUP` may change what runs, besides root"},
	{member: "readers", kind: asText, help: "`WHO` else may list what runs: a group, or all"},
}

// options are the command line of `uvs run`.
type options struct {
	path  string // of the configuration file; "": there is none
	given members
}

// runConfig is what a director runs with.
type runConfig struct {
	config.Run
	path  string // of the configuration file; "": there is none
	vlans []routes.VLAN
	// document is the configuration of the file, with a digest of what it says; nil: there is
	// no file.
	document *config.Document
	digest   string
}

func (o *options) add(cmd *cobra.Command) {
	o.given = members{}
	cmd.Flags().StringVar(&o.path, "config", "", "configuration `FILE`: services, settings and these options")
	o.given.options(cmd, runFields)
}

// load reads the file. Options of the command line win over those in it.
func (o *options) load() (*runConfig, error) {
	cfg := &runConfig{Run: config.DefaultRun(), path: o.path}
	if o.path != "" {
		if err := cfg.read(o.path); err != nil {
			return nil, err
		}
	}
	if err := o.given.over(cfg.Run, &cfg.Run); err != nil {
		return nil, usageError{err}
	}
	if err := cfg.check(); err != nil {
		return nil, usageError{err}
	}
	return cfg, nil
}

// read takes the configuration of a file.
func (cfg *runConfig) read(path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // a pipe could keep a reload waiting
		return fmt.Errorf("%s is no regular file; the director reads it again at a reload", path)
	}
	f, err := readFile(path)
	if err != nil {
		return err
	}
	cfg.document = &f.Document
	if cfg.digest, err = digest(cfg.document); err != nil {
		return err
	}
	if f.Document.Director != nil {
		cfg.Run = *f.Document.Director
	}
	return nil
}

// digest returns a text that differs for configurations that differ.
func digest(d *config.Document) (string, error) {
	text, err := json.Marshal(d, json.Deterministic(true))
	return fmt.Sprintf("%x", sha256.Sum256(text)), err
}

// readFile reads a file that a director can have. The error names the line.
func readFile(path string) (*file.File, error) {
	f, err := file.Read(path, parseLine)
	if err != nil {
		return nil, err
	}
	if _, err := f.Document.State(new(config.State)); err != nil {
		return nil, f.Locate(err)
	}
	if run := f.Document.Director; run != nil {
		if err := run.Check(); err != nil {
			return nil, f.Locate(config.At(err, "director"))
		}
	}
	return f, nil
}

// check returns what is wrong with the options.
func (cfg *runConfig) check() error {
	if len(cfg.Interfaces) == 0 {
		return fmt.Errorf("no interface given; name one or more with --interface (there are: %s)",
			strings.Join(interfaceNames(), ", "))
	}
	for _, text := range cfg.VLANs {
		vlan, err := routes.ParseVLAN(text)
		if err != nil {
			return err
		}
		cfg.vlans = append(cfg.vlans, vlan)
	}
	return cfg.Check()
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
