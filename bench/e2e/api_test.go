package e2e

import (
	"os"
	"strings"
	"testing"
)

// The commands in docs/api.md, run by a shell one after the other, all end well.
func TestAPIPage(t *testing.T) {
	c := newConfigured(t)
	c.write(3)
	c.up()
	page, err := os.ReadFile("../../docs/api.md")
	must(t, err)
	script := "set -e; cd " + c.dir + "\n"
	for i, block := range strings.Split(string(page), "```") {
		if code, ok := strings.CutPrefix(block, "sh\n"); ok && i%2 == 1 {
			script += code
		}
	}
	if n := strings.Count(script, "\napi "); n < 40 {
		t.Fatalf("found %d requests:\n%s", n, script)
	}
	c.run("director", strings.ReplaceAll(script, "/run/uvs/uvs.sock", c.socket()))
}
