package helper

import (
	"reflect"
	"testing"

	"uvs/dataplane/wire"
)

// Every row is complete, and no two helpers want the same name or port.
func TestRegistry(t *testing.T) {
	names, ports := map[string]bool{}, map[Port]bool{}
	for id, h := range Registry {
		if h.Name == "" || h.Port == 0 || h.Mode == nil || h.Process == nil || len(h.Events) > maxEvents {
			t.Errorf("helper %d %q is incomplete", id, h.Name)
		}
		at := Port{Helper: ID(h.Proto), Port: h.Port}
		if names[h.Name] || ports[at] {
			t.Errorf("helper %s: its name or port is taken", h.Name)
		}
		names[h.Name], ports[at] = true, true
		if f, ok := settingNamed(h.Name); !ok {
			t.Errorf("helper %s has no setting of its name", h.Name)
		} else if s := (Settings{}); !setField(&s, f) || h.Mode(&s) != On {
			t.Errorf("helper %s does not read its mode from Settings.%s", h.Name, f.Name)
		}
	}
}

func settingNamed(name string) (reflect.StructField, bool) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Settings]()) {
		if f.Tag.Get("name") == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func setField(s *Settings, f reflect.StructField) bool {
	v := reflect.ValueOf(s).Elem().FieldByIndex(f.Index)
	if !v.CanUint() {
		return false
	}
	v.SetUint(On)
	return true
}

// The helper of a connection stays when its service's configuration has changed.
func TestConfig(t *testing.T) {
	c := &Config{Ports: []Port{{FTP, 21}, {FTP, 2021}, {TFTP, 69}}}
	for _, row := range []struct {
		config *Config
		proto  uint8
		port   uint16
		want   ID
		at     bool
	}{
		{c, wire.ProtoTCP, 21, FTP, true},
		{c, wire.ProtoTCP, 2021, FTP, true},
		{c, wire.ProtoUDP, 69, TFTP, true},
		{c, wire.ProtoTCP, 69, FTP, false},
		{c, wire.ProtoUDP, 21, TFTP, false},
		{nil, wire.ProtoUDP, 69, TFTP, false},
	} {
		if id, ok := row.config.At(row.proto, row.port); ok != row.at || ok && id != row.want {
			t.Errorf("protocol %d, port %d: helper %d, %t", row.proto, row.port, id, ok)
		}
		if id := row.config.For(row.proto, row.port); id != row.want {
			t.Errorf("a helped connection, protocol %d, port %d: helper %d, want %d", row.proto, row.port, id, row.want)
		}
	}
}

// Events are counted by worker, under the names that `uvs stats` prints.
func TestEvents(t *testing.T) {
	s := NewSessions(2)
	s.Count(0, FTP, 1|1<<7)
	s.Count(1, FTP, 1)
	got := map[string]uint64{}
	s.EachEvent(func(name string, n uint64) { got[name] = n })
	if len(got) != 8 || got["ftp_passive"] != 2 || got["ftp_tls"] != 1 || got["ftp_active"] != 0 {
		t.Errorf("counted %v", got)
	}
}
