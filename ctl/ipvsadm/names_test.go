package ipvsadm

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"uvs/ctl/config"
)

// TestParseServices parses a file with the irregularities of real ones.
func TestParseServices(t *testing.T) {
	got := parseServices(strings.NewReader(`# Network services
tcpmux		1/tcp				# TCP port service multiplexer

http		80/tcp		www web	# WorldWideWeb HTTP
http		80/udp
noport
nonumber	x/tcp
toobig		65536/tcp
noproto		99
`))
	want := []serviceName{
		{"tcpmux", 1, "tcp"},
		{"http", 80, "tcp"},
		{"www", 80, "tcp"},
		{"web", 80, "tcp"},
		{"http", 80, "udp"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// TestServiceNames: a name belongs to one protocol; aliases are parsed, but the official name
// is printed.
func TestServiceNames(t *testing.T) {
	const tcp, udp, sctp = 6, 17, 132
	n := &systemNames{read: true, services: testNames.services}
	for _, tt := range []struct {
		name   string
		proto  config.Proto
		port   uint16
		prints string
	}{
		{"http", tcp, 80, "http"},
		{"www", tcp, 80, "http"},
		{"syslog", tcp, 514, "shell"},
		{"syslog", udp, 514, "syslog"},
	} {
		port, known := n.port(tt.name, tt.proto)
		if prints := n.service(port, tt.proto); !known || port != tt.port || prints != tt.prints {
			t.Errorf("%s of protocol %d: port %d (%v), printed %q; want %d, %q", tt.name, tt.proto, port, known, prints,
				tt.port, tt.prints)
		}
	}
	for _, proto := range []config.Proto{udp, sctp, 0} {
		if port, known := n.port("http", proto); known {
			t.Errorf("http of protocol %d: %d", proto, port)
		}
	}
	if name := n.service(80, 0); name != "" {
		t.Errorf("port 80 of a mark: %q", name)
	}
}

// TestHostNamesAreKept: a host is looked up once, and none after the resolver timed out.
func TestHostNamesAreKept(t *testing.T) {
	known, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	n := &systemNames{hosts: map[netip.Addr]string{known: "kept.example"}, resolverDown: true}
	if got := n.host(known); got != "kept.example" {
		t.Errorf("known host: %q", got)
	}
	if got := n.host(other); got != "" {
		t.Errorf("host while the resolver is mute: %q", got)
	}
}

// TestParseIPv4 has the forms that inet_aton takes.
func TestParseIPv4(t *testing.T) {
	for s, want := range map[string]uint32{
		"10.9.0.1": 0x0a090001, "10.9.1": 0x0a090001, "10.0x90001": 0x0a090001, "0xa090001": 0x0a090001,
		"012.011.0.1": 0x0a090001,
		"0":           0, "4294967295": 0xffffffff, "1.16777215": 0x01ffffff, "10.9.0.1 \t": 0x0a090001,
		"0XfF.0.0.0": 0xff000000,
	} {
		if got, ok := parseIPv4(s); !ok || got != want {
			t.Errorf("%q: %#x, %v; want %#x", s, got, ok, want)
		}
	}
	for _, s := range []string{
		"", ".", "1.", ".1", "1..2", "256.1.1.1", "1.16777216", "4294967296", "08.1.1.1", "0x",
		"0xg", "1.2.3.4.5", "1_0.1", "+1.2", "-1", " 1.2.3.4", "1.2.3.4 x",
	} {
		if got, ok := parseIPv4(s); ok {
			t.Errorf("%q: %#x, want a refusal", s, got)
		}
	}
}
