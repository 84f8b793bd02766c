package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// upKept starts the director without a file: it has what its state directory kept.
func (c *configured) upKept() {
	c.cmd = c.directorWith("director", []string{"--state", c.state}, "eth0", "eth1")
}

// writeLarge writes a file of a web service and 300 others, in which all has the weight.
func (c *configured) writeLarge(path string, weight int) {
	c.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "settings: {slow_start: %[1]ds, timeout_udp: %[1]ds}\nmarks: [{mark: %[1]d}]\nservices:\n", weight)
	for port := 80; port <= 380; port++ {
		fmt.Fprintf(&b, "- {address: %s, port: %d, protocol: tcp, servers: [", c.vip(), port)
		fmt.Fprintf(&b, "{address: %s, port: 80, weight: %d}, ", c.rip(0), weight)
		fmt.Fprintf(&b, "{address: %s, port: 80, weight: %d}]}\n", c.rip(1), weight)
	}
	must(c.t, os.WriteFile(path, []byte(b.String()), 0o600))
}

// A director is killed at any moment of `uvs apply`, with traffic. When it comes back it has the
// configuration of before or the new one, all of it: the new one if the apply succeeded, and was
// confirmed if it had to be.
func TestKilledInApply(t *testing.T) {
	c := newConfigured(t)
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	c.upKept()
	var files, saved [2]string
	for i := range files {
		files[i] = filepath.Join(c.dir, fmt.Sprintf("%d.yaml", i))
		c.writeLarge(files[i], 1+i)
		c.run("director", uvsBinary+" apply "+files[i])
		saved[i] = c.run("director", uvsBinary+" save")
	}
	began := time.Now()
	c.run("director", uvsBinary+" apply "+files[0])
	took := time.Since(began)
	c.start("client", "sh", "-c", "while :; do curl -s --max-time 1 http://"+c.vip()+"/; done")
	eventually(t, "traffic", func() bool { return len(c.answers()) == 2 })
	now := 0
	for round := range rounds {
		other := 1 - now
		apply, confirm := uvsBinary+" apply "+files[other], ""
		switch round % 3 {
		case 1:
			apply += " --confirm 60s"
		case 2:
			apply, confirm = apply+" --confirm 60s", " && "+uvsBinary+" confirm && echo confirmed"
		}
		output := make(chan string)
		go func() {
			out, _ := c.tryRun("director", apply+" && echo applied"+confirm)
			output <- out
		}()
		moment := rand.N(2 * took)
		<-time.After(moment) // any moment will do
		c.down(syscall.SIGKILL)
		out := <-output
		c.upKept()
		got := c.run("director", uvsBinary+" save")
		applied, confirmed := strings.Contains(out, "\napplied"), strings.Contains(out, "\nconfirmed")
		switch {
		case got != saved[now] && got != saved[other]:
			t.Fatalf("%s, killed after %v: between the two:\n%s", apply+confirm, moment, got)
		case round%3 == 0 && applied, round%3 == 2 && confirmed:
			if got != saved[other] {
				t.Errorf("%s, killed after %v: lost, after\n%s", apply+confirm, moment, out)
			}
		case round%3 == 1 || round%3 == 2 && !applied:
			if got != saved[now] {
				t.Errorf("%s, killed after %v: kept without a confirmation, after\n%s", apply+confirm, moment, out)
			}
		}
		t.Logf("killed after %v: applied %v, confirmed %v, new %v", moment, applied, confirmed, got != saved[now])
		if got == saved[other] {
			now = other
		}
		eventually(t, "answers of both servers", func() bool { return len(c.answers()) == 2 })
	}
}
