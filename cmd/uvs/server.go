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
	filter, err := serverFilter(*service, words...)
	if err != nil {
		return misused(fs, err)
	}
	return result(markServer(filter, down, reset))
}

// markServer marks a server down or up in the service, or in all that have it,
// at once. With reset it ends the server's connections.
func markServer(filter api.ConnFilter, down, reset bool) error {
	c, err := dial()
	if err != nil {
		return err
	}
	line := map[bool]string{true: "%s of %s is down: it gets no new connections\n", false: "%s of %s is up\n"}[down]
	err = editServers(c, filter, config.SetServerDown, func(s *config.Server) { s.Down = down }, line)
	if err != nil || !reset {
		return err
	}
	n, err := c.Flush(filter)
	if err == nil {
		fmt.Printf("%d connections ended\n", n)
	}
	return err
}
