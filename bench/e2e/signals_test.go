package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The signals of a terminal that is closed do not end a director.
func TestSignals(t *testing.T) {
	c := newConfigured(t)
	c.write(3)
	c.up()
	for _, s := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM,
	} {
		must(t, c.cmd.Process.Signal(s))
	}
	eventually(t, "the reload", func() bool {
		logs, _ := filepath.Glob(filepath.Join(c.dir, "director-env-*.log"))
		text, _ := os.ReadFile(logs[0])
		return strings.Contains(string(text), "reloaded")
	})
	if got := c.answers(); got["s1"] != 10 {
		t.Errorf("answers %v", got)
	}
}
