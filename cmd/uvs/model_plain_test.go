package main

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"syscall"

	"uvs/ctl/config"
)

// plainState is what operations make of a configuration, written down again in the plainest
// way. It knows which objects there are, and leaves it to the directors to refuse values.
type plainState struct {
	settings config.Values
	marks    []config.MarkRule
	admin    map[config.AdminScope]config.Admin
	services []config.Service
	standby  bool
}

func (p *plainState) clone() *plainState {
	next := *p
	next.settings, next.admin = maps.Clone(p.settings), maps.Clone(p.admin)
	next.marks, next.services = slices.Clone(p.marks), slices.Clone(p.services)
	for i := range next.services {
		s := &next.services[i]
		s.Settings, s.Servers = maps.Clone(s.Settings), slices.Clone(s.Servers)
	}
	return &next
}

// document returns the configuration.
func (p *plainState) document() *config.Document {
	d := &config.Document{Settings: p.settings, Marks: p.marks, Services: slices.Clone(p.services)}
	if d.Services == nil {
		d.Services = []config.Service{}
	}
	d.Admin = p.rules()
	return d
}

func (p *plainState) rules() []config.AdminRule {
	list := []config.AdminRule{}
	for scope, admin := range p.admin {
		list = append(list, config.AdminRule{AdminScope: scope, Admin: admin})
	}
	slices.SortFunc(list, func(a, b config.AdminRule) int { return cmp.Compare(a.String(), b.String()) })
	return list
}

// take makes the state what a configuration describes.
func (p *plainState) take(d *config.Document) syscall.Errno {
	*p = plainState{admin: p.admin, standby: p.standby}
	if d.Admin != nil {
		p.putAdmin(d.Admin)
	}
	p.set(&p.settings, d.Settings)
	if errno := p.apply(config.Op{Kind: config.PutMarks, Marks: d.Marks}); errno != 0 {
		return errno
	}
	for i := range d.Services {
		if p.find(d.Services[i].ServiceKey) != nil {
			return syscall.EEXIST
		}
		if errno := p.putService(d.Services[i]); errno != 0 {
			return errno
		}
	}
	return 0
}

func (p *plainState) find(key config.ServiceKey) *config.Service {
	for i := range p.services {
		if p.services[i].ServiceKey == key {
			return &p.services[i]
		}
	}
	return nil
}

// apply makes an operation, or returns what it lacks.
func (p *plainState) apply(op config.Op) syscall.Errno {
	var svc *config.Service
	if op.Service != nil {
		svc = p.find(op.Service.ServiceKey)
	}
	switch op.Kind {
	case config.AddService, config.PutService:
		if op.Kind == config.AddService && svc != nil {
			return syscall.EEXIST
		}
	default:
		if op.Service != nil && svc == nil {
			return syscall.ESRCH
		}
	}
	switch op.Kind {
	case config.AddService, config.EditService:
		head := *op.Service
		head.Settings, head.Sorry, head.Servers = nil, nil, nil
		if svc == nil {
			p.services = append(p.services, head)
			return 0
		}
		head.Settings, head.Sorry, head.Servers = svc.Settings, svc.Sorry, svc.Servers
		*svc = head
	case config.PutService:
		return p.putService(*op.Service)
	case config.DeleteService:
		same := func(s config.Service) bool { return s.ServiceKey == op.Service.ServiceKey }
		p.services = slices.DeleteFunc(p.services, same)
	case config.Flush:
		p.services = nil
	case config.AddServer, config.EditServer, config.PutServer, config.DeleteServer:
		return changeServer(svc, op)
	case config.SetTimeouts:
		for name, v := range map[string]uint32{
			"timeout_tcp_established": op.Timeouts.TCP, "timeout_tcp_fin_wait": op.Timeouts.TCPFin,
			"timeout_udp": op.Timeouts.UDP,
		} {
			if v != 0 {
				p.set(&p.settings, config.Values{name: v})
			}
		}
	case config.SetSettings, config.PutSettings:
		values := &p.settings
		if svc != nil {
			values = &svc.Settings
		}
		if op.Kind == config.PutSettings {
			*values = nil
		}
		p.set(values, op.Settings)
	case config.SetSorry:
		if op.Server == nil && svc.Sorry == nil {
			return syscall.ENOENT
		}
		svc.Sorry = sorryOf(svc, op.Server)
	case config.SetAdmin:
		return p.setAdmin(*op.Admin)
	case config.PutAdmin:
		p.putAdmin(op.AdminRules)
	case config.AddMarks, config.PutMarks, config.DeleteMarks:
		return p.changeMarks(op)
	case config.Standby, config.Active:
		p.standby = op.Kind == config.Standby
	case config.Replace:
		return p.take(op.Document)
	}
	return 0
}

// set sets settings, of which one has another name in the kernel.
func (p *plainState) set(values *config.Values, changes config.Values) {
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		value := changes[name]
		if name == "expire_nodest_conn" {
			name, value = "removed_conns", map[uint32]uint32{0: 1, 1: 3}[value]
		}
		if *values == nil {
			*values = config.Values{}
		}
		(*values)[name] = value
	}
}

// placed returns a server with the port that it has in a service.
func placed(svc *config.Service, v config.Server) config.Server {
	if v.Method != config.MethodNAT && svc.FWMark == 0 {
		v.Port = svc.Port
	}
	v.Admin = config.AdminUp
	return v
}

func sorryOf(svc *config.Service, v *config.Server) *config.Server {
	if v == nil {
		return nil
	}
	sorry := placed(svc, *v)
	sorry.Sorry, sorry.Weight, sorry.Upper, sorry.Lower = true, 1, 0, 0
	return &sorry
}

func (p *plainState) putService(s config.Service) syscall.Errno {
	own := config.Values(nil)
	p.set(&own, s.Settings)
	s.Settings, s.Sorry = own, sorryOf(&s, s.Sorry)
	given := s.Servers
	s.Servers = nil
	for _, v := range given {
		admin := v.Admin
		v = placed(&s, v)
		if slices.ContainsFunc(s.Servers, func(o config.Server) bool { return o.ServerKey == v.ServerKey }) {
			return syscall.EEXIST
		}
		s.Servers = append(s.Servers, v)
		if admin > p.adminOf(s.ServiceKey, v.ServerKey) {
			p.setRule(config.AdminRule{
				AdminScope: config.AdminScope{Service: s.ServiceKey, Addr: v.Addr, Port: v.Port}, Admin: admin,
			})
		}
	}
	if old := p.find(s.ServiceKey); old != nil {
		*old = s
	} else {
		p.services = append(p.services, s)
	}
	return 0
}

func changeServer(svc *config.Service, op config.Op) syscall.Errno {
	v := *op.Server
	if op.Kind != config.DeleteServer {
		v = placed(svc, v)
	}
	i := slices.IndexFunc(svc.Servers, func(o config.Server) bool { return o.ServerKey == v.ServerKey })
	switch {
	case op.Kind == config.AddServer && i >= 0:
		return syscall.EEXIST
	case op.Kind == config.AddServer, op.Kind == config.PutServer && i < 0:
		svc.Servers = append([]config.Server{v}, svc.Servers...)
	case i < 0:
		return syscall.ENOENT
	case op.Kind == config.DeleteServer:
		svc.Servers = slices.Delete(svc.Servers, i, i+1)
	default:
		svc.Servers[i] = v
	}
	return 0
}

func (p *plainState) adminOf(service config.ServiceKey, v config.ServerKey) (admin config.Admin) {
	for scope, held := range p.admin {
		if scope.Contains(config.AdminScope{Service: service, Addr: v.Addr, Port: v.Port}) {
			admin = max(admin, held)
		}
	}
	return admin
}

func (p *plainState) setRule(r config.AdminRule) {
	if p.admin == nil {
		p.admin = map[config.AdminScope]config.Admin{}
	}
	p.admin[r.AdminScope] = r.Admin
}

func (p *plainState) setAdmin(r config.AdminRule) syscall.Errno {
	if r.Admin != config.AdminUp {
		p.setRule(r)
		return 0
	}
	left, known := map[config.AdminScope]config.Admin{}, false
	for scope, admin := range p.admin {
		samePort := scope.Port == 0 || r.Port == 0 || scope.Port == r.Port
		none := config.ServiceKey{}
		sameService := scope.Service == none || r.Service == none || scope.Service == r.Service
		switch {
		case r.Contains(scope):
			known = true
		case scope.Addr == r.Addr && samePort && sameService:
			return syscall.EBUSY
		default:
			left[scope] = admin
		}
	}
	for i := range p.services {
		s := &p.services[i]
		for _, v := range s.AllServers() {
			known = known || r.Contains(config.AdminScope{Service: s.ServiceKey, Addr: v.Addr, Port: v.Port})
		}
	}
	if !known {
		return syscall.ENOENT
	}
	p.admin = left
	return 0
}

func (p *plainState) putAdmin(rules []config.AdminRule) {
	p.admin = nil
	for _, r := range rules {
		r.Admin = max(r.Admin, p.admin[r.AdminScope])
		p.setRule(r)
	}
}

// changeMarks has rules in their normal form: without the net of all addresses, and with
// sorted ports.
func (p *plainState) changeMarks(op config.Op) syscall.Errno {
	marks := slices.Clone(p.marks)
	if op.Kind == config.PutMarks {
		marks = nil
	}
	for _, r := range op.Marks {
		for _, net := range []*netip.Prefix{&r.Dst, &r.Src} {
			if net.IsValid() {
				r.IPv6 = net.Addr().Is6()
			}
		}
		for _, net := range []*netip.Prefix{&r.Dst, &r.Src} {
			if net.IsValid() && net.Bits() == 0 {
				*net = netip.Prefix{}
			}
		}
		for _, ports := range []*config.Ports{&r.DstPorts, &r.SrcPorts} {
			*ports = slices.Clone(*ports)
			slices.SortFunc(*ports, func(a, b config.PortRange) int { return cmp.Compare(a.First, b.First) })
		}
		i := slices.IndexFunc(marks, func(o config.MarkRule) bool { return o.String() == r.String() })
		switch {
		case op.Kind != config.DeleteMarks && i >= 0:
			return syscall.EEXIST
		case op.Kind != config.DeleteMarks:
			marks = append(marks, r)
		case i < 0:
			return syscall.ENOENT
		default:
			marks = slices.Delete(marks, i, i+1)
		}
	}
	p.marks = marks
	return 0
}
