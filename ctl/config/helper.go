package config

import (
	"fmt"
	"slices"
	"syscall"

	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
)

// checkHelp refuses what asks for a helper in vain.
func checkHelp(svc *Service, own Values) error {
	for _, h := range helper.Registry {
		if own[h.Name] != helper.On {
			continue
		}
		switch {
		case svc.FWMark == 0 && svc.Proto != h.Proto:
			return Errorf(syscall.EINVAL, "service %s: %s is a protocol of %s", svc.ServiceKey, h.Name, ProtoName(h.Proto))
		case svc.OPS:
			return Errorf(syscall.EINVAL, "service %s: one-packet scheduling keeps no connections that %s could announce others in", svc.ServiceKey, h.Name)
		}
	}
	return nil
}

// FTPWarning says what is missing of a service that looks like FTP's but whose
// data connections would not find their server; "": nothing.
func (s *Service) FTPWarning() string {
	passing := slices.IndexFunc(s.Servers, func(v Server) bool { return v.Method != MethodMasq })
	if s.Proto != wire.ProtoTCP || s.Port != wire.PortFTP || s.Persist > 0 || passing < 0 {
		return ""
	}
	return fmt.Sprintf("service %s is not persistent: FTP's data connections will not find the server of their control connection by method %s; add -p, or use NAT (-m)",
		s.ServiceKey, s.Servers[passing].Method)
}
