package main

import (
	"fmt"
	"os"
	"slices"
	"text/tabwriter"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// setMain changes settings: uvs set [--service S] NAME=VALUE….
func setMain(args []string) int { return newSetLine().run(args) }

func newSetLine() commandLine {
	fs := newFlags("set")
	service := fs.String("service", "", "for this service only, e.g. tcp:192.0.2.1:80")
	return commandLine{fs, func(words []string) (config.Op, error) {
		op := config.Op{Verb: config.SetSettings, Settings: config.Values{}}
		if len(words) == 0 {
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

// getMain prints settings (uvs get [--service S] [NAME…]).
func getMain(args []string) int {
	fs := newFlags("get")
	service := fs.String("service", "", "those of this service, e.g. tcp:192.0.2.1:80")
	names, code, ok := parseRest(fs, args)
	if !ok {
		return code
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
