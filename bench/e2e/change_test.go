package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// services is how many services TestChangesUnderTraffic adds and changes.
var services = flag.Int("services", 128, "how many services, of ten servers each, TestChangesUnderTraffic changes")

// Services and servers are added, reweighted and deleted by the hundred, and
// not one datagram of a steady flow is lost.
func TestChangesUnderTraffic(t *testing.T) {
	e := newClientServer(t, "nat", 1)
	go echoUDP(e.udp)
	stop, lost := make(chan struct{}), make(chan error, 1)
	client := e.dial("udp")
	defer client.Close()
	go func() {
		sent, received := make([]byte, 8), make([]byte, 64)
		for n := uint64(1); ; n++ {
			select {
			case <-stop:
				lost <- nil
				return
			default:
			}
			copy(sent, fmt.Sprintf("%08d", n%1e8))
			client.SetDeadline(time.Now().Add(20 * time.Second))
			client.Write(sent)
			if m, err := client.Read(received); err != nil || string(received[:m]) != string(sent) {
				lost <- fmt.Errorf("datagram %d: received %q, %v", n, received[:m], err)
				return
			}
		}
	}()
	restore := func(line func(svc string, server int) string, head func(svc string) string) {
		t.Helper()
		var b strings.Builder
		for s := range *services {
			svc := fmt.Sprintf("10.3.%d.%d:80", s/250, s%250+1)
			fmt.Fprintln(&b, head(svc))
			for server := 0; server < 10 && line != nil; server++ {
				fmt.Fprintln(&b, line(svc, server))
			}
		}
		file := filepath.Join(e.dir, "rules")
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		e.run("director", uvsBinary+" ipvsadm -R < "+file)
	}
	server := func(n int) string { return fmt.Sprintf("10.2.0.%d", 20+n) }
	restore(func(svc string, n int) string { return fmt.Sprintf("-a -t %s -r %s:80 -m", svc, server(n)) },
		func(svc string) string { return fmt.Sprintf("-A -t %s -s wlc", svc) })
	restore(func(svc string, n int) string { return fmt.Sprintf("-e -t %s -r %s:80 -m -w %d", svc, server(n), 1+n) },
		func(svc string) string { return fmt.Sprintf("-E -t %s -s mh", svc) })
	restore(nil, func(svc string) string { return "-D -t " + svc })
	close(stop)
	if err := <-lost; err != nil {
		t.Error(err)
	}
	for name, n := range e.counters() {
		if strings.HasPrefix(name, "dropped_") && n > 0 {
			t.Errorf("counter %s %d", name, n)
		}
	}
}
