package director

import (
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// An end that closed its side waits for the other. If that is silent for too long, both
// are probed as those of an established connection.
func TestForgottenHalfClosedConn(t *testing.T) {
	clientFIN := wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPFin | wire.TCPAck}
	serverFIN := wiretest.Packet{
		SrcMAC: serverMAC[0], Src: "10.2.0.11:8080", Dst: "10.1.0.2:5000",
		TCPFlags: wire.TCPFin | wire.TCPAck,
	}
	for _, r := range []struct {
		name   string
		method conntrack.Method
		in     uint16
		fin    wiretest.Packet
		probes int
	}{
		{"nat, the client closed", conntrack.MethodMasq, 0, clientFIN, 2},
		{"nat, the server closed", conntrack.MethodMasq, 1, serverFIN, 2},
		{"dr, the client closed", conntrack.MethodRoute, 0, clientFIN, 1},
	} {
		w := newTestbed(t, r.method)
		settings := *w.conns.Settings()
		settings.ResetForgotten = true
		settings.Timeouts[conntrack.TCPCloseWait] = 2 * conntrack.Second
		settings.Timeouts[conntrack.TCPFinWait] = 2 * conntrack.Second
		w.conns.SetSettings(&settings)
		w.serverFor(syn("10.1.0.2:5000", "10.9.0.1:80"))
		w.serverFor(wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck})
		fin := in(r.in, r.fin)
		w.process(&fin)
		probes := 0
		for range 50 { // batches without frames
			w.now += 100
			w.dir.Process(w.now, w.table, nil, nil)
			probes += len(w.dir.Originate())
		}
		if probes != r.probes {
			t.Errorf("%s: %d probes, want %d", r.name, probes, r.probes)
		}
	}
}
