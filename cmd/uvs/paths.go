package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"uvs/ctl/api"
)

// serverPath is the path to one server of one service.
type serverPath struct {
	Service string `json:"service"`
	Server  string `json:"server"`
	Method  string `json:"method"`
	api.PathStatus
}

func pathsVerb() *cobra.Command {
	return listing{
		columns:  "SERVICE SERVER METHOD INTERFACE MTU TOO-LONG FRAGMENTED LEARNED",
		headless: true,
		list: func(_ []string, add addRow) error {
			list, err := query((*api.Client).Services)
			if err != nil {
				return err
			}
			return addPaths(list, add)
		},
	}.of(&cobra.Command{
		Use: "paths", Short: "list the MTU and the path MTU to every server",
		Example: "uvs paths\nuvs paths -o table --watch=5s",
	})
}

// addPaths adds a row for every server: service, server, method and interface; the MTU of the
// first hop; how many packets were too long and how many were fragmented; and the path MTU if
// a lower one was learned.
func addPaths(list []api.ServiceStatus, add addRow) error {
	for i := range list {
		s := &list[i]
		for _, v := range servers(s) {
			p, learned := v.Path, ""
			if p.Learned != 0 {
				learned = fmt.Sprintf("path MTU %d learned from %s, for %d s", p.Learned, p.By, p.Seconds)
			}
			if err := add(serverPath{s.Text(), v.ServerKey.String(), v.Method.String(), p}, s.Text(), v.ServerKey,
				v.Method, p.Interface, p.MTU, p.TooBig, p.Split, learned); err != nil {
				return err
			}
		}
	}
	return nil
}
