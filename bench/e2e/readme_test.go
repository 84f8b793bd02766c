package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The commands below "Put it to work" in the README, pasted into a shell at
// once, make a director that serves. They find an empty /usr/sbin and /run.
func TestREADME(t *testing.T) {
	s := &topology{network: newNetwork(t, "curl"), method: "nat"}
	s.add("client", "director", "s1", "s2")
	s.bridge("lan1", "client", "director:eth0")
	s.bridge("lan2", "director:eth1", "s1", "s2")
	s.run("client", "ip addr add 192.0.2.2/24 dev eth0")
	s.run("director", "ip addr add 192.0.2.1/24 dev eth0 && ip addr add 10.0.0.1/24 dev eth1")
	for i, ns := range []string{"s1", "s2"} {
		s.run(ns, fmt.Sprintf("ip addr add 10.0.0.%d/24 dev eth0 && ip route add default via 10.0.0.1", 11+i))
		s.start(ns, uvsBinary, "rs", "--name", ns, "--port", "8080")
	}
	page, err := os.ReadFile("../../README.md")
	must(t, err)
	_, section, _ := strings.Cut(string(page), "\n## Put it to work\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var commands strings.Builder
	for line := range strings.Lines(section) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			commands.WriteString(command)
		}
	}
	if n := strings.Count(commands.String(), "\n"); n < 11 {
		t.Fatalf("found %d commands:\n%s", n, commands.String())
	}
	done := filepath.Join(s.dir, "done")
	s.start("director", "sh", "-c", fmt.Sprintf("trap 'kill $!; wait' TERM\n"+
		"mount -t tmpfs none /usr/sbin && mount -t tmpfs none /run && cd %s || exit\n"+
		"unset UVS_SOCKET; PATH=$PATH:/usr/sbin; set -e\n%s\n>%s; wait",
		filepath.Dir(uvsBinary), commands.String(), done))
	eventually(t, "the commands end well", func() bool { _, err := os.Stat(done); return err == nil })
	got := map[string]int{}
	for range 10 {
		out := s.run("client", "curl -s -f --max-time 10 http://192.0.2.10/")
		got[out[:2]]++
	}
	if got["s1"] != 5 || got["s2"] != 5 {
		t.Errorf("ten requests were answered by %v; rr wants five each", got)
	}
}
