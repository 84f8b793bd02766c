package file

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"uvs/ctl/config"
)

func jsonText(t testing.TB, d *config.Document) []byte {
	t.Helper()
	text, err := json.Marshal(d, json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestMarshal: how a configuration is written.
func TestMarshal(t *testing.T) {
	const want = `settings:
  mss_clamp: 1
  timeout_udp: 60s
marks:
  - destination: 192.0.2.0/24
    protocol: tcp
    destination_ports: [80, "8000:8100"]
    mark: 7
admin:
  - {service: {address: 192.0.2.10, port: 80, protocol: tcp}, address: 10.0.0.12, admin: drain}
services:
  - address: 192.0.2.10
    port: 80
    protocol: tcp
    scheduler: wlc
    persistent: 300s
    settings: {limit_conns: 5}
    sorry: {address: 10.0.0.9, port: 80, method: nat, weight: 1}
    servers:
      - {address: 10.0.0.11, port: 8080, method: nat, weight: 3}
      - {address: 2001:db8::1, port: 80, method: tunnel, weight: 1, tunnel: {type: gue, port: 6080}}
  - address: fe80:1::1
    port: 80
    protocol: tcp
    scheduler: sh
    scheduler_flags: [fallback, port]
`
	f, err := parse([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Marshal(&f.Document)
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	for _, row := range []struct {
		v    any
		want string
	}{
		{"on", "\"on\"\n"},
		{[]int{}, "[]\n"},
		{
			map[string][]string{"a b": {"1", "2001:db8::", "10.0.0.1", "12:30", "", "x\ny"}},
			"\"a b\": [\"1\", \"2001:db8::\", 10.0.0.1, \"12:30\", \"\", \"x\\ny\"]\n",
		},
		{[]map[string]int{{"a": 1}, {"b": 2}}, "- {a: 1}\n- {b: 2}\n"},
		{struct{}{}, "{}\n"},
	} {
		root, err := toNode(row.v)
		if err != nil {
			t.Fatal(err)
		}
		if got := root.yaml(""); string(got) != row.want {
			t.Errorf("%v: %s", row.v, got)
		}
	}
}

// randomDocument returns a document with random values in all its members.
func randomDocument(rng *rand.Rand) *config.Document {
	text := func() string {
		alphabet := []rune("ab1 0.:-#&*!|>'\"%@`{}[],?\\/~\t\n\r\u0085\u2028éx_\x01\U0001f600=+<y")
		b := make([]rune, rng.IntN(8))
		for i := range b {
			b[i] = alphabet[rng.IntN(len(alphabet))]
		}
		return string(b)
	}
	addr := func() netip.Addr {
		a := netip.AddrFrom4([4]byte{10, 0, byte(rng.IntN(2)), byte(rng.Uint32())})
		if rng.IntN(2) == 0 {
			a = netip.AddrFrom16([16]byte{0x20, 1, byte(rng.IntN(2)), 15: byte(rng.IntN(2))})
		}
		return a
	}
	server := func() config.Server {
		return config.Server{
			ServerKey: config.ServerKey{Addr: addr(), Port: uint16(rng.Uint32())},
			Method:    []config.Method{config.MethodNAT, config.MethodTunnel, config.MethodDR}[rng.IntN(3)],
			Weight:    int32(rng.Uint32()), Upper: rng.Uint32N(2), Lower: rng.Uint32(),
			Tunnel: config.Tunnel{Port: uint16(rng.IntN(2))}, Admin: config.Admin(rng.IntN(3)),
		}
	}
	values := func() config.Values {
		return config.Values{"timeout_udp": rng.Uint32(), "mss_clamp": rng.Uint32(), "removed_conns": rng.Uint32N(3)}
	}
	d := &config.Document{Settings: values(), Admin: []config.AdminRule{}, Services: []config.Service{}}
	for range rng.IntN(3) {
		d.Marks = append(d.Marks, config.MarkRule{
			Dst: netip.PrefixFrom(addr(), 8), Interface: text(), Mark: rng.Uint32(), IPv6: rng.IntN(2) == 0,
			DstPorts: config.Ports{{First: uint16(rng.IntN(100)), Last: uint16(100 + rng.IntN(2))}},
		})
		scope := config.AdminScope{Addr: addr(), Port: uint16(rng.IntN(2))}
		d.Admin = append(d.Admin, config.AdminRule{AdminScope: scope, Admin: config.AdminDown})
	}
	for i := range rng.IntN(4) {
		s := config.Service{
			ServiceKey: config.ServiceKey{Addr: addr(), Port: uint16(i), Proto: 6}, Scheduler: "s" + text(), PE: text(),
			SchedFlags: config.SchedFlags(rng.IntN(8) << 3), Persist: config.Seconds(rng.Uint32N(2)),
			OPS: rng.IntN(2) == 0, Netmask: config.Mask4(rng.Uint32()),
		}
		if rng.IntN(2) == 0 {
			s.Settings, s.Sorry = values(), new(server())
		}
		for range rng.IntN(4) {
			s.Servers = append(s.Servers, server())
		}
		d.Services = append(d.Services, s)
	}
	return d
}

// TestReadMarshal: what Marshal writes is read as the same document, and written as the same text.
func TestReadMarshal(t *testing.T) {
	for seed := range uint64(1000) {
		d := randomDocument(rand.New(rand.NewPCG(2, seed)))
		checkReadMarshal(t, fmt.Sprint("seed ", seed), d)
	}
}

func checkReadMarshal(t *testing.T, name string, d *config.Document) {
	t.Helper()
	text, err := Marshal(d)
	if err != nil {
		t.Fatal(name, err)
	}
	in, err := newSource("x.yaml", text)
	if err != nil {
		t.Fatal(name, err)
	}
	root, err := parseYAML(in)
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	f, err := newFile(root)
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	if got, want := jsonText(t, &f.Document), jsonText(t, d); !bytes.Equal(got, want) {
		t.Errorf("%s\n%s\nis read as\n%s\nwant\n%s", name, text, got, want)
	}
	if again, err := Marshal(&f.Document); err != nil || !bytes.Equal(text, again) {
		t.Errorf("%s\n%s\nis written as\n%s", name, text, again)
	}
}

// BenchmarkRead reads 1,024 services with 10 servers each.
func BenchmarkRead(b *testing.B) {
	var list strings.Builder
	list.WriteString("services:\n")
	for i := range 1024 {
		fmt.Fprintf(&list, "  - address: 10.9.%d.%d\n", i/250, i%250+1)
		list.WriteString("    port: 80\n    protocol: tcp\n    scheduler: wlc\n    servers:\n")
		for j := range 10 {
			fmt.Fprintf(&list, "      - {address: 10.0.0.%d, port: 8080, method: nat, weight: 3}\n", j+1)
		}
	}
	f, err := parse([]byte(list.String()))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("yaml", func(b *testing.B) { benchmarkRead(b, []byte(list.String())) })
	b.Run("json", func(b *testing.B) { benchmarkRead(b, jsonText(b, &f.Document)) })
	b.Run("marshal", func(b *testing.B) {
		for range b.N {
			if _, err := Marshal(&f.Document); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchmarkRead(b *testing.B, text []byte) {
	in, err := newSource("x", text)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for range b.N {
		root, err := (&reader{}).parse(in)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := newFile(root); err != nil {
			b.Fatal(err)
		}
	}
}
