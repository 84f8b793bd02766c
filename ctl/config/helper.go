package config

import (
	"fmt"
	"slices"
	"syscall"

	"uvs/dataplane/wire"
)

// Values of the settings ftp and tftp, and the words for them.
const (
	HelpOff = iota
	HelpOn
	HelpAuto
)

var helpWords = []string{"off", "on", "auto"}

// HelpedProtocol is one that a helper knows.
type HelpedProtocol struct {
	Setting   string
	Transport uint8
	Port      uint16 // its own
}

var Helped = []HelpedProtocol{{FTP, wire.ProtoTCP, wire.PortFTP}, {TFTP, wire.ProtoUDP, wire.PortTFTP}}

// checkHelp refuses what asks for a helper in vain.
func checkHelp(svc *Service, own Values) error {
	for _, p := range Helped {
		if own[p.Setting] != HelpOn {
			continue
		}
		switch {
		case svc.FWMark == 0 && svc.Proto != p.Transport:
			return Errorf(syscall.EINVAL, "service %s: %s is a protocol of %s", svc.ServiceKey, p.Setting, ProtoName(p.Transport))
		case svc.OPS:
			return Errorf(syscall.EINVAL, "service %s: one-packet scheduling keeps no connections that %s could announce others in", svc.ServiceKey, p.Setting)
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
