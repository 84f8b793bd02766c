package main

import (
	"fmt"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// downMain marks a server down: uvs down [--service S] [--reset] SERVER.
func downMain(args []string) int { return setServerState("down", true, args) }

// upMain ends that: uvs up [--service S] SERVER.
func upMain(args []string) int { return setServerState("up", false, args) }

func setServerState(name string, down bool, args []string) int {
	fs := newFlags(name)
	service := fs.String("service", "", "in this service only, e.g. tcp:192.0.2.1:80")
	reset := false
	if down {
		fs.BoolVar(&reset, "reset", false, "end the server's connections; their clients are reset")
	}
	words, code, ok := parseMixed(fs, args)
	if !ok {
		return code
	}
	if len(words) != 1 {
		return misused(fs, fmt.Errorf("name one server, e.g. 10.0.0.11 or 10.0.0.11:8080"))
	}
	filter, err := serverFilter(*service, words[0])
	if err != nil {
		return misused(fs, err)
	}
	return result(markServer(filter, down, reset))
}

// markServer marks a server down or up in the service, or in all that have it,
// at once. With reset it ends the server's connections.
func markServer(filter api.ConnFilter, down, reset bool) error {
	c, err := api.Dial(api.SocketPath())
	if err != nil {
		return err
	}
	list, err := findServers(c, filter.Service, filter.Server)
	if err != nil {
		return err
	}
	var ops []config.Op
	for i := range list {
		list[i].server.Down = down
		ops = append(ops, config.Op{Verb: config.SetServerDown, Service: &list[i].service, Server: &list[i].server})
	}
	state := map[bool]string{true: "down: it gets no new connections", false: "up"}[down]
	for i, err := range c.ApplyAll(ops) {
		if err != nil {
			return err
		}
		fmt.Printf("%s of %s is %s\n", list[i].server.ServerKey, list[i].service.ServiceKey, state)
	}
	if !reset {
		return nil
	}
	n, err := c.Flush(filter)
	if err == nil {
		fmt.Printf("%d connections ended\n", n)
	}
	return err
}
