package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"uvs/conntrack"
	"uvs/dataplane/cow"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
	"uvs/sched"
)

// Apply applies op to s, which must come from Clone. If op is refused, with an *Error, s
// does not change, but Changed and AllChanged may report more than before.
func (s *State) Apply(op Op) error {
	switch op.Kind {
	case AddService, EditService, DeleteService, AddServer, EditServer, DeleteServer, SetSorry:
		if op.Service == nil {
			return Errorf(syscall.EINVAL, "%s names no service", op.Kind)
		}
	case SetSettings, Zero:
	default:
		op.Service = nil
	}
	switch {
	case op.Kind == Zero: // the counters are not part of the state
	case op.Kind == SetAdmin: // which services it concerns, setAdmin finds out
	case op.Service != nil:
		s.Touch(op.Service.ServiceKey)
	default:
		s.allChanged = true
	}
	switch op.Kind {
	case AddService, EditService:
		return s.putService(op)
	case DeleteService:
		return s.deleteService(op)
	case Flush:
		for i := range s.Services {
			s.deleted = append(s.deleted, s.Services[i].ServiceKey)
		}
		s.Services, s.byKey = nil, cow.Map[ServiceKey, *Service]{}
		return nil
	case AddServer, EditServer, DeleteServer:
		return s.changeServer(op)
	case SetAdmin:
		return s.setAdmin(op)
	case SetTimeouts:
		return s.setTimeouts(op)
	case SetSettings:
		return s.setSettings(op)
	case SetSorry:
		return s.setSorry(op)
	case AddMarks, DeleteMarks:
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
	if err := s.checkScheduler(&svc); err != nil {
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
	if op.Kind == AddServer || op.Kind == EditServer {
		if err := checkServer(&svc, &server); err != nil {
			return err
		}
		server.Admin = s.AdminOf(svc.ServiceKey, server.ServerKey)
	}
	j := slices.IndexFunc(svc.Servers, func(v Server) bool { return v.ServerKey == server.ServerKey })
	switch {
	case op.Kind == AddServer && j >= 0:
		return Errorf(syscall.EEXIST, "service %s has server %s already", svc.ServiceKey, server.ServerKey)
	case op.Kind == AddServer:
		svc.Servers = append([]Server{server}, svc.Servers...)
	case j < 0:
		return Errorf(syscall.ENOENT, "service %s has no server %s", svc.ServiceKey, server.ServerKey)
	case op.Kind == EditServer:
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
	return s.setDirector(changes)
}

// setDirector changes settings of the director.
func (s *State) setDirector(changes Values) error {
	values, err := s.Settings.with(changes, false)
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

// setSettings changes settings of the director or of a service.
func (s *State) setSettings(op Op) error {
	if op.Service == nil {
		return s.setDirector(op.Settings)
	}
	old, err := s.Find(op.Service.ServiceKey)
	if err != nil {
		return err
	}
	svc := *old
	if svc.Settings, err = old.Settings.with(op.Settings, true); err != nil {
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

// checkedService returns the service of an operation, if there can be such a service.
func checkedService(svc Service) (Service, error) {
	switch {
	case svc.FWMark != 0 && svc.ServiceKey != ServiceKey{FWMark: svc.FWMark, IPv6: svc.IPv6}:
		return svc, Errorf(syscall.EINVAL, "service %s: a mark has no address", svc.ServiceKey)
	case svc.FWMark != 0:
	case !svc.Proto.Served():
		return svc, Errorf(syscall.EINVAL, "service protocol %s is not TCP, UDP or SCTP", svc.Proto)
	case !Unicast(svc.Addr):
		return svc, Errorf(syscall.EINVAL, "service address %s is not unicast", svc.Addr)
	case svc.IPv6:
		return svc, Errorf(syscall.EINVAL, "service %s: only a mark has ipv6", svc.ServiceKey)
	case svc.Port == 0 && svc.Persist == 0:
		return svc, Errorf(syscall.EINVAL, "service %s: port 0 needs persistence", svc.ServiceKey)
	case svc.OPS && svc.Proto != wire.ProtoUDP:
		return svc, Errorf(syscall.EINVAL, "service %s: one-packet scheduling is only for UDP", svc.ServiceKey)
	}
	switch {
	case svc.Persist > maxTimeout:
		return svc, Errorf(syscall.EINVAL, "persistence of %s is longer than %s", svc.Persist, Seconds(maxTimeout))
	case svc.PE != "" && svc.PE != EngineSIP:
		return svc, Errorf(syscall.ENOENT, "persistence engine %q is not known; there is %s", svc.PE, EngineSIP)
	case svc.PE != "" && svc.FWMark == 0 && svc.Proto != wire.ProtoUDP:
		return svc, Errorf(syscall.EINVAL, "service %s: persistence engine %s is only for UDP", svc.ServiceKey, svc.PE)
	case svc.Netmask.version == 4 && svc.Is6():
		return svc, Errorf(syscall.EINVAL, "netmask %s: for IPv6 it is a prefix length, 1 to 128", svc.Netmask)
	case svc.Netmask.version == 6 && !svc.Is6():
		return svc, Errorf(syscall.EINVAL, "netmask %s: for IPv4 it is a mask such as 255.255.255.0", svc.Netmask)
	case !sched.Known(svc.Scheduler):
		return svc, Errorf(syscall.ENOENT, "scheduler %q is not known; there are %v", svc.Scheduler, sched.Names())
	}
	return svc, nil
}

// EngineSIP is the persistence engine that keeps each SIP call on one server.
const EngineSIP = "sip"

// checkServer checks that a server can belong to svc. Like IPVS, it gives the service's port
// to DR and tunnel servers, except those of a mark.
func checkServer(svc *Service, server *Server) error {
	if server.Method != MethodNAT && svc.FWMark == 0 {
		server.Port = svc.Port
	}
	switch {
	case !Unicast(server.Addr):
		return Errorf(syscall.EINVAL, "server address %s is not unicast", server.Addr)
	case server.Addr.Is6() != svc.Is6() && server.Method != MethodTunnel:
		return Errorf(syscall.EINVAL, "server %s is of another family than service %s, which only tunnels can join",
			server.Addr, svc.ServiceKey)
	case server.Method != MethodNAT && server.Method != MethodTunnel && server.Method != MethodDR:
		return Errorf(syscall.EINVAL, "forwarding method %s cannot be asked for", server.Method)
	case server.Weight < 0:
		return Errorf(syscall.ERANGE, "weight %d is negative", server.Weight)
	case server.Lower > server.Upper:
		return Errorf(syscall.ERANGE, "lower threshold %d is above the upper one, %d", server.Lower, server.Upper)
	}
	return checkTunnel(server)
}

// checkTunnel reports what is wrong with a server's tunnel options. It also refuses
// what ipvsadm refuses before it asks the director.
func checkTunnel(server *Server) error {
	t := server.Tunnel
	switch {
	case server.Method != MethodTunnel && t != Tunnel{}:
		return Errorf(syscall.EINVAL, "server %s: a tunnel type is given, but forwarding method %s is no tunnel",
			server.ServerKey, server.Method)
	case !t.Type.Known():
		return Errorf(syscall.EINVAL, "server %s: %s is not %s", server.ServerKey, t.Type, tunnel.OneOf())
	}
	switch e := t.Type.Encapsulation(); {
	case e.Port != 0 && t.Port == 0:
		return Errorf(syscall.EINVAL, "server %s: a %s tunnel needs a UDP port, which is usually %d",
			server.ServerKey, t.Type, e.Port)
	case e.Port == 0 && t.Port != 0:
		return Errorf(syscall.EINVAL, "server %s: a %s tunnel has no port, but %d is given",
			server.ServerKey, t.Type, t.Port)
	case uint16(t.Checksum) > e.MaxFlags:
		return Errorf(syscall.EINVAL, "server %s: the checksum of a %s tunnel is %s; it can be %s",
			server.ServerKey, t.Type, t.Checksum, strings.Join(checksumNames[:e.MaxFlags+1], ", "))
	}
	return nil
}

func (s *State) checkScheduler(svc *Service) error { return checkScheduler(svc, s.SettingsOf(svc)) }

// checkScheduler checks that the scheduler takes the service's flags, settings and servers.
func checkScheduler(svc *Service, settings *Settings) error {
	list := make([]sched.Server, len(svc.Servers))
	for i := range svc.Servers {
		v := &svc.Servers[i]
		list[i] = sched.Server{ID: uint32(i), Addr: wire.AddrFrom(v.Addr), Port: v.Port, Weight: v.Weight}
	}
	options := settings.SchedOptions(svc.Scheduler)
	if _, err := sched.New(svc.Scheduler, sched.Flags(svc.SchedFlags), list, options); err != nil {
		return Errorf(syscall.EINVAL, "service %s: %v", svc.ServiceKey, err)
	}
	return nil
}

// Unicast reports whether an address can be that of a single host.
func Unicast(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
