package config

import (
	"net/netip"
	"strings"
	"testing"

	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
)

// A setting's value can be given by its word; wrong words are refused.
func TestSettingWords(t *testing.T) {
	for text, want := range map[string]uint32{
		"ftp=auto": helper.Auto, "ftp=off": helper.Off, "tftp=on": helper.On,
		"ftp=1": helper.On, "ftp_bounce=1": 1,
	} {
		name, v, err := ParseSetting(text)
		if err != nil || v != want || name+"="+(Setting{}).Shown(v) == "" {
			t.Errorf("%s: %d, %v", text, v, err)
		}
	}
	for _, text := range []string{"ftp=yes", "ftp", "slow_start=on", "ftp_bounce=on"} {
		if _, v, err := ParseSetting(text); err == nil {
			t.Errorf("%s is %d", text, v)
		}
	}
	dns := &Service{ServiceKey: key(wire.ProtoUDP, "10.9.0.1:53"), Scheduler: "rr"}
	s, err := Change(State{}, Op{Kind: AddService, Service: dns})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Change(s, Op{Kind: SetSettings, Service: dns, Settings: Values{"ftp": helper.On}}); err == nil {
		t.Error("FTP of a UDP service is not refused")
	}
}

// There is a warning for a service of FTP's port by direct routing without persistence.
func TestFTPWarning(t *testing.T) {
	svc := Service{ServiceKey: ServiceKey{Proto: wire.ProtoTCP, Addr: netip.MustParseAddr("10.9.0.1"), Port: 21}}
	for _, row := range []struct {
		method  Method
		persist Seconds
		port    uint16
		named   string // the method in the warning; "": there is none
	}{
		{MethodDR, 0, 21, "Route"},
		{MethodTunnel, 0, 21, "Tunnel"},
		{MethodNAT, 0, 21, ""},
		{MethodDR, 300, 21, ""},
		{MethodDR, 0, 80, ""},
	} {
		svc.Servers = []Server{{Method: row.method}}
		svc.Persist, svc.Port = row.persist, row.port
		got := svc.FTPWarning()
		if (got != "") != (row.named != "") || !strings.Contains(got, row.named) {
			t.Errorf("%+v: %q", row, got)
		}
	}
}
