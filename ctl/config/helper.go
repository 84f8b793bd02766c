package config

import (
	"fmt"
	"slices"
	"syscall"

	"uvs/conntrack"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
)

// checkHelp refuses to help connections of a service that can have no helper.
func checkHelp(svc *Service) error {
	for _, h := range helper.Registry {
		if svc.Settings[h.Name] != helper.On {
			continue
		}
		switch {
		case svc.FWMark == 0 && uint8(svc.Proto) != h.Proto:
			return Errorf(syscall.EINVAL, "service %s: %s is a protocol of %s", svc.ServiceKey, h.Name, Proto(h.Proto))
		case svc.OPS:
			return Errorf(syscall.EINVAL, "service %s: one-packet scheduling keeps no connections, which %s needs",
				svc.ServiceKey, h.Name)
		}
	}
	return nil
}

// FTPWarning warns of a service of FTP's port whose data connections would not find their
// server; "": there is nothing to warn of. It has ipvsadm's words, because ipvsadm prints it.
func (s *Service) FTPWarning() string {
	i := slices.IndexFunc(s.Servers, func(v Server) bool { return v.Method != MethodNAT })
	if s.Proto != wire.ProtoTCP || s.Port != wire.PortFTP || s.Persist > 0 || i < 0 {
		return ""
	}
	return fmt.Sprintf("service %s is not persistent: FTP's data connections will not find the server of their "+
		"control connection by method %s; add -p, or use NAT (-m)", s.ServiceKey, conntrack.Method(s.Servers[i].Method))
}
