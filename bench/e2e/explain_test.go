package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// The server that explain names before a connection gets that connection. After
// that, explain names the conn. Wrong tuples are refused in one line.
func TestExplain(t *testing.T) {
	needs(t, "curl")
	e := newClientServer(t, "nat", 2)
	explain := func(options string) string {
		return e.run("director", uvsBinary+" explain "+options+" tcp 10.1.0.2:4711 "+e.vip()+":7 --in-interface eth0")
	}
	for _, word := range []string{
		"forwarded_masq", "by scheduler rr", "none; this packet begins one", "MTU 1500",
		"timeout_tcp_established=900",
	} {
		if text := explain(""); !strings.Contains(text, word) {
			t.Errorf("%q is not in\n%s", word, text)
		}
	}
	eventually(t, "rr selects the server that listens", func() bool {
		var next struct {
			Server struct{ Address string }
		}
		must(t, json.Unmarshal([]byte(explain("--json")), &next))
		if next.Server.Address == e.addr(2, 11) {
			return true
		}
		e.tryRun("client", "curl -s --max-time 1 http://"+e.vip()+":7")
		return false
	})
	e.connect()
	list := e.run("director", uvsBinary+" ipvsadm -Lnc")
	line := strings.Fields(list[strings.Index(list, "ESTABLISHED"):])
	text := e.run("director", uvsBinary+" explain tcp "+line[1]+" "+e.vip()+":7")
	if !strings.Contains(text, e.addr(2, 11)+":7 by its conn") || !strings.Contains(text, "ESTABLISHED") {
		t.Errorf("of a connection:\n%s", text)
	}
	for _, bad := range []string{
		"tcp 10.1.0.2 10.9.0.1:80", "icmp 10.1.0.2:1 10.9.0.1:80",
		"tcp 10.1.0.2:1 [fd00::1]:80", "tcp 10.1.0.2:1",
	} {
		if out, err := e.tryRun("director", uvsBinary+" explain "+strings.NewReplacer("[", `\[`, "]", `\]`).
			Replace(bad)); err == nil || strings.Count(out, "\n") != 1 {
			t.Errorf("explain %s: %v\n%s", bad, err, out)
		}
	}
}
