package main

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

func settingNoun() *cobra.Command {
	return noun("setting", "print and change settings, of the director or a service",
		settingGet(), settingSet().Command, settingList())
}

func settingSet() change {
	cmd := &cobra.Command{
		Use: "set NAME=VALUE...", Short: "change settings, or take those in a file of sysctl.d",
		Example: "uvs setting set slow_start=30 timeout_udp=5m\n" +
			"uvs setting set --service tcp:192.0.2.10:80 limit_conns=50\n" +
			"uvs setting set --import 90-ipvs.conf",
	}
	service := cmd.Flags().String("service", "", "for this `SERVICE` only, e.g. tcp:192.0.2.1:80")
	file := cmd.Flags().String("import", "",
		"take the settings of IPVS from this `FILE` of sysctl.d (-: standard input)")
	return newChange(cmd, (*api.Client).Apply, func(words []string) (config.Op, error) {
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
		key, err := parseService(*service)
		op.Service = &config.Service{ServiceKey: key}
		return op, err
	})
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

// settingsOf adds the option --service. The function that it returns asks for the settings.
func settingsOf(cmd *cobra.Command) func() ([]config.Setting, error) {
	service := cmd.Flags().String("service", "", "those of this `SERVICE`, e.g. tcp:192.0.2.1:80")
	return func() ([]config.Setting, error) {
		var of *config.ServiceKey
		if *service != "" {
			key, err := parseService(*service)
			if err != nil {
				return nil, usageError{err}
			}
			of = &key
		}
		return query(func(c *api.Client) ([]config.Setting, error) { return c.Settings(of) })
	}
}

func settingGet() *cobra.Command {
	cmd := &cobra.Command{
		Use: "get [NAME...]", Short: "print settings, with names only their values",
		Example: "uvs setting get slow_start\nuvs setting get --service tcp:192.0.2.10:80",
	}
	settings := settingsOf(cmd)
	return listing{
		columns: "NAME VALUE DEFAULT HELP", headless: true,
		list: func(names []string, add addRow) error {
			list, err := settings()
			if err != nil {
				return err
			}
			for i := range names {
				names[i] = config.SettingName(names[i])
				if !slices.ContainsFunc(list, func(k config.Setting) bool { return k.Name == names[i] }) {
					return fmt.Errorf("there is no setting %q; `uvs get` lists them", names[i])
				}
			}
			for _, k := range list {
				cells := []any{k.Name, k.Shown(k.Value), fmt.Sprintf("(default %s)", k.Shown(k.Default)), k.Help}
				if len(names) > 0 && !cmd.Flag("output").Changed {
					cells = cells[:2]
				}
				if len(names) == 0 || slices.Contains(names, k.Name) {
					add(k, cells...)
				}
			}
			return nil
		},
	}.of(cmd)
}

func settingList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "list settings, of the director or those that a service can have",
		Example: "uvs setting list\nuvs setting list --service tcp:192.0.2.10:80 -o wide",
	}
	settings := settingsOf(cmd)
	return listing{
		columns: "NAME VALUE DEFAULT UNIT +RANGE +HELP",
		list: func(_ []string, add addRow) error {
			list, err := settings()
			for _, k := range list {
				add(k, k.Name, k.Shown(k.Value), k.Shown(k.Default), k.Unit, k.Range(), k.Help)
			}
			return err
		},
	}.of(cmd)
}
