package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// String describes the operation in a line: edit-server tcp:192.0.2.1:80 10.0.0.2:80 nat weight 3.
func (op Op) String() string {
	text := string(op.Kind)
	if op.Service != nil && op.Service.ServiceKey != (ServiceKey{}) {
		text += " " + op.Service.Text()
	}
	after := op.After()
	if op.Kind == DeleteServer && op.Server != nil {
		after = op.Server.ServerKey.String()
	}
	return strings.TrimSpace(text + " " + after)
}

// After describes what an operation adds, or puts in place of something else; "": nothing.
func (op Op) After() string {
	switch {
	case op.Kind == AddService, op.Kind == EditService, op.Kind == PutService:
		return op.Service.text()
	case op.Kind == AddServer, op.Kind == EditServer, op.Kind == PutServer, op.Kind == SetSorry:
		return op.Server.text()
	case op.Kind == SetSettings, op.Kind == PutSettings:
		return op.Settings.text()
	case op.Kind == SetAdmin && op.Admin != nil:
		return op.Admin.Admin.String() + " " + op.Admin.AdminScope.String()
	case op.Kind == PutAdmin:
		return fmt.Sprintf("%d rules", len(op.AdminRules))
	case op.Kind == AddMarks, op.Kind == PutMarks, op.Kind == DeleteMarks:
		return fmt.Sprintf("%d rules", len(op.Marks))
	case op.Kind == SetTimeouts && op.Timeouts != nil:
		t := op.Timeouts
		return fmt.Sprintf("tcp %d, tcp_fin %d, udp %d", t.TCP, t.TCPFin, t.UDP)
	case op.Kind == Replace && op.Document != nil:
		return fmt.Sprintf("%d services", len(op.Document.Services))
	}
	return ""
}

// Before describes what an operation of Diff replaces or deletes in a state; "": nothing.
func (op Op) Before(s *State) string {
	switch op.Kind {
	case PutMarks:
		return fmt.Sprintf("%d rules", len(s.Marks))
	case PutAdmin:
		return fmt.Sprintf("%d rules", len(s.admin))
	case PutSettings:
		if op.Service == nil {
			return s.Settings.text()
		}
	}
	svc, err := s.Find(op.Service.ServiceKey)
	if err != nil {
		return ""
	}
	switch op.Kind {
	case DeleteService:
		return svc.text()
	case EditService:
		head := *svc
		head.Servers = nil
		return head.text()
	case PutSettings:
		return svc.Settings.text()
	case SetSorry:
		return svc.Sorry.text()
	case EditServer, DeleteServer:
		if v := svc.server(op.Server.ServerKey); v != nil {
			return v.text()
		}
	}
	return ""
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

// text returns the settings in a line.
func (v Values) text() string {
	if len(v) == 0 {
		return "defaults"
	}
	return strings.Join(v.Words(), " ")
}

// Words returns the settings as NAME=VALUE, in the order of their names.
func (v Values) Words() (words []string) {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		words = append(words, fmt.Sprintf("%s=%s", name, byName[SettingName(name)].Shown(v[name])))
	}
	return words
}
