package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/ctl/file"
	"uvs/ctl/rest"
)

// checkVerb checks a file without a director.
func checkVerb() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "check a configuration file; it needs no director",
		Example: "uvs check uvs.yaml",
		RunE: func(_ *cobra.Command, words []string) error {
			f, err := readFile(words[0])
			if err != nil {
				return err
			}
			servers := 0
			for _, s := range f.Document.Services {
				servers += len(s.AllServers())
			}
			fmt.Printf("%s is right; services: %d, servers: %d, mark rules: %d\n", words[0],
				len(f.Document.Services), servers, len(f.Document.Marks))
			return nil
		},
	}
}

// diffVerb prints what applying a file would change. It also tells what the director starts
// with.
func diffVerb() *cobra.Command {
	var f *file.File
	cmd := listing{
		columns: "CHANGE SERVICE BEFORE AFTER CONNS CLIENTS",
		list: func(words []string, add addRow) (err error) {
			if f, err = readFile(words[0]); err != nil {
				return err
			}
			steps, err := query(func(c *api.Client) ([]api.Step, error) { return c.Diff(&f.Document) })
			if err != nil {
				return f.Locate(err)
			}
			for _, s := range steps {
				service := "-"
				if s.Op.Service != nil {
					service = s.Op.Service.Text()
				}
				add(s, s.Op.Kind, service, orDash(s.Before), orDash(s.Op.After()), s.Conns, s.Clients)
			}
			return nil
		},
	}.of(&cobra.Command{
		Use:     "diff FILE",
		Short:   "list what applying a file would change, and whose connections lose their server",
		Example: "uvs diff uvs.yaml\nuvs diff uvs.yaml -o json",
	})
	list := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		if err := list(cmd, words); err != nil {
			return err
		}
		info, err := query((*api.Client).Status)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "now the director would start with %s\n", info.NextStart)
		return printNotApplied(f)
	}
	return cmd
}

// printNotApplied names the options of a file that the director does not run with, and that only a
// start can change.
func printNotApplied(f *file.File) error {
	if f.Document.Director == nil {
		return nil
	}
	now, err := query(func(c *api.Client) (*config.Document, error) { d, _, err := c.Document(); return d, err })
	if err != nil || now.Director == nil {
		return err
	}
	if later := differentOptions(now.Director, f.Document.Director); len(later) > 0 {
		fmt.Fprintf(os.Stderr, "the director runs with other options, which only a start changes: %s\n",
			strings.Join(later, ", "))
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// applyVerb puts a file in force.
func applyVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "apply FILE", Short: "put a configuration file in force, whole or not at all",
		Long: "Services that stay as they are are not disturbed.\n" +
			"With --confirm, the change takes itself back unless `uvs confirm` comes in time.",
		Example: "uvs apply uvs.yaml\nuvs apply uvs.yaml --confirm 60s && uvs confirm",
	}
	confirm := cmd.Flags().Duration("confirm", 0, "take the change back after this `TIME`, unless it is confirmed")
	cmd.RunE = func(_ *cobra.Command, words []string) error {
		if *confirm < 0 || *confirm%time.Second != 0 {
			return misused("--confirm %v: want whole seconds, such as 60s", *confirm)
		}
		f, err := readFile(words[0])
		if err != nil {
			return err
		}
		o := api.ApplyOptions{How: "apply " + words[0], Confirm: config.Seconds(*confirm / time.Second)}
		if o.File, err = digest(&f.Document); err != nil {
			return err
		}
		revision, err := query(func(c *api.Client) (uint64, error) { return c.ApplyDocument(&f.Document, o) })
		if err != nil {
			return f.Locate(err)
		}
		fmt.Printf("revision %d is in force\n", revision)
		if *confirm > 0 {
			fmt.Printf("it is taken back in %v unless you run: uvs confirm\n", *confirm)
		}
		return printNotApplied(f)
	}
	return cmd
}

func confirmVerb() *cobra.Command {
	return &cobra.Command{
		Use: "confirm", Short: "keep what was applied with --confirm",
		Example: "uvs apply uvs.yaml --confirm 60s && uvs confirm",
		RunE:    func(*cobra.Command, []string) error { return do((*api.Client).Confirm) },
	}
}

// historyVerb lists the versions, or prints one.
func historyVerb() *cobra.Command {
	return listing{
		columns: "REVISION TIME AUTHOR HOW",
		list: func(_ []string, add addRow) error {
			versions, err := query((*api.Client).Versions)
			for _, v := range versions {
				add(v, v.Revision, v.Time.Local().Format(time.DateTime), v.Author, v.How)
			}
			return err
		},
	}.of(&cobra.Command{
		Use: "history", Short: "list the configurations that were applied, with author and time",
		Example: "uvs history\nuvs history -o json",
	})
}

func rollbackVerb() *cobra.Command {
	return &cobra.Command{
		Use: "rollback [REVISION]", Short: "put an earlier version in force; by default, that before the last",
		Example: "uvs rollback\nuvs rollback 12",
		RunE: func(_ *cobra.Command, words []string) error {
			revision := uint64(0)
			if len(words) > 0 {
				var err error
				if revision, err = strconv.ParseUint(words[0], 10, 64); err != nil {
					return misused("%q is not a revision; `uvs history` lists them", words[0])
				}
			}
			now, err := query(func(c *api.Client) (uint64, error) {
				if len(words) == 0 || revision > 0 {
					return c.Rollback(revision)
				}
				d, err := c.Version(0)
				if err != nil {
					return 0, err
				}
				return c.ApplyDocument(d, api.ApplyOptions{How: "rollback to 0"})
			})
			if err == nil {
				fmt.Printf("revision %d is in force\n", now)
			}
			return err
		},
	}
}

func reloadVerb() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "let the director read its file again, whole or not at all", Example: "uvs reload",
		RunE: func(*cobra.Command, []string) error {
			reloaded, err := query((*api.Client).Reload)
			if err != nil {
				return fileLineError{err}
			}
			fmt.Printf("revision %d is in force\n", reloaded.Revision)
			if later := reloaded.NextStart; len(later) > 0 {
				fmt.Printf("these options take effect at the next start: %s\n", strings.Join(later, ", "))
			}
			return nil
		},
	}
}

func schemaVerb() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "print the JSON Schema of configuration files, for editors",
		Example: "uvs schema >uvs.schema.json",
		RunE: func(*cobra.Command, []string) error {
			_, err := os.Stdout.Write(append(rest.Schema(), '\n'))
			return err
		},
	}
}

// logNoun shows and changes what the director logs.
func logNoun() *cobra.Command {
	set := &cobra.Command{
		Use: "set", Short: "change what the director logs, and how, until it ends",
		Example: "uvs log set --level debug\nuvs log set --format json",
	}
	level := set.Flags().String("level", "", "`LEVEL`: trace, debug, info, warn or error")
	format := set.Flags().String("format", "", "`FORM`: text, json or syslog")
	set.RunE = func(*cobra.Command, []string) error {
		if *level == "" && *format == "" {
			return misused("want --level or --format")
		}
		return do(func(c *api.Client) error {
			return c.SetLog(api.Log{Level: config.LogLevel(*level), Format: config.LogFormat(*format)})
		})
	}
	return noun("log", "show or change what the director logs", set, listing{
		columns: "NAME VALUE", headless: true, single: true,
		list: func(_ []string, add addRow) error {
			log, err := query((*api.Client).Log)
			if err != nil {
				return err
			}
			add(log, "level", log.Level)
			return add(nil, "format", log.Format)
		},
	}.of(&cobra.Command{Use: "show", Short: "show what the director logs, and how", Example: "uvs log show"}))
}

// do calls f with a client of the director.
func do(f func(*api.Client) error) error {
	_, err := query(func(c *api.Client) (struct{}, error) { return struct{}{}, f(c) })
	return err
}

// saveVerb prints the configuration that runs, or ran as a version.
func saveVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "save", Short: "print the configuration that runs, as a file",
		Example: "uvs save >uvs.yaml\nuvs save --commands >uvs.conf\nuvs save --version 12 | uvs diff -",
	}
	commands := cmd.Flags().Bool("commands", false, "print it as commands, one on each line")
	version := cmd.Flags().Uint64("version", 0, "print the configuration of this `REVISION`; `uvs history` lists them")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		byVersion := cmd.Flag("version").Changed
		if *commands && byVersion {
			return misused("--commands and --version exclude each other")
		}
		d, err := query(func(c *api.Client) (d *config.Document, err error) {
			if byVersion {
				return c.Version(*version)
			}
			d, _, err = c.Document()
			return d, err
		})
		if err != nil {
			return err
		}
		if *commands {
			var text bytes.Buffer
			writeConfig(&text, d)
			_, err = text.WriteTo(os.Stdout)
			return err
		}
		text, err := file.Marshal(d)
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(text)
		return err
	}
	return cmd
}

// restoreVerb replaces the director's configuration by the output of `uvs save`, whole or not
// at all.
func restoreVerb() *cobra.Command {
	return &cobra.Command{
		Use: "restore", Short: "replace the configuration by what `uvs save` printed, on standard input",
		Example: "uvs save | uvs restore\nuvs save --commands | uvs restore",
		RunE: func(*cobra.Command, []string) error {
			f, err := readFile("-")
			if err != nil {
				return fmt.Errorf("nothing changed: %w", err)
			}
			_, err = query(func(c *api.Client) (uint64, error) {
				return c.ApplyDocument(&f.Document, api.ApplyOptions{How: "restore"})
			})
			if err != nil {
				return fmt.Errorf("nothing changed: %w", f.Locate(err))
			}
			return nil
		},
	}
}
