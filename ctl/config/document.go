package config

import (
	"maps"
	"slices"
	"syscall"
)

// Document is a whole configuration, as in files, from `uvs save` and in the API.
type Document struct {
	// Director are the options of `uvs run`.
	Director *Run `json:"director,omitzero"`
	// Settings are the director's that are not at their defaults.
	Settings Values `json:"settings,omitempty"`
	// Marks are the mark rules. The last that matches a packet decides.
	Marks []MarkRule `json:"marks,omitempty"`
	// Admin are the servers that get no new connections. If it is missing, they stay as they are.
	Admin []AdminRule `json:"admin,omitzero"`
	// Services are the virtual services with their servers. They can be missing only if the options
	// of `uvs run` are all that is given: then what is in force stays.
	Services []Service `json:"services,omitzero"`
}

// Document returns the configuration without the options of `uvs run`.
func (s *State) Document() *Document {
	d := &Document{Settings: s.Settings, Marks: s.Marks, Admin: s.AdminRules(), Services: []Service{}}
	for _, svc := range s.Services {
		d.Services = append(d.Services, svc.plain())
	}
	return d
}

// plain returns the service without what the state adds to it.
func (s *Service) plain() Service {
	plain := *s
	plain.Revision, plain.Servers = 0, slices.Clone(s.Servers)
	for i := range plain.Servers {
		plain.Servers[i].Admin = AdminUp
	}
	if s.Sorry != nil {
		plain.Sorry = new(*s.Sorry)
		plain.Sorry.Admin = AdminUp
	}
	return plain
}

// State returns the state that a configuration describes. Admin states that it does not give
// are those of before.
func (d *Document) State(before *State) (*State, error) {
	if d.Director != nil && d.Services == nil && d.Settings == nil && d.Marks == nil && d.Admin == nil {
		d = before.Document()
	}
	s := &State{Standby: before.Standby, Revision: before.Revision, isChanged: map[ServiceKey]bool{}}
	if err := s.setDirector(nil, d.Settings); err != nil {
		return nil, At(err, "settings")
	}
	if err := s.changeMarks(Op{Kind: PutMarks, Marks: d.Marks}); err != nil {
		return nil, err
	}
	rules := d.Admin
	if rules == nil {
		rules = before.AdminRules()
	}
	if err := s.putAdmin(rules); err != nil {
		return nil, err
	}
	if d.Services == nil {
		return nil, fieldErrorf("services", syscall.EINVAL, "services are missing; write services: [] for none")
	}
	for i, svc := range d.Services {
		if s.byKey.Has(svc.ServiceKey) {
			return nil, At(Errorf(syscall.EEXIST, "service %s is given twice", svc.ServiceKey), "services", i)
		}
		if err := s.replaceService(svc); err != nil {
			return nil, At(err, "services", i)
		}
	}
	return s, nil
}

// replaceService makes a service what svc is, with its settings and servers.
func (s *State) replaceService(svc Service) (err error) {
	admin := s.admin
	defer func() {
		if err != nil {
			s.admin = admin
		}
	}()
	if svc, err = checkedService(svc); err != nil {
		return err
	}
	if svc.Settings, err = Values(nil).with(svc.Settings, true); err != nil {
		return At(err, "settings")
	}
	seen := map[ServerKey]bool{}
	svc.Servers = slices.Clone(svc.Servers)
	for i := range svc.Servers {
		server := &svc.Servers[i]
		if err := checkServer(&svc, server); err != nil {
			return At(err, "servers", i)
		}
		if seen[server.ServerKey] {
			return At(Errorf(syscall.EEXIST, "server %s is given twice", server.ServerKey), "servers", i)
		}
		seen[server.ServerKey] = true
		s.takeAdmin(&svc, server)
	}
	if svc.Sorry != nil {
		if svc.Sorry, err = s.checkedSorry(&svc, *svc.Sorry); err != nil {
			return At(err, "sorry")
		}
	}
	if err := s.checkScheduler(&svc); err != nil {
		return At(err, "scheduler")
	}
	if err := checkHelp(&svc); err != nil {
		return At(err, "settings")
	}
	s.put(&svc)
	return nil
}

// takeAdmin makes an admin rule of the state that a server is given with, unless there is one.
func (s *State) takeAdmin(svc *Service, server *Server) {
	if admin := s.AdminOf(svc.ServiceKey, server.ServerKey); server.Admin > admin {
		s.admin = maps.Collect(maps.All(s.admin)) // a copy, also of none
		s.admin[AdminScope{svc.ServiceKey, server.Addr, server.Port}] = server.Admin
	}
	server.Admin = s.AdminOf(svc.ServiceKey, server.ServerKey)
}

// replace makes the state what a configuration describes. Services that stay the same are not
// Changed.
func (s *State) replace(d *Document) error {
	if d == nil {
		return Errorf(syscall.EINVAL, "%s carries no document", Replace)
	}
	next, err := d.State(s)
	if err != nil {
		return err
	}
	s.allChanged = s.allChanged || !maps.Equal(s.Settings, next.Settings) ||
		!slices.EqualFunc(s.Marks, next.Marks, MarkRule.equal)
	for _, svc := range s.Services {
		if !next.byKey.Has(svc.ServiceKey) {
			s.deleted = append(s.deleted, svc.ServiceKey)
			s.Touch(svc.ServiceKey)
		}
	}
	for i, svc := range next.Services {
		if old, err := s.Find(svc.ServiceKey); err == nil && old.equal(svc) {
			next.Services[i] = old
			next.byKey.Set(old.ServiceKey, old)
		} else {
			s.Touch(svc.ServiceKey)
		}
	}
	s.Services, s.byKey, s.Marks, s.admin = next.Services, next.byKey, next.Marks, next.admin
	s.Settings, s.director = next.Settings, next.director
	return nil
}

// server returns a server; nil: the service has none with this key.
func (s *Service) server(key ServerKey) *Server {
	if i := slices.IndexFunc(s.Servers, func(v Server) bool { return v.ServerKey == key }); i >= 0 {
		return &s.Servers[i]
	}
	return nil
}

// equal reports whether two services are the same, with the admin states of their servers.
func (s *Service) equal(o *Service) bool {
	return s.header() == o.header() && maps.Equal(s.Settings, o.Settings) && slices.Equal(s.Servers, o.Servers) &&
		(s.Sorry == nil) == (o.Sorry == nil) && (s.Sorry == nil || *s.Sorry == *o.Sorry)
}

// serviceHeader is what EditService changes of a service.
type serviceHeader struct {
	ServiceKey
	scheduler, pe string
	flags         SchedFlags
	persist       Seconds
	netmask       Netmask
	ops           bool
}

func (s *Service) header() serviceHeader {
	return serviceHeader{s.ServiceKey, s.Scheduler, s.PE, s.SchedFlags, s.Persist, s.Netmask, s.OPS}
}

// Diff returns operations that turn one state into another: one for each service that comes
// or goes and, for one that stays, for each part of it that changes.
func Diff(from, to *State) (ops []Op) {
	if !maps.Equal(from.Settings, to.Settings) {
		ops = append(ops, Op{Kind: PutSettings, Settings: to.Settings})
	}
	if !slices.EqualFunc(from.Marks, to.Marks, MarkRule.equal) {
		ops = append(ops, Op{Kind: PutMarks, Marks: to.Marks})
	}
	for _, old := range from.Services {
		if !to.byKey.Has(old.ServiceKey) {
			ops = append(ops, Op{Kind: DeleteService, Service: old})
		}
	}
	for _, svc := range to.Services {
		old, err := from.Find(svc.ServiceKey)
		switch {
		case err != nil:
			ops = append(ops, Op{Kind: PutService, Service: new(svc.plain())})
		case old != svc:
			ops = append(ops, diffService(old, svc)...)
		}
	}
	if !maps.Equal(from.admin, to.admin) {
		ops = append(ops, Op{Kind: PutAdmin, AdminRules: to.AdminRules()})
	}
	return ops
}

func diffService(old, svc *Service) (ops []Op) {
	head := *svc
	head.Settings, head.Sorry, head.Servers = nil, nil, nil
	key := &Service{ServiceKey: svc.ServiceKey}
	if old.header() != svc.header() {
		ops = append(ops, Op{Kind: EditService, Service: &head})
	}
	if !maps.Equal(old.Settings, svc.Settings) {
		ops = append(ops, Op{Kind: PutSettings, Service: key, Settings: svc.Settings})
	}
	was, is := old.plain(), svc.plain()
	for i := range was.Servers {
		if v := &was.Servers[i]; is.server(v.ServerKey) == nil {
			ops = append(ops, Op{Kind: DeleteServer, Service: key, Server: v})
		}
	}
	for i := range slices.Backward(is.Servers) { // the newest comes first
		v := &is.Servers[i]
		switch before := was.server(v.ServerKey); {
		case before == nil:
			ops = append(ops, Op{Kind: AddServer, Service: key, Server: v})
		case *before != *v:
			ops = append(ops, Op{Kind: EditServer, Service: key, Server: v})
		}
	}
	if (was.Sorry == nil) != (is.Sorry == nil) || was.Sorry != nil && *was.Sorry != *is.Sorry {
		ops = append(ops, Op{Kind: SetSorry, Service: key, Server: is.Sorry})
	}
	return ops
}
