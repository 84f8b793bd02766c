package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// String describes the operation in a line: edit-server tcp:192.0.2.1:80 10.0.0.2:80 nat weight 3.
func (op Op) String() string {
	words := []string{string(op.Kind)}
	if op.Service != nil && op.Service.ServiceKey != (ServiceKey{}) {
		words = append(words, op.Service.Text())
	}
	switch op.Kind {
	case AddService, EditService, PutService:
		words = append(words, op.Service.text())
	case AddServer, EditServer, PutServer, SetSorry:
		words = append(words, op.Server.text())
	case DeleteServer:
		words = append(words, op.Server.ServerKey.String())
	case SetSettings, PutSettings:
		words = append(words, op.Settings.text())
	case SetAdmin:
		words = append(words, op.Admin.Admin.String(), op.Admin.AdminScope.String())
	case PutAdmin:
		words = append(words, fmt.Sprintf("%d rules", len(op.AdminRules)))
	case AddMarks, PutMarks, DeleteMarks:
		words = append(words, fmt.Sprintf("%d rules", len(op.Marks)))
	case SetTimeouts:
		t := op.Timeouts
		words = append(words, fmt.Sprintf("tcp %d, tcp_fin %d, udp %d", t.TCP, t.TCPFin, t.UDP))
	case Replace:
		words = append(words, fmt.Sprintf("%d services", len(op.Document.Services)))
	}
	return strings.Join(words, " ")
}

// text describes a service, but for its address.
func (s *Service) text() string {
	text := s.Scheduler
	if s.SchedFlags != 0 {
		flags, _ := s.SchedFlags.MarshalJSON()
		text += " " + string(flags)
	}
	if s.Persist > 0 {
		text += " persistent " + s.Persist.String()
	}
	if mask := s.Netmask.String(); mask != "" {
		text += " netmask " + mask
	}
	if s.PE != "" {
		text += " persistence_engine " + s.PE
	}
	if s.OPS {
		text += " one_packet"
	}
	if n := len(s.Servers); n > 0 {
		text += fmt.Sprintf(", %d servers", n)
	}
	return text
}

// text describes a server; nil: there is none.
func (s *Server) text() string {
	if s == nil {
		return "none"
	}
	text := fmt.Sprintf("%s %s weight %d", s.ServerKey, s.Method, s.Weight)
	if s.Upper > 0 {
		text += fmt.Sprintf(" thresholds %d %d", s.Upper, s.Lower)
	}
	if s.Tunnel != (Tunnel{}) {
		text += " tunnel " + s.Tunnel.Type.String()
	}
	return text
}

// text returns the settings as NAME=VALUE, in the order of their names.
func (v Values) text() string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		words = append(words, fmt.Sprintf("%s=%s", name, byName[SettingName(name)].Shown(v[name])))
	}
	if words == nil {
		return "defaults"
	}
	return strings.Join(words, " ")
}
