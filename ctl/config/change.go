package config

import (
	"cmp"
	"slices"
	"syscall"

	"uvs/conntrack"
	"uvs/dataplane/cow"
)

// Apply applies op to s, which must come from Clone. If op is refused, with an *Error, s
// does not change, but Changed and AllChanged may report more than before.
func (s *State) Apply(op Op) error {
	switch op.Kind {
	case AddService, EditService, PutService, DeleteService, AddServer, EditServer, PutServer, DeleteServer, SetSorry:
		if op.Service == nil {
			return Errorf(syscall.EINVAL, "%s names no service", op.Kind)
		}
	case SetSettings, PutSettings, Zero:
	default:
		op.Service = nil
	}
	switch {
	case op.Kind == Zero: // the counters are not part of the state
	case op.Kind == SetAdmin, op.Kind == PutAdmin, op.Kind == Replace: // which services they concern, they find out
	case op.Service != nil:
		s.Touch(op.Service.ServiceKey)
	default:
		s.allChanged = true
	}
	switch op.Kind {
	case AddService, EditService:
		return s.putService(op)
	case PutService:
		return s.replaceService(*op.Service)
	case DeleteService:
		return s.deleteService(op)
	case Flush:
		for i := range s.Services {
			s.deleted = append(s.deleted, s.Services[i].ServiceKey)
		}
		s.Services, s.byKey = nil, cow.Map[ServiceKey, *Service]{}
		return nil
	case AddServer, EditServer, PutServer, DeleteServer:
		return s.changeServer(op)
	case SetAdmin:
		return s.setAdmin(op)
	case PutAdmin:
		return s.putAdmin(op.AdminRules)
	case Replace:
		return s.replace(op.Document)
	case SetTimeouts:
		return s.setTimeouts(op)
	case SetSettings, PutSettings:
		return s.setSettings(op)
	case SetSorry:
		return s.setSorry(op)
	case AddMarks, PutMarks, DeleteMarks:
		return s.changeMarks(op)
	case Standby, Active:
		s.Standby = op.Kind == Standby
		return nil
	case Zero:
		if op.Service == nil {
			return nil
		}
		_, err := s.Find(op.Service.ServiceKey)
		return err
	}
	return Errorf(syscall.EINVAL, "operation %q is not known", op.Kind)
}

// Clone copies what Apply writes to. It shares lists of servers and Values, which Apply
// replaces.
func (s *State) Clone() State {
	next := *s
	next.Revision++
	next.Services, next.byKey = slices.Clone(s.Services), s.byKey.Clone()
	next.deleted, next.changed, next.isChanged, next.allChanged = nil, nil, map[ServiceKey]bool{}, false
	return next
}

// Find returns the service with this key; without one the error is ESRCH.
func (s *State) Find(key ServiceKey) (*Service, error) {
	if svc, ok := s.byKey.Get(key); ok {
		return svc, nil
	}
	return nil, Errorf(syscall.ESRCH, "no service %s", key)
}

// put adds a service, or replaces the one with its key.
func (s *State) put(svc *Service) {
	if i := s.index(svc.ServiceKey); i >= 0 {
		s.Services[i] = svc
	} else {
		s.Services = append(s.Services, svc)
	}
	svc.Revision = s.Revision
	s.byKey.Set(svc.ServiceKey, svc)
}

// index returns the index of a service in Services; -1: it has none. It looks at the newest
// first, because scripts add the servers of a service after it.
func (s *State) index(key ServiceKey) int {
	svc, _ := s.byKey.Get(key)
	for i, other := range slices.Backward(s.Services) {
		if other == svc {
			return i
		}
	}
	return -1
}

// putService adds or edits a service.
func (s *State) putService(op Op) error {
	svc, err := checkedService(*op.Service)
	if err != nil {
		return err
	}
	old, missing := s.Find(svc.ServiceKey)
	switch {
	case op.Kind == EditService && missing != nil:
		return missing
	case op.Kind == EditService:
		svc.Settings, svc.Sorry, svc.Servers = old.Settings, old.Sorry, old.Servers
	case missing == nil:
		return Errorf(syscall.EEXIST, "service %s exists already", svc.ServiceKey)
	default:
		svc.Settings, svc.Sorry, svc.Servers = nil, nil, nil
	}
	if err := cmp.Or(s.checkScheduler(&svc), checkHelp(&svc)); err != nil {
		return err
	}
	s.put(&svc)
	return nil
}

func (s *State) deleteService(op Op) error {
	key := op.Service.ServiceKey
	i := s.index(key)
	if i < 0 {
		_, err := s.Find(key)
		return err
	}
	s.byKey.Delete(key)
	s.deleted = append(s.deleted, key)
	s.Services = slices.Delete(s.Services, i, i+1)
	return nil
}

func (s *State) changeServer(op Op) error {
	if op.Server == nil {
		return Errorf(syscall.EINVAL, "%s names no server", op.Kind)
	}
	old, err := s.Find(op.Service.ServiceKey)
	if err != nil {
		return err
	}
	svc, server := *old, *op.Server
	if op.Kind != DeleteServer {
		if err := checkServer(&svc, &server); err != nil {
			return err
		}
		server.Admin = s.AdminOf(svc.ServiceKey, server.ServerKey)
	}
	j := slices.IndexFunc(svc.Servers, func(v Server) bool { return v.ServerKey == server.ServerKey })
	switch {
	case op.Kind == AddServer && j >= 0:
		return Errorf(syscall.EEXIST, "service %s has server %s already", svc.ServiceKey, server.ServerKey)
	case op.Kind == AddServer, op.Kind == PutServer && j < 0:
		svc.Servers = append([]Server{server}, svc.Servers...)
	case j < 0:
		return Errorf(syscall.ENOENT, "service %s has no server %s", svc.ServiceKey, server.ServerKey)
	case op.Kind == EditServer, op.Kind == PutServer:
		svc.Servers = slices.Clone(svc.Servers)
		svc.Servers[j] = server
	default:
		svc.Servers = slices.Concat(svc.Servers[:j], svc.Servers[j+1:])
	}
	if err := s.checkScheduler(&svc); err != nil {
		return err
	}
	s.put(&svc)
	return nil
}

// setSorry gives a service a sorry server, or takes it away.
func (s *State) setSorry(op Op) error {
	old, err := s.Find(op.Service.ServiceKey)
	if err != nil {
		return err
	}
	svc := *old
	svc.Sorry = op.Server
	switch {
	case op.Server == nil && old.Sorry == nil:
		return Errorf(syscall.ENOENT, "service %s has no sorry server", svc.ServiceKey)
	case op.Server != nil:
		if svc.Sorry, err = s.checkedSorry(&svc, *op.Server); err != nil {
			return err
		}
	}
	s.put(&svc)
	return nil
}

// checkedSorry returns the sorry server of a service, if it can be that.
func (s *State) checkedSorry(svc *Service, server Server) (*Server, error) {
	server.Sorry, server.Weight, server.Upper, server.Lower = true, 1, 0, 0
	err := checkServer(svc, &server)
	server.Admin = s.AdminOf(svc.ServiceKey, server.ServerKey)
	return &server, err
}

// maxTimeout is the longest timeout and persistence, in seconds: 31 days.
const maxTimeout = 31 * 24 * 3600

func (s *State) setTimeouts(op Op) error {
	if op.Timeouts == nil {
		return Errorf(syscall.EINVAL, "%s carries no timeouts", op.Kind)
	}
	changes, t := Values{}, op.Timeouts
	for state, v := range map[conntrack.State]uint32{
		conntrack.TCPEstablished: t.TCP, conntrack.TCPFinWait: t.TCPFin, conntrack.UDPNormal: t.UDP,
	} {
		if v != 0 {
			i := slices.IndexFunc(settings, func(k Setting) bool { return k.isTimeout && k.state == state })
			changes[settings[i].Name] = v
		}
	}
	return s.setDirector(s.Settings, changes)
}

// setDirector changes settings of the director.
func (s *State) setDirector(before, changes Values) error {
	values, err := before.with(changes, false)
	if err != nil {
		return err
	}
	director := values.Over(defaults)
	if director.SchedOptions("") != s.Director().SchedOptions("") {
		for _, svc := range s.Services {
			if err := checkScheduler(svc, svc.Settings.Over(director)); err != nil {
				return err
			}
		}
	}
	s.Settings, s.director = values, director
	return nil
}

// setSettings changes or replaces settings of the director or of a service.
func (s *State) setSettings(op Op) error {
	before := s.Settings
	if op.Kind == PutSettings {
		before = nil
	}
	if op.Service == nil {
		return s.setDirector(before, op.Settings)
	}
	old, err := s.Find(op.Service.ServiceKey)
	if err != nil {
		return err
	}
	svc := *old
	if op.Kind == PutSettings {
		svc.Settings = nil
	}
	if svc.Settings, err = svc.Settings.with(op.Settings, true); err != nil {
		return err
	}
	if err := cmp.Or(s.checkScheduler(&svc), checkHelp(&svc)); err != nil {
		return err
	}
	s.put(&svc)
	return nil
}

// Director returns the director's settings. They must not be changed.
func (s *State) Director() *Settings { return cmp.Or(s.director, defaults) }

// SettingsOf returns the settings of a service: its own over the director's. They must not
// be changed.
func (s *State) SettingsOf(svc *Service) *Settings { return svc.Settings.Over(s.Director()) }

// ListSettings lists all settings or, for a service, those that it can have, with the
// director's values as the defaults.
func (s *State) ListSettings(of *ServiceKey) ([]Setting, error) {
	if of == nil {
		return s.Director().List(), nil
	}
	svc, err := s.Find(*of)
	if err != nil {
		return nil, err
	}
	list := s.SettingsOf(svc).list(s.Director())
	return slices.DeleteFunc(list, func(k Setting) bool { return !k.PerService }), nil
}

// Announce returns the value of announce for a service that has these settings of its own.
func (s *State) Announce(own Values) uint32 {
	if v, ok := own["announce"]; ok {
		return v
	}
	return s.Director().Announce
}
