package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// configured is a director that runs from a file and keeps its state, with a client and two
// web servers by NAT.
type configured struct {
	*topology
	file  string
	state string
	cmd   *exec.Cmd
}

func newConfigured(t *testing.T) *configured {
	c := &configured{topology: &topology{network: newNetwork(t, "nginx", "curl"), method: "nat"}}
	c.file, c.state = filepath.Join(c.dir, "uvs.yaml"), filepath.Join(c.dir, "state")
	c.add("client", "director", "s1", "s2")
	c.bridge("lan1", "client", "director:eth0")
	c.bridge("lan2", "director:eth1", "s1", "s2")
	c.assign("director", "eth0", 1, 1)
	c.assign("director", "eth1", 2, 1)
	c.assign("client", "eth0", 1, 2)
	for i, ns := range []string{"s1", "s2"} {
		c.assign(ns, "eth0", 2, 11+i)
		c.prepareServer(ns)
		c.nginx(ns, c.dir)
	}
	return c
}

// write writes the file, with the weight of its one server, s1.
func (c *configured) write(weight int) {
	c.t.Helper()
	must(c.t, os.WriteFile(c.file, fmt.Appendf(nil, `director:
  interfaces: [eth0, eth1]
  state: %s
services:
  - address: %s
    port: 80
    protocol: tcp
    scheduler: wlc
    servers:
      - {address: %s, port: 80, method: nat, weight: %d}
`, c.state, c.vip(), c.rip(0), weight), 0o600))
}

func (c *configured) up() { c.cmd = c.directorWith("director", []string{"--config", c.file}) }

// down ends the director with a signal.
func (c *configured) down(s syscall.Signal) {
	c.t.Helper()
	must(c.t, c.cmd.Process.Signal(s)) // ip exec'd env, which exec'd the director
	c.cmd.Wait()
}

// listing returns the lines of servers in ipvsadm's listing.
func (c *configured) listing() (lines string) {
	c.t.Helper()
	for line := range strings.Lines(c.run("director", uvsBinary+" ipvsadm -Sn")) {
		if strings.HasPrefix(line, "-a") {
			lines += line
		}
	}
	return lines
}

// answers returns the servers that answer ten requests.
func (c *configured) answers() map[string]int {
	c.t.Helper()
	seen := map[string]int{}
	for range 10 {
		seen[strings.TrimSpace(c.run("client", "curl -sS --max-time 5 http://"+c.vip()+"/"))]++
	}
	return seen
}

// A director runs from ten lines of a file, without a command. What commands change is there
// again after it ended or was killed. The file wins if it was edited.
func TestConfigured(t *testing.T) {
	c := newConfigured(t)
	c.write(3)
	c.up()
	if got := c.answers(); len(got) != 1 || got["s1"] != 10 {
		t.Errorf("answers %v", got)
	}
	fromFile := c.listing()
	c.ipvsadm("director", fmt.Sprintf("ipvsadm -a -t %s:80 -r %s:80 -m -w 3", c.vip(), c.rip(1)))
	changed := c.listing()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		c.down(s)
		c.up()
		if got := c.listing(); got != changed {
			t.Errorf("after %v:\n%swant\n%s", s, got, changed)
		}
		if got := c.answers(); got["s1"] != 5 || got["s2"] != 5 {
			t.Errorf("after %v: answers %v", s, got)
		}
	}
	c.write(4)
	c.down(syscall.SIGTERM)
	c.up()
	if got, want := c.listing(), strings.ReplaceAll(fromFile, "-w 3", "-w 4"); got != want {
		t.Errorf("after the file was edited:\n%swant\n%s", got, want)
	}
}

// SIGHUP puts the file in force while connections go on. A file that is wrong changes nothing.
func TestReload(t *testing.T) {
	c := newConfigured(t)
	c.write(3)
	c.up()
	must(t, os.WriteFile(filepath.Join(c.dir, "big"), make([]byte, 200_000), 0o644))
	copied := filepath.Join(c.dir, "copy")
	download := c.start("client", "curl", "-sS", "--limit-rate", "50k", "-o", copied, "http://"+c.vip()+"/files/big")
	eventually(t, "the download begins", func() bool { _, err := os.Stat(copied); return err == nil })
	c.write(5)
	hangup := func() { must(t, c.cmd.Process.Signal(syscall.SIGHUP)) }
	hangup()
	eventually(t, "the new weight", func() bool { return strings.Contains(c.listing(), "-w 5") })
	before := c.listing()
	c.write(-1)
	hangup()
	eventually(t, "the error in the log", func() bool {
		logs, _ := filepath.Glob(filepath.Join(c.dir, "director-env-*.log"))
		text, _ := os.ReadFile(logs[0])
		return strings.Contains(string(text), "uvs.yaml:10: weight -1 is negative")
	})
	if got := c.listing(); got != before {
		t.Errorf("the wrong file changed\n%sinto\n%s", before, got)
	}
	if err := download.Wait(); err != nil {
		t.Errorf("the download: %v", err)
	}
}

// Two directors cannot have one state directory.
func TestStateOfAnother(t *testing.T) {
	c := newConfigured(t)
	c.write(3)
	c.up()
	out, err := c.tryRun("director", uvsBinary+" run --config "+c.file+" --interface lo --socket "+c.dir+"/other.sock")
	if err == nil || !strings.Contains(out, c.state) || !strings.Contains(out, "another director uses it") {
		t.Errorf("%v: %s", err, out)
	}
}
