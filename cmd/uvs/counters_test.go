package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/ctl/api"
	"uvs/dataplane/helper"
	"uvs/dataplane/ring"
)

// docs/counters.md explains every counter besides the verdicts;
// TestCountersPage of dataplane/director checks the verdicts.
func TestCountersPageHasEveryCounter(t *testing.T) {
	page, err := os.ReadFile("../../docs/counters.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, list := range [][]api.Counter{
		connCounters(conntrack.Stats{}), waitingCounters(frag.New(1, 0)), portCounters(ring.PortStats{Interface: "IF"}),
	} {
		for _, c := range list {
			names = append(names, c.Name)
		}
	}
	for _, h := range helper.Registry {
		for _, event := range h.Events {
			names = append(names, h.Name+"_"+event)
		}
	}
	// The names of the guard's and the sessions' counters are in the source
	// only.
	for file, name := range map[string]string{
		"counters.go":         `"(guard_[a-z_]+)"`,
		"../../ctl/status.go": `"(ftp_[a-z_]+)"`,

		"../../ctl/rest/server.go": `"(api_[a-z_]+)"`,
	} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(name).FindAllStringSubmatch(string(source), -1)
		if len(found) < 2 {
			t.Errorf("%s has only %d counters", file, len(found))
		}
		for _, m := range found {
			names = append(names, m[1])
		}
	}
	for _, name := range names {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/counters.md lacks %s", name)
		}
	}
}
