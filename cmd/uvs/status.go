package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

func statusVerb() *cobra.Command {
	return listing{
		columns: "NAME VALUE", headless: true, single: true,
		list: func(_ []string, add addRow) error {
			info, err := query((*api.Client).Status)
			if err != nil {
				return err
			}
			add(info, "version", info.Version)
			add(nil, "pid", info.PID)
			add(nil, "sandbox", info.Sandbox)
			add(nil, "uptime", info.Uptime)
			add(nil, "role", info.Role)
			add(nil, "interfaces", strings.Join(info.Interfaces, " "))
			add(nil, "workers", info.Workers)
			add(nil, "revision", info.Revision)
			if info.ConfirmBy != nil {
				add(nil, "confirm_by", info.ConfirmBy.Local().Format(time.DateTime))
			}
			add(nil, "next_start", info.NextStart)
			return add(nil, "conn_size", info.ConnSize)
		},
	}.of(&cobra.Command{
		Use: "status", Short: "print what the director is and for how long it has run",
		Example: "uvs status\nuvs --wait 10s status -o json",
	})
}

// roleVerb makes the verb that leaves the VIPs to another director, or ends that.
func roleVerb(name string) *cobra.Command {
	kind, short := config.Standby, "leave the VIPs to another director: answer and forward nothing"
	if name == "active" {
		kind, short = config.Active, "serve the VIPs again, and announce them"
	}
	return &cobra.Command{
		Use: name, Short: short, Example: "uvs " + name,
		RunE: func(*cobra.Command, []string) error { return applyOp(config.Op{Kind: kind}) },
	}
}

func showRole() *cobra.Command {
	return &cobra.Command{
		Use: "role", Short: "print whether the director is active or standby", Example: "uvs role",
		RunE: func(*cobra.Command, []string) error {
			info, err := query((*api.Client).Info)
			if err == nil {
				fmt.Println(info.Role)
			}
			return err
		},
	}
}

// statsVerb lists the counters that are not zero.
func statsVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "stats", Short: "print the director's counters", Example: "uvs stats\nuvs stats --all -o json",
	}
	all := cmd.Flags().Bool("all", false, "also print counters that are zero")
	return listing{
		columns: "NAME VALUE",
		plain:   func(v any) string { return fmt.Sprint(v.(api.Counter).Name, " ", v.(api.Counter).Value) },
		list: func(_ []string, add addRow) error {
			list, err := query((*api.Client).Counters)
			for _, v := range list {
				if v.Value != 0 || *all {
					add(v, v.Name, v.Value)
				}
			}
			return err
		},
	}.of(cmd)
}

// eventsVerb prints the director's events, one JSON line each.
func eventsVerb() *cobra.Command {
	return &cobra.Command{
		Use: "events", Short: "print the director's events as they happen", Example: "uvs events",
		RunE: func(*cobra.Command, []string) error {
			c, err := dial()
			if err != nil {
				return err
			}
			enc := json.NewEncoder(os.Stdout)
			return c.Events(func(ev api.Event) error { return enc.Encode(ev) })
		},
	}
}
