package config

import (
	"fmt"
	"slices"
	"syscall"

	"uvs/dataplane/wire"
)

// HelpedProtocol is a protocol with a helper and a setting of the same name.
type HelpedProtocol struct {
	Name      string
	Transport uint8
	Port      uint16                 // well-known
	Help      func(*Settings) uint32 // HelpOff, HelpOn or HelpAuto
}

// Helped are the protocols that have helpers.
var Helped = []HelpedProtocol{
	{"ftp", wire.ProtoTCP, wire.PortFTP, func(s *Settings) uint32 { return s.FTP }},
	{"tftp", wire.ProtoUDP, wire.PortTFTP, func(s *Settings) uint32 { return s.TFTP }},
}

// checkHelp refuses what asks for a helper in vain.
func checkHelp(svc *Service, own Values) error {
	for _, p := range Helped {
		if own[p.Name] != HelpOn {
			continue
		}
		switch {
		case svc.FWMark == 0 && svc.Proto != p.Transport:
			return Errorf(syscall.EINVAL, "service %s: %s is a protocol of %s", svc.ServiceKey, p.Name, ProtoName(p.Transport))
		case svc.OPS:
			return Errorf(syscall.EINVAL, "service %s: one-packet scheduling keeps no connections that %s could announce others in", svc.ServiceKey, p.Name)
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
