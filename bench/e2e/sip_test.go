package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// The calls of a real SIP client, all from one socket, reach two real SIP
// servers by one-packet scheduling. Every message of a call reaches the server
// that got its first one, and replies come from the service. Sipp sends nothing twice
// (-nr): its server ends a call at a second INVITE, and a slow machine is no loss.
func TestSIPCalls(t *testing.T) {
	const calls = 40
	needs(t, "sipp", "ping")
	e := newClientServer(t, "nat", 2)
	e.tcp.Close()
	e.udp.Close()
	for i, ns := range []string{"s1", "s2"} {
		e.start(ns, "sipp", "-sn", "uas", "-i", e.addr(2, 11+i), "-p", "7", "-nr", "-nostdin", "-trace_err",
			"-error_file", e.dir+"/"+ns+".err")
		eventually(t, ns+" listens", func() bool { return strings.Contains(e.run(ns, "cat /proc/net/udp"), ":0007 ") })
	}
	e.ipvsadm("director", fmt.Sprintf("ipvsadm -E -u %s:7 -s rr -p 60 --pe sip -o", e.vip()))
	// So that the host knows the client as a neighbour, as it would a gateway. The director
	// drops replies until it knows.
	e.run("director", "ping -c 1 -W 5 "+e.addr(1, 2))
	eventually(t, "the director knows the client as a neighbour, and the servers", func() bool {
		out := e.run("director", fmt.Sprintf("%s services; %[1]s explain tcp %s:5060 %s:7 --in-interface eth0",
			uvsBinary, e.addr(1, 2), e.vip()))
		return strings.Contains(out, "back      by eth0") && !strings.Contains(out, "unresolved")
	})
	out, err := e.tryRun("client",
		fmt.Sprintf("sipp -sn uac %s:7 -i %s -p 5060 -t u1 -m %d -r %d -d 100 -timeout 60 -nr -nostdin -trace_err "+
			"-error_file %s/client.err", e.vip(), e.addr(1, 2), calls, calls, e.dir))
	if err != nil {
		t.Errorf("sipp: %v\n%s\n%s\n%s", err, out, e.run("client", "cat "+e.dir+"/*.err"),
			e.run("director", uvsBinary+" stats"))
	}
	list := e.run("director", uvsBinary+" ipvsadm -Lnc --persistent-conn")
	if n := strings.Count(list, " sip "); n != calls {
		t.Errorf("%d calls are listed, want %d:\n%s", n, calls, list)
	}
	for i := range 2 {
		if to := fmt.Sprintf("%s:7", e.addr(2, 11+i)); strings.Count(list, to) != calls/2 {
			t.Errorf("not half of the calls are at %s:\n%s", to, list)
		}
	}
	if n := e.counters()["dropped_no_call_id"]; n != 0 {
		t.Errorf("%d datagrams without a Call-ID", n)
	}
}
