package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// Admin is what the operator decided about a server. It holds whatever others do with the
// server, until the operator takes it back.
type Admin uint8

// The admin states, the strongest last.
const (
	AdminUp    Admin = iota
	AdminDrain       // weight 0, whatever is configured
	AdminDown        // no new connections, not even of persistent clients
)

// AdminNames are the words for Admin.
var AdminNames = []string{AdminUp: "up", AdminDrain: "drain", AdminDown: "down"}

func (a Admin) String() string { return AdminNames[a] }

// MarshalText returns the name.
func (a Admin) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText parses a name.
func (a *Admin) UnmarshalText(name []byte) error {
	i, err := indexOf("admin state", AdminNames, name)
	*a = Admin(i)
	return err
}

// AdminScope is the servers that an admin state holds for, also those that are added later.
type AdminScope struct {
	Service ServiceKey `json:"service,omitzero"` // any if not given
	Addr    netip.Addr `json:"address"`          // of the servers
	Port    uint16     `json:"port,omitzero"`    // of the servers; any if not given
}

// AdminRule is an admin state of some servers.
type AdminRule struct {
	AdminScope
	// Admin is drain for weight 0, or down for no new connections at all.
	Admin Admin `json:"admin"`
}

// Contains reports whether all of o is in the scope.
func (a AdminScope) Contains(o AdminScope) bool {
	return a.Addr == o.Addr && (a.Port == 0 || a.Port == o.Port) &&
		(a.Service == ServiceKey{} || a.Service == o.Service)
}

func (a AdminScope) overlaps(o AdminScope) bool {
	return a.Addr == o.Addr && (a.Port == 0 || o.Port == 0 || a.Port == o.Port) &&
		(a.Service == ServiceKey{} || o.Service == ServiceKey{} || a.Service == o.Service)
}

// ServerText returns the servers of the scope as options name them: an address, perhaps with a port.
func (a AdminScope) ServerText() string {
	if a.Port == 0 {
		return a.Addr.String()
	}
	return netip.AddrPortFrom(a.Addr, a.Port).String()
}

// String returns the scope as the words of a command line.
func (a AdminScope) String() string {
	if a.Service == (ServiceKey{}) {
		return a.ServerText()
	}
	return fmt.Sprintf("--service %s %s", a.Service.Text(), a.ServerText())
}

// AdminRules returns the admin states that are not up, in the order of their text.
func (s *State) AdminRules() []AdminRule {
	list := []AdminRule{}
	for scope, admin := range s.admin {
		list = append(list, AdminRule{scope, admin})
	}
	slices.SortFunc(list, func(a, b AdminRule) int { return strings.Compare(a.String(), b.String()) })
	return list
}

// AdminOf returns the admin state of a server: the strongest of the scopes that contain it.
func (s *State) AdminOf(service ServiceKey, server ServerKey) (admin Admin) {
	if len(s.admin) == 0 {
		return AdminUp
	}
	for _, service := range []ServiceKey{{}, service} {
		for _, port := range []uint16{0, server.Port} {
			admin = max(admin, s.admin[AdminScope{service, server.Addr, port}])
		}
	}
	return admin
}

// setAdmin changes the admin state of a scope. Up takes back the states of all scopes in it.
func (s *State) setAdmin(op Op) error {
	if op.Admin == nil || checkAddr("server", op.Admin.Addr) != nil {
		return Errorf(syscall.EINVAL, "%s names no server", op.Kind)
	}
	rule, admin, known := *op.Admin, map[AdminScope]Admin{}, false
	for scope, held := range s.admin {
		switch {
		case rule.Admin == AdminUp && rule.Contains(scope):
			known = true
			continue
		case rule.Admin == AdminUp && rule.overlaps(scope):
			return Errorf(syscall.EBUSY, "nothing changed: `uvs %s %s` holds more than %s; `uvs up %s` takes it back",
				held, scope, rule, scope)
		}
		admin[scope] = held
	}
	if rule.Admin != AdminUp {
		admin[rule.AdminScope], known = rule.Admin, true
	}
	s.admin = admin // Clone shares the old one
	for _, svc := range slices.Clone(s.Services) {
		known = s.updateAdmin(svc, rule.Contains) || known
	}
	if !known {
		return Errorf(syscall.ENOENT, "no service has the server %s; `uvs services` lists them", rule)
	}
	return nil
}

// putAdmin replaces all admin states.
func (s *State) putAdmin(rules []AdminRule) error {
	admin := map[AdminScope]Admin{}
	for i, rule := range rules {
		switch {
		case checkAddr("server", rule.Addr) != nil:
			return At(checkAddr("server", rule.Addr), "admin", i)
		case rule.Admin == AdminUp:
			return At(fieldErrorf("admin", syscall.EINVAL, "a server is up unless it is drain or down"), "admin", i)
		}
		admin[rule.AdminScope] = max(rule.Admin, admin[rule.AdminScope])
	}
	var changed []AdminScope
	for _, of := range []map[AdminScope]Admin{s.admin, admin} {
		for scope := range of {
			if s.admin[scope] != admin[scope] {
				changed = append(changed, scope)
			}
		}
	}
	s.admin = admin
	for _, svc := range slices.Clone(s.Services) {
		s.updateAdmin(svc, func(server AdminScope) bool {
			return slices.ContainsFunc(changed, func(a AdminScope) bool { return a.Contains(server) })
		})
	}
	return nil
}

// updateAdmin updates a service if it has servers that are concerned, and reports whether
// there are any.
func (s *State) updateAdmin(svc *Service, concerned func(AdminScope) bool) (found bool) {
	contains := func(v *Server) bool { return concerned(AdminScope{svc.ServiceKey, v.Addr, v.Port}) }
	changed := *svc
	if i := slices.IndexFunc(svc.Servers, func(v Server) bool { return contains(&v) }); i >= 0 {
		changed.Servers, found = slices.Clone(svc.Servers), true
		for ; i < len(svc.Servers); i++ {
			changed.Servers[i].Admin = s.AdminOf(svc.ServiceKey, svc.Servers[i].ServerKey)
		}
	}
	if sorry := svc.Sorry; sorry != nil && contains(sorry) {
		changed.Sorry, found = new(*sorry), true
		changed.Sorry.Admin = s.AdminOf(svc.ServiceKey, sorry.ServerKey)
	}
	if found {
		s.put(&changed)
		s.Touch(svc.ServiceKey)
	}
	return found
}
