package config

import (
	"errors"
	"net/netip"
	"reflect"
	"syscall"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

func key(proto Proto, s string) ServiceKey {
	ap := netip.MustParseAddrPort(s)
	return ServiceKey{Proto: proto, Addr: ap.Addr(), Port: ap.Port()}
}

func serverAt(s string, m Method, weight int32) Server {
	ap := netip.MustParseAddrPort(s)
	return Server{ServerKey: ServerKey{Addr: ap.Addr(), Port: ap.Port()}, Method: m, Weight: weight}
}

// startState has one service with two servers.
func startState(t *testing.T) State {
	t.Helper()
	var s State
	web := &Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:80"), Scheduler: "rr"}
	for _, op := range []Op{
		{Kind: AddService, Service: web},
		{Kind: AddServer, Service: web, Server: ptr(serverAt("10.2.0.11:8080", MethodNAT, 1))},
		{Kind: AddServer, Service: web, Server: ptr(serverAt("10.2.0.12:99", MethodDR, 3))},
	} {
		var err error
		if s, err = Change(s, op); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func ptr[T any](v T) *T { return &v }

// The newest server comes first. Servers that are not masqueraded get the service's port.
func TestChangeKeepsIPVSOrder(t *testing.T) {
	s := startState(t)
	want := []Server{serverAt("10.2.0.12:80", MethodDR, 3), serverAt("10.2.0.11:8080", MethodNAT, 1)}
	if got := s.Services[0].Servers; !reflect.DeepEqual(got, want) {
		t.Errorf("servers %v, want %v", got, want)
	}
}

// Wrong operations are refused with an errno, and change nothing.
func TestChangeRefuses(t *testing.T) {
	web := Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:80"), Scheduler: "rr"}
	none := Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:81"), Scheduler: "rr"}
	with := func(f func(*Service)) *Service { s := none; f(&s); return &s }
	server := func(f func(*Server)) *Server { s := serverAt("10.2.0.13:80", MethodNAT, 1); f(&s); return &s }
	tunnelled := func(t Tunnel) *Server { return server(func(s *Server) { s.Method, s.Tunnel = MethodTunnel, t }) }
	same := func(*Server) {}
	rows := []struct {
		sentence string
		op       Op
		errno    syscall.Errno
	}{
		{"a service twice", Op{Kind: AddService, Service: &web}, syscall.EEXIST},
		{"editing a service that is not there", Op{Kind: EditService, Service: &none}, syscall.ESRCH},
		{"deleting one", Op{Kind: DeleteService, Service: &none}, syscall.ESRCH},
		{"no service at all", Op{Kind: AddService}, syscall.EINVAL},
		{
			"an unknown scheduler",
			Op{Kind: AddService, Service: with(func(s *Service) { s.Scheduler = "best" })},
			syscall.ENOENT,
		},
		{"a multicast VIP", Op{
			Kind:    AddService,
			Service: with(func(s *Service) { s.Addr = netip.MustParseAddr("224.0.0.1") }),
		}, syscall.EINVAL},
		{"an unspecified VIP", Op{
			Kind:    AddService,
			Service: with(func(s *Service) { s.Addr = netip.MustParseAddr("0.0.0.0") }),
		}, syscall.EINVAL},
		{
			"a VIP with the family of a mark",
			Op{Kind: AddService, Service: with(func(s *Service) { s.IPv6 = true })},
			syscall.EINVAL,
		},
		{
			"a protocol without ports",
			Op{Kind: AddService, Service: with(func(s *Service) { s.Proto = wire.ProtoICMP })},
			syscall.EINVAL,
		},
		{
			"every port without persistence",
			Op{Kind: AddService, Service: with(func(s *Service) { s.Port = 0 })},
			syscall.EINVAL,
		},
		{
			"persistence of two months",
			Op{Kind: AddService, Service: with(func(s *Service) { s.Persist = 60 * 86400 })},
			syscall.EINVAL,
		},
		{
			"one-packet scheduling of TCP",
			Op{Kind: AddService, Service: with(func(s *Service) { s.OPS = true })},
			syscall.EINVAL,
		},
		{
			"a mark with an address",
			Op{Kind: AddService, Service: with(func(s *Service) { s.FWMark = 1 })},
			syscall.EINVAL,
		},
		{"an IPv6 mark's persistence with an IPv4 mask", Op{Kind: AddService, Service: with(func(s *Service) {
			s.ServiceKey, s.Persist, s.Netmask = ServiceKey{FWMark: 1, IPv6: true}, 300, Mask4(0xffffff00)
		})}, syscall.EINVAL},
		{
			"a persistence engine there is not",
			Op{Kind: AddService, Service: with(func(s *Service) { s.PE = "rtsp" })},
			syscall.ENOENT,
		},
		{"SIP calls by TCP", Op{Kind: AddService, Service: with(func(s *Service) { s.PE = "sip" })}, syscall.EINVAL},
		{"a server of no service", Op{Kind: AddServer, Service: &none, Server: server(same)}, syscall.ESRCH},
		{
			"a server twice",
			Op{Kind: AddServer, Service: &web, Server: ptr(serverAt("10.2.0.11:8080", MethodNAT, 1))},
			syscall.EEXIST,
		},
		{
			"a routed server twice, whatever port is given",
			Op{Kind: AddServer, Service: &web, Server: ptr(serverAt("10.2.0.12:1", MethodDR, 1))},
			syscall.EEXIST,
		},
		{
			"editing a server that is not there",
			Op{Kind: EditServer, Service: &web, Server: server(same)},
			syscall.ENOENT,
		},
		{"deleting one", Op{Kind: DeleteServer, Service: &web, Server: server(same)}, syscall.ENOENT},
		{
			"deleting a routed server by another port",
			Op{Kind: DeleteServer, Service: &web, Server: ptr(serverAt("10.2.0.12:99", MethodDR, 1))},
			syscall.ENOENT,
		},
		{
			"a negative weight",
			Op{Kind: AddServer, Service: &web, Server: server(func(s *Server) { s.Weight = -1 })},
			syscall.ERANGE,
		},
		{
			"a lower threshold above the upper",
			Op{Kind: AddServer, Service: &web, Server: server(func(s *Server) { s.Upper, s.Lower = 2, 3 })},
			syscall.ERANGE,
		},
		{"a broadcast server", Op{
			Kind: AddServer, Service: &web,
			Server: server(func(s *Server) { s.Addr = netip.MustParseAddr("255.255.255.255") }),
		}, syscall.EINVAL},
		{
			"a masqueraded server of the other family",
			Op{
				Kind: AddServer, Service: &web,
				Server: server(func(s *Server) { s.Addr = netip.MustParseAddr("fd00::1") }),
			},
			syscall.EINVAL,
		},
		{
			"a method that cannot be asked for",
			Op{
				Kind: AddServer, Service: &web,
				Server: server(func(s *Server) { s.Method = Method(conntrack.MethodLocal) }),
			},
			syscall.EINVAL,
		},
		{
			"a GUE tunnel to no port",
			Op{Kind: AddServer, Service: &web, Server: tunnelled(Tunnel{Type: tunnel.GUE})},
			syscall.EINVAL,
		},
		{"a GRE tunnel to a port", Op{
			Kind: AddServer, Service: &web,
			Server: tunnelled(Tunnel{Type: tunnel.GRE, Port: 6080}),
		}, syscall.EINVAL},
		{
			"an IPIP tunnel with a checksum",
			Op{Kind: AddServer, Service: &web, Server: tunnelled(Tunnel{Checksum: tunnel.Csum})},
			syscall.EINVAL,
		},
		{
			"remote checksum offload in a GRE tunnel",
			Op{Kind: AddServer, Service: &web, Server: tunnelled(Tunnel{Type: tunnel.GRE, Checksum: tunnel.RemCsum})},
			syscall.EINVAL,
		},
		{
			"an unknown tunnel type",
			Op{Kind: AddServer, Service: &web, Server: tunnelled(Tunnel{Type: 3})},
			syscall.EINVAL,
		},
		{
			"a tunnel type without a tunnel",
			Op{Kind: AddServer, Service: &web, Server: server(func(s *Server) { s.Tunnel = Tunnel{Type: tunnel.GRE} })},
			syscall.EINVAL,
		},
		{"an endless timeout", Op{Kind: SetTimeouts, Timeouts: &Timeouts{TCP: 1 << 31}}, syscall.EINVAL},
		{"an unknown setting", Op{Kind: SetSettings, Settings: Values{"speed": 1}}, syscall.EINVAL},
		{"a setting out of range", Op{Kind: SetSettings, Settings: Values{"conn_reuse_mode": 9}}, syscall.EINVAL},
		{
			"a service's own of what is the director's",
			Op{Kind: SetSettings, Service: &web, Settings: Values{"drop_packet": 1}},
			syscall.EINVAL,
		},
		{
			"an mh table of a size that is not prime",
			Op{Kind: SetSettings, Service: &web, Settings: Values{"mh_table": 4096}},
			syscall.EINVAL,
		},
		{
			"fields to hash beyond all there are",
			Op{Kind: SetSettings, Service: &web, Settings: Values{"hash_fields": 16}},
			syscall.EINVAL,
		},
		{
			"a slow start of a day",
			Op{Kind: SetSettings, Service: &web, Settings: Values{"slow_start": 86400}},
			syscall.EINVAL,
		},
		{
			"a setting of a service that is not there",
			Op{Kind: SetSettings, Service: &none, Settings: Values{"timeout_udp": 1}},
			syscall.ESRCH,
		},
		{
			"a sorry server of a service that is not there",
			Op{Kind: SetSorry, Service: &none, Server: server(same)},
			syscall.ESRCH,
		},
		{
			"a sorry server of the other family",
			Op{
				Kind: SetSorry, Service: &web,
				Server: server(func(s *Server) { s.Addr = netip.MustParseAddr("fd00::1") }),
			},
			syscall.EINVAL,
		},
		{"no sorry server where there is none", Op{Kind: SetSorry, Service: &web}, syscall.ENOENT},
		{"an unknown verb", Op{Kind: "improve"}, syscall.EINVAL},
	}
	for _, r := range rows {
		t.Run(r.sentence, func(t *testing.T) {
			before := startState(t)
			after, err := Change(before, r.op)
			if !errors.Is(err, r.errno) {
				t.Errorf("error %v, want errno %v", err, r.errno)
			}
			if !sameState(before, after) || !sameState(before, startState(t)) {
				t.Error("something changed")
			}
		})
	}
}

// An edit cannot make a service one whose helper it can have no more.
func TestEditKeepsHelper(t *testing.T) {
	s := startState(t)
	tftp := Service{ServiceKey: key(wire.ProtoUDP, "10.9.0.1:69"), Scheduler: "rr"}
	ops := tftp
	ops.OPS = true
	for _, op := range []Op{
		{Kind: AddService, Service: &tftp},
		{Kind: SetSettings, Service: &tftp, Settings: Values{"tftp": 1}},
	} {
		if err := s.Apply(op); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Apply(Op{Kind: EditService, Service: &ops}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("one-packet scheduling with a helper: %v", err)
	}
}

// Change does not modify the state that it is given.
func TestChangeCopies(t *testing.T) {
	web := Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:80"), Scheduler: "wlc"}
	for _, op := range []Op{
		{Kind: EditService, Service: &web},
		{Kind: DeleteService, Service: &web},
		{Kind: Flush},
		{Kind: EditServer, Service: &web, Server: ptr(serverAt("10.2.0.11:8080", MethodNAT, 7))},
		{Kind: DeleteServer, Service: &web, Server: ptr(serverAt("10.2.0.11:8080", MethodNAT, 0))},
	} {
		before := startState(t)
		after, err := Change(before, op)
		if err != nil {
			t.Fatalf("%s: %v", op.Kind, err)
		}
		if !sameState(before, startState(t)) {
			t.Errorf("%s changed the state it was given", op.Kind)
		}
		if sameState(before, after) {
			t.Errorf("%s changed nothing", op.Kind)
		}
	}
}

// Editing a service replaces all of it except its servers; 0 keeps a timeout.
func TestChangeReplaces(t *testing.T) {
	s, err := Change(startState(t),
		Op{Kind: EditService, Service: &Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:80"), Scheduler: "wlc"}})
	if err != nil || s.Services[0].Scheduler != "wlc" || len(s.Services[0].Servers) != 2 {
		t.Errorf("after edit: %+v, %v", s.Services[0], err)
	}
	s, err = Change(s, Op{Kind: SetTimeouts, Timeouts: &Timeouts{UDP: 5}})
	if want := (Timeouts{TCP: 900, TCPFin: 120, UDP: 5}); err != nil || s.Director().IPVSTimeouts() != want {
		t.Errorf("timeouts %+v, %v; want %+v", s.Director().IPVSTimeouts(), err, want)
	}
	for _, timeouts := range []Timeouts{{TCP: 66, TCPFin: 66, UDP: 66}, {TCP: 77, UDP: 77}} {
		if s, err = Change(s, Op{Kind: SetTimeouts, Timeouts: &timeouts}); err != nil {
			t.Fatalf("timeouts %+v: %v", timeouts, err)
		}
	}
	if got, want := s.Director().IPVSTimeouts(), (Timeouts{TCP: 77, TCPFin: 66, UDP: 77}); got != want {
		t.Errorf("timeouts %+v; want %+v", got, want)
	}
}

// sameState reports whether two states want the same.
func sameState(a, b State) bool { return reflect.DeepEqual(a.Clone(), b.Clone()) }

// Change returns the state after op, and leaves s as it is. Errors are *Error; then the
// state is s.
func Change(s State, op Op) (State, error) {
	next := s.Clone()
	if err := next.Apply(op); err != nil {
		return s, err
	}
	return next, nil
}

// An address with a zone is that of no service and no server, because frames have no zones.
func TestZones(t *testing.T) {
	zoned := netip.MustParseAddr("2001:db8::1%eth0")
	svc := &Service{ServiceKey: ServiceKey{Addr: zoned.WithZone(""), Port: 80, Proto: 6}, Scheduler: "rr"}
	s, err := Change(State{}, Op{Kind: AddService, Service: svc})
	if err != nil {
		t.Fatal(err)
	}
	other := *svc
	other.Addr = zoned
	for _, op := range []Op{
		{Kind: AddService, Service: &other},
		{Kind: PutService, Service: &other},
		{Kind: AddServer, Service: svc, Server: &Server{ServerKey: ServerKey{Addr: zoned}}},
		{Kind: SetSorry, Service: svc, Server: &Server{ServerKey: ServerKey{Addr: zoned}}},
		{Kind: SetAdmin, Admin: &AdminRule{AdminScope: AdminScope{Addr: zoned}, Admin: AdminDown}},
		{Kind: PutAdmin, AdminRules: []AdminRule{{AdminScope: AdminScope{Addr: zoned}, Admin: AdminDown}}},
	} {
		if _, err := Change(s, op); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s: %v", op, err)
		}
	}
}
