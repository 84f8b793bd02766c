package director

import (
	"sync/atomic"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// persistentTestbed returns a testbed whose services on 10.9.0.1 are persistent, with a
// netmask.
func persistentTestbed(t *testing.T, method conntrack.Method, mask string) *testbed {
	t.Helper()
	w := newTestbed(t, method)
	for _, proto := range []uint8{wire.ProtoTCP, wire.ProtoUDP} {
		svc := w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, proto})
		svc.Persist, svc.Mask = 300*conntrack.Second, addr(mask)
	}
	return w
}

// templates returns all templates, as listings show them.
func (w *testbed) templates() (list []conntrack.Snapshot) {
	w.conns.Walk(func(s *conntrack.Snapshot) bool { return s.Template }, func(s *conntrack.Snapshot) bool {
		list = append(list, *s)
		return true
	})
	return list
}

// serverFor returns the server that a client's packet goes to; 0: none.
func (w *testbed) serverFor(p wiretest.Packet) int {
	f := in(0, p)
	w.process(&f)
	for i, mac := range serverMAC {
		if f.Out != wire.NoPort && wire.Ethernet(f.Bytes()).Dst() == mac {
			return i + 1
		}
	}
	return 0
}

// The key of a template is the protocol, the masked client with port 0, the VIP, and
// the port of the service. Its server has a port, or 0 where the service has every
// port.
func TestTemplateKey(t *testing.T) {
	rows := []struct {
		sentence, mask string
		port           uint16 // of the service; 0: every
		packet         wiretest.Packet
		client         string
		vport, sport   uint16 // of the template
		connPort       uint16 // the server's port of the conn
	}{
		{
			"a service of one port", "255.255.255.255", 80, syn("10.1.0.2:5000", "10.9.0.1:80"), "10.1.0.2", 80, 8080,
			8080,
		},
		{"a network of clients", "255.255.255.0", 80, syn("10.1.0.2:5000", "10.9.0.1:80"), "10.1.0.0", 80, 8080, 8080},
		{"a mask with gaps", "0.0.0.24", 80, syn("10.1.0.29:5000", "10.9.0.1:80"), "0.0.0.24", 80, 8080, 8080},
		{
			"a service of every port leaves ports alone", "255.255.255.255", 0, syn("10.1.0.2:5000", "10.9.0.1:80"),
			"10.1.0.2", 0, 0, 80,
		},
		{"whatever port is called", "255.255.255.255", 0, syn("10.1.0.2:5000", "10.9.0.1:443"), "10.1.0.2", 0, 0, 443},
		{"a service of FTP", "255.255.255.255", 21, syn("10.1.0.2:5000", "10.9.0.1:21"), "10.1.0.2", 0, 0, 8080},
		{
			"and the ports of its data", "255.255.255.255", 21, syn("10.1.0.2:5000", "10.9.0.1:20000"), "10.1.0.2", 0,
			0, 20000,
		},
		{"datagrams", "255.255.255.255", 80, datagram("10.1.0.2:5000", "10.9.0.1:80"), "10.1.0.2", 80, 8080, 8080},
	}
	for _, r := range rows {
		t.Run(r.sentence, func(t *testing.T) {
			w := persistentTestbed(t, conntrack.MethodNAT, r.mask)
			key := Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP}
			svc := w.table.serviceAt(key)
			w.table.Services.Delete(key)
			svc.Port, key.Port = r.port, r.port
			w.table.Services.Set(key, svc)
			w.serverFor(r.packet)
			list := w.templates()
			if len(list) != 1 {
				t.Fatalf("%d templates, want 1", len(list))
			}
			s := list[0]
			if s.Client != addr(r.client) || s.ClientPort != 0 || s.VIP != addr("10.9.0.1") ||
				s.VPort != r.vport || s.SPort != r.sport {
				t.Errorf("template %s:%d %s:%d > :%d", s.Client, s.ClientPort, s.VIP, s.VPort, s.SPort)
			}
			w.conns.Walk(func(s *conntrack.Snapshot) bool { return !s.Template }, func(s *conntrack.Snapshot) bool {
				if s.SPort != r.connPort {
					t.Errorf("the conn goes to port %d, want %d", s.SPort, r.connPort)
				}
				return true
			})
		})
	}
}

// A client keeps its server over connections and ports, and so does its network if the
// mask includes it. TCP and UDP are separate.
func TestTemplateHoldsClient(t *testing.T) {
	w := persistentTestbed(t, conntrack.MethodNAT, "255.255.255.0")
	for _, r := range []struct {
		sentence string
		packet   wiretest.Packet
		server   int
	}{
		{"the first client", syn("10.1.0.2:5000", "10.9.0.1:80"), 1},
		{"its next connection", syn("10.1.0.2:5001", "10.9.0.1:80"), 1},
		{"its neighbour", syn("10.1.0.3:5000", "10.9.0.1:80"), 1},
		{"another network", syn("10.1.1.2:5000", "10.9.0.1:80"), 2},
		{"UDP of the second network begins in turn", datagram("10.1.1.2:5000", "10.9.0.1:80"), 1},
		{"the first again", syn("10.1.0.2:5002", "10.9.0.1:80"), 1},
	} {
		if got := w.serverFor(r.packet); got != r.server {
			t.Errorf("%s: server %d, want %d", r.sentence, got, r.server)
		}
	}
	if n := w.conns.Counts(1).Templates.Load(); n != 1 {
		t.Errorf("the first server has %d templates, want 1", n)
	}
}

// A template is not used if its server was removed, or has weight 0 and the service
// demands that. A threshold does not matter.
func TestTemplateIsFollowed(t *testing.T) {
	rows := []struct {
		sentence string
		change   func(*testbed, *Service, *Server)
		stays    bool
	}{
		{"nothing changed", func(*testbed, *Service, *Server) {}, true},
		{"weight 0", func(_ *testbed, _ *Service, s *Server) { s.Weight = 0 }, true},
		{
			"weight 0 under expire_quiescent_template",
			func(_ *testbed, svc *Service, s *Server) { s.Weight, svc.ExpireQuiescent = 0, true }, false,
		},
		{"overloaded", func(w *testbed, _ *Service, s *Server) {
			s.Threshold = &Threshold{Upper: 1, Counts: w.conns.Counts(s.ID), Overload: new(atomic.Bool)}
			s.Threshold.Overload.Store(true)
		}, true},
		{"removed", func(w *testbed, _ *Service, s *Server) { s.InService = false }, false},
	}
	for _, r := range rows {
		t.Run(r.sentence, func(t *testing.T) {
			w := persistentTestbed(t, conntrack.MethodNAT, "255.255.255.255")
			svc := w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP})
			if w.serverFor(syn("10.1.0.2:5000", "10.9.0.1:80")) != 1 {
				t.Fatal("not at the first server")
			}
			r.change(w, svc, w.table.server(svc.Servers[0]))
			svc.Picker = pickConstant(1) // what the scheduler would say now
			want := 2
			if r.stays {
				want = 1
			}
			if got := w.serverFor(syn("10.1.0.2:5001", "10.9.0.1:80")); got != want {
				t.Errorf("server %d, want %d", got, want)
			}
			if got := w.serverFor(syn("10.1.0.2:5002", "10.9.0.1:80")); got != want {
				t.Errorf("then server %d, want %d", got, want)
			}
		})
	}
}

// A new connection renews a template; packets of its conns do not. It keeps the timeout
// that it began with: a changed -p applies to new templates.
func TestTemplateTimeout(t *testing.T) {
	w := persistentTestbed(t, conntrack.MethodNAT, "255.255.255.255")
	svc := w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP})
	left := func(want conntrack.Tick, sentence string) {
		t.Helper()
		w.advance(500)
		list := w.templates()
		if len(list) != 1 || list[0].Expires > want || list[0].Expires < want-2*conntrack.Second {
			t.Errorf("%s: %+v, want %d ms left", sentence, list, want)
		}
	}
	w.connect("10.1.0.2:5000")
	left(300*conntrack.Second, "at first")
	w.advance(100 * conntrack.Second)
	left(200*conntrack.Second, "later")
	w.send("10.1.0.2:5000", wire.TCPAck)
	left(200*conntrack.Second, "after a segment")
	svc.Persist = 1000 * conntrack.Second
	w.connect("10.1.0.2:5001")
	left(300*conntrack.Second, "after a new connection under another -p")
}
