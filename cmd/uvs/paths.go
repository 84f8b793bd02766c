package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"uvs/ctl/api"
)

// pathsMain lists the path to every server: uvs paths [--json].
func pathsMain(args []string) int { return listMain("paths", args, serverPaths, printPaths) }

// serverPath is the path to one server of one service.
type serverPath struct {
	Service string `json:"service"`
	Server  string `json:"server"`
	Method  string `json:"method"`
	api.PathStatus
}

func serverPaths(list []api.ServiceStatus) []serverPath {
	paths := []serverPath{} // an empty list in JSON, not null
	for i := range list {
		svc := &list[i]
		for _, v := range servers(svc) {
			paths = append(paths, serverPath{svc.Text(), v.ServerKey.String(), v.Method.String(), v.Path})
		}
	}
	return paths
}

// printPaths prints a line for every server: service, server, method and
// interface; the MTU of the first hop; how many packets were too long and how
// many were fragmented; and the path MTU if a lower one was learned.
func printPaths(out io.Writer, paths []serverPath) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, p := range paths {
		dev, learned := "-", "-"
		if p.Interface != "" {
			dev = p.Interface
		}
		if p.Learned != 0 {
			learned = fmt.Sprintf("path MTU %d learned from %s, for %d s", p.Learned, p.By, p.Seconds)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\n", p.Service, p.Server, p.Method, dev, p.MTU, p.TooBig,
			p.Split, learned)
	}
	return w.Flush()
}
