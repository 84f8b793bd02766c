package main

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"uvs/ctl/config"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
	"uvs/sched"
)

// opMaker makes operations about the few objects below, so that most of them meet.
type opMaker struct{ *rand.Rand }

var (
	modelServices = keysOf("tcp:10.9.0.1:80", "tcp:10.9.0.1:21", "tcp:10.9.0.1:0", "udp:10.9.0.1:53",
		"udp:10.9.0.2:5060", "sctp:10.9.0.2:80", "tcp:[2001:db8:9::1]:80", "udp:[2001:db8:9::1]:53",
		"fwm:1", "fwm:2", "fwm6:1")
	modelAddrs = addrsOf("10.2.0.1", "10.2.0.2", "10.2.0.3", "2001:db8:2::1", "2001:db8:2::2")
	modelPorts = []uint16{80, 80, 8080, 53, 21, 5060, 0}
	kinds      = []config.OpKind{
		config.AddService, config.AddService, config.AddService, config.EditService, config.EditService,
		config.PutService, config.PutService, config.DeleteService, config.AddServer, config.AddServer,
		config.AddServer, config.AddServer, config.EditServer, config.EditServer, config.PutServer, config.PutServer,
		config.DeleteServer,
		config.SetTimeouts, config.Zero, config.SetSettings, config.SetSettings, config.PutSettings, config.SetSorry,
		config.SetSorry, config.SetAdmin, config.SetAdmin, config.SetAdmin, config.PutAdmin, config.AddMarks,
		config.AddMarks, config.PutMarks, config.DeleteMarks, config.Standby, config.Active,
	}
)

func keysOf(names ...string) (list []config.ServiceKey) {
	for _, name := range names {
		key, err := config.ParseServiceKey(name)
		if err != nil {
			panic(err)
		}
		list = append(list, key)
	}
	return list
}

func addrsOf(names ...string) (list []netip.Addr) {
	for _, name := range names {
		list = append(list, netip.MustParseAddr(name))
	}
	return list
}

// one returns one of a list.
func one[T any](m opMaker, list []T) T { return list[m.IntN(len(list))] }

// in reports true once in n times.
func (m opMaker) in(n int) bool { return m.IntN(n) == 0 }

// step makes operations that are to come into force together.
func (m opMaker) step(now *plainState) step {
	if m.in(4) {
		s := step{whole: !m.in(3)}
		for range 2 + m.IntN(7) {
			s.ops = append(s.ops, m.op(now))
		}
		return s
	}
	return step{whole: true, ops: []config.Op{m.op(now)}}
}

func (m opMaker) op(now *plainState) config.Op {
	op := config.Op{Kind: one(m, kinds)}
	switch {
	case m.in(200):
		return config.Op{Kind: config.Flush}
	case m.in(60):
		return config.Op{Kind: config.Replace, Document: m.document(now)}
	}
	key := one(m, modelServices)
	op.Service = &config.Service{ServiceKey: key}
	switch op.Kind {
	case config.AddService, config.EditService, config.PutService:
		op.Service = new(m.service(key))
		if op.Kind == config.PutService {
			m.fill(op.Service)
		}
	case config.AddServer, config.EditServer, config.PutServer:
		op.Server = new(m.server(key))
	case config.DeleteServer:
		op.Server = &config.Server{ServerKey: m.server(key).ServerKey}
	case config.SetSorry:
		if !m.in(3) {
			v := m.server(key)
			v.Sorry, v.Weight, v.Upper, v.Lower = true, 1, 0, 0
			op.Server = &v
		}
	case config.SetTimeouts:
		op.Timeouts = &config.Timeouts{TCP: m.seconds(), TCPFin: m.seconds(), UDP: m.seconds()}
	case config.SetSettings, config.PutSettings:
		op.Settings = m.values(!m.in(3))
		if m.in(2) {
			op.Settings = m.values(false)
			op.Service = nil
		}
	case config.Zero:
		if m.in(2) {
			op.Service = nil
		}
	case config.SetAdmin:
		op.Admin = new(m.adminRule())
	case config.PutAdmin:
		op.AdminRules = m.adminRules()
	case config.AddMarks, config.DeleteMarks, config.PutMarks:
		op.Marks = m.marks(op.Kind, now)
	}
	switch op.Kind {
	case config.SetTimeouts, config.SetAdmin, config.PutAdmin, config.AddMarks, config.DeleteMarks, config.PutMarks,
		config.Standby, config.Active:
		op.Service = nil
	}
	return op
}

func (m opMaker) seconds() uint32 { return one(m, []uint32{0, 1, 60, 300, 900, 2678400}) }

func (m opMaker) service(key config.ServiceKey) config.Service {
	s := config.Service{ServiceKey: key, Scheduler: one(m, sched.Names())}
	if key.Port == 0 && key.FWMark == 0 || m.in(3) {
		s.Persist = config.Seconds(one(m, []uint32{1, 300, 2678400}))
	}
	if m.in(4) {
		s.Netmask = config.Mask4(one(m, []uint32{0xffffff00, 0xff00ff00, 0}))
		if key.Is6() {
			s.Netmask = config.PrefixLen6(uint32(1 + m.IntN(128)))
		}
	}
	if m.in(3) {
		for _, flag := range []sched.Flags{sched.Flag1, sched.Flag2, sched.Flag3} {
			s.SchedFlags |= config.SchedFlags(flag) * config.SchedFlags(m.IntN(2))
		}
	}
	if key.Proto == wire.ProtoUDP && m.in(3) {
		s.OPS = true
	}
	if (key.Proto == wire.ProtoUDP || key.FWMark != 0) && m.in(3) {
		s.PE = config.EngineSIP
	}
	switch m.IntN(80) { // what no service can have
	case 0:
		s.Scheduler = "best"
	case 1:
		s.Persist = 2678401
	case 2:
		s.PE = "ftp"
	case 3:
		s.OPS = true
	case 4:
		s.Persist = 0
	case 5:
		s.Netmask = one(m, []config.Netmask{config.Mask4(0xffff0000), config.PrefixLen6(64)})
	}
	return s
}

// fill gives a service settings and servers.
func (m opMaker) fill(s *config.Service) {
	if m.in(2) {
		s.Settings = m.values(true)
	}
	if m.in(3) {
		v := m.server(s.ServiceKey)
		v.Sorry = true
		s.Sorry = &v
	}
	for range m.IntN(5) {
		v := m.server(s.ServiceKey)
		if m.in(8) && !v.Addr.IsMulticast() {
			v.Admin = config.Admin(m.IntN(3))
		}
		if !slices.ContainsFunc(s.Servers, func(o config.Server) bool { return o.Addr == v.Addr }) || m.in(10) {
			s.Servers = append(s.Servers, v)
		}
	}
}

func (m opMaker) server(key config.ServiceKey) config.Server {
	v := config.Server{ServerKey: config.ServerKey{Addr: one(m, modelAddrs), Port: key.Port}, Weight: int32(m.IntN(4))}
	if m.in(2) {
		v.Port = one(m, modelPorts)
	}
	v.Method = one(m, []config.Method{config.MethodNAT, config.MethodNAT, config.MethodDR, config.MethodTunnel})
	if v.Addr.Is6() != key.Is6() && !m.in(10) {
		v.Method = config.MethodTunnel
	}
	if m.in(3) {
		v.Upper = uint32(1 + m.IntN(100))
		v.Lower = uint32(m.IntN(int(v.Upper) + 1))
	}
	if v.Method == config.MethodTunnel {
		v.Tunnel.Type = one(m, []tunnel.Type{tunnel.IPIP, tunnel.GUE, tunnel.GRE})
		e := v.Tunnel.Type.Encapsulation()
		if e.Port != 0 {
			v.Tunnel.Port = one(m, []uint16{e.Port, 1, 65535})
		}
		v.Tunnel.Checksum = config.Checksum(m.IntN(int(e.MaxFlags) + 1))
	}
	switch m.IntN(80) { // what no server can have
	case 0:
		v.Weight = -1
	case 1:
		v.Upper, v.Lower = 1, 2
	case 2:
		v.Addr = netip.MustParseAddr("224.0.0.1")
	case 3:
		v.Tunnel.Checksum = 2
	case 4:
		v.Tunnel.Port = 9
	case 5:
		v.Method = config.MethodDR
	}
	return v
}

// values makes settings, of a service or of the director.
func (m opMaker) values(service bool) config.Values {
	values := config.Values{}
	list, _ := new(config.State).ListSettings(nil)
	for range 1 + m.IntN(3) {
		k := one(m, list)
		if service && !k.PerService && !m.in(20) {
			continue
		}
		value := one(m, []uint32{k.Min, k.Default, k.Max, k.Min + (k.Max-k.Min)/2})
		if len(k.Only) > 0 {
			value = one(m, k.Only)
		}
		if m.in(60) {
			value = k.Max + 1
		}
		values[k.Name] = value
	}
	switch {
	case m.in(20) && !service:
		values = config.Values{"expire_nodest_conn": uint32(m.IntN(2))}
	case m.in(200):
		values["slow_stop"] = 1
	}
	if len(values) == 0 {
		values["slow_start"] = uint32(m.IntN(3) * 30)
	}
	return values
}

func (m opMaker) adminRule() config.AdminRule {
	r := config.AdminRule{Admin: config.Admin(m.IntN(3))}
	r.Addr = one(m, modelAddrs)
	if m.in(2) {
		r.Port = one(m, modelPorts)
	}
	if m.in(2) {
		r.Service = one(m, modelServices)
	}
	return r
}

func (m opMaker) adminRules() []config.AdminRule {
	list := []config.AdminRule{}
	for range m.IntN(4) {
		r := m.adminRule()
		if r.Admin == config.AdminUp && !m.in(10) {
			r.Admin = config.AdminDrain
		}
		if !slices.ContainsFunc(list, func(o config.AdminRule) bool { return o.AdminScope == r.AdminScope }) {
			list = append(list, r)
		}
	}
	return list
}

func (m opMaker) marks(kind config.OpKind, now *plainState) (list []config.MarkRule) {
	if kind == config.DeleteMarks && len(now.marks) > 0 && !m.in(4) {
		return []config.MarkRule{one(m, now.marks)}
	}
	for range 1 + m.IntN(2) {
		r := config.MarkRule{Mark: uint32(1 + m.IntN(3)), IPv6: m.in(3)}
		if m.in(2) {
			r.Dst = netip.MustParsePrefix(one(m, []string{"10.9.0.0/24", "10.9.0.1/32", "0.0.0.0/0"}))
			if r.IPv6 {
				r.Dst = netip.MustParsePrefix(one(m, []string{"2001:db8:9::/64", "2001:db8:9::1/128", "::/0"}))
			}
		}
		if m.in(3) {
			r.Proto = one(m, []config.Proto{wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP})
			r.DstPorts = one(m, []config.Ports{
				nil,
				{{First: 80, Last: 80}},
				{{First: 443, Last: 443}, {First: 80, Last: 90}},
				{{First: 0, Last: 65535}},
			})
		}
		if m.in(5) {
			r.Interface = "eth0"
		}
		wrong := 60
		if len(list) == 0 { // one of a list, so that it is clear which is refused
			wrong = m.IntN(60)
		}
		switch wrong { // what no rule can have
		case 0:
			r.Mark = 0
		case 1:
			r.Interface = "eth9"
		case 2:
			r.Proto = wire.ProtoESP
		case 3:
			r.DstPorts = config.Ports{{First: 80, Last: 70}}
		case 4:
			r.Dst = netip.MustParsePrefix("10.9.0.1/24")
		}
		list = append(list, r)
	}
	return list
}

// document makes another configuration of the present one.
func (m opMaker) document(now *plainState) *config.Document {
	next := now.clone()
	for range 1 + m.IntN(6) {
		var op config.Op
		for op = m.op(now); op.Kind == config.Replace || op.Kind == config.Flush; op = m.op(now) {
		}
		changed := next.clone()
		if changed.apply(op) == 0 {
			next = changed
		}
	}
	d := next.document()
	if m.in(3) {
		m.Shuffle(len(d.Services), func(i, j int) { d.Services[i], d.Services[j] = d.Services[j], d.Services[i] })
	}
	if m.in(3) {
		d.Admin = nil
	}
	return d
}
