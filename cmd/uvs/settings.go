package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"text/tabwriter"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// setMain changes settings: uvs set [--service S] NAME=VALUE…, or uvs set --import FILE.
func setMain(args []string) int { return newSetLine().run(args) }

func newSetLine() commandLine {
	fs := newFlags("set")
	service := fs.String("service", "", "for this service only, e.g. tcp:192.0.2.1:80")
	file := fs.String("import", "", "take the settings of IPVS from this `file` of sysctl.d (-: standard input)")
	return commandLine{fs, func(words []string) (config.Op, error) {
		op := config.Op{Kind: config.SetSettings, Settings: config.Values{}}
		switch {
		case *file != "" && (len(words) > 0 || *service != ""):
			return op, fmt.Errorf("--import takes only a file")
		case *file != "":
			return op, importSysctls(*file, op.Settings)
		case len(words) == 0:
			return op, fmt.Errorf("no setting given; write NAME=VALUE")
		}
		for _, word := range words {
			name, v, err := config.ParseSetting(word)
			if err != nil {
				return op, err
			}
			op.Settings[name] = v
		}
		if *service == "" {
			return op, nil
		}
		key, err := config.ParseServiceKey(*service)
		op.Service = &config.Service{ServiceKey: key}
		return op, err
	}}
}

// importSysctls adds the settings of a file for the kernel. It prints those without a
// counterpart or an effect.
func importSysctls(file string, values config.Values) (err error) {
	in := os.Stdin
	if file != "-" {
		if in, err = os.Open(file); err != nil {
			return err
		}
		defer in.Close()
	}
	skipped, err := config.ParseSysctls(in, values)
	switch {
	case err != nil:
		return fmt.Errorf("nothing imported: %w", err)
	case len(values)+len(skipped) == 0:
		return fmt.Errorf("nothing imported: no line sets net.ipv4.vs.*")
	}
	for _, line := range skipped {
		fmt.Printf("no counterpart: %s\n", line)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if why := config.WithoutEffect(name); why != "" {
			fmt.Printf("no effect: %s: %s\n", name, why)
		}
	}
	return nil
}

// getMain prints settings (uvs get [--service S] [NAME…]).
func getMain(args []string) int {
	fs := newFlags("get")
	service := fs.String("service", "", "those of this service, e.g. tcp:192.0.2.1:80")
	names, code, ok := parseRest(fs, args)
	if !ok {
		return code
	}
	for i := range names {
		names[i] = config.SettingName(names[i])
	}
	var of *config.ServiceKey
	if *service != "" {
		key, err := config.ParseServiceKey(*service)
		if err != nil {
			return misused(fs, err)
		}
		of = &key
	}
	list, ok := query(func(c *api.Client) ([]config.Setting, error) { return c.Settings(of) })
	if !ok {
		return 1
	}
	return printSettings(list, names)
}

func printSettings(list []config.Setting, names []string) int {
	for _, name := range names {
		if !slices.ContainsFunc(list, func(k config.Setting) bool { return k.Name == name }) {
			return failed(fmt.Errorf("there is no setting %q; `uvs get` lists them", name))
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	for _, k := range list {
		switch {
		case len(names) == 0:
			fmt.Fprintf(w, "%s\t%s\t(default %s)\t%s\n", k.Name, k.Shown(k.Value), k.Shown(k.Default), k.Help)
		case slices.Contains(names, k.Name):
			fmt.Fprintf(w, "%s\t%s\n", k.Name, k.Shown(k.Value))
		}
	}
	return 0
}
