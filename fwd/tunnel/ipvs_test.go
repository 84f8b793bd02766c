package tunnel_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd"
	"uvs/fwd/fwdtest"
	"uvs/fwd/tunnel"
)

// TestAsIPVS: before the inner packet are the bytes that IPVS puts there (captured from
// Linux 6.1 with ipvsadm 1.31). The packets are datagrams of 4 bytes with TTL 64, TOS or
// traffic class 0xbb, the IPv6 one with flow label 0x12345, for a server at fwdtest.RIP4
// or RIP6. In the hexadecimal digits, "iiii" is an IPv4 id that is not 0, "ssss" a
// checksum (of the header, of UDP, or of GRE, which IPVS leaves to the device) and
// "pppp" a source port.
func TestAsIPVS(t *testing.T) {
	const (
		ends4 = " 0a000201 0a00020b "
		ends6 = " fd000002000000000000000000000001 fd000002000000000000000000000011 "
	)
	inner := []wiretest.Packet{
		{
			Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP, Proto: wire.ProtoUDP, TOS: 0xbb, ID: 77,
			Payload: []byte("abcd"),
		},
		{
			Src: fwdtest.Families[1].Client, Dst: fwdtest.Families[1].VIP, Proto: wire.ProtoUDP, TOS: 0xbb,
			Payload: []byte("abcd"),
		},
	}
	for name, want := range map[string][2]string{
		"IPIP": {"45ba0034 iiii 0000 3f04 ssss" + ends4, "45ba0048 iiii 0000 3f29 ssss" + ends4},
		"GUE": {
			"45ba0040 iiii 0000 3f11 ssss" + ends4 + "pppp 17c0 002c 0000 00040000",
			"45ba0054 iiii 0000 3f11 ssss" + ends4 + "pppp 17c0 0040 0000 00290000",
		},
		"GUE with checksum": {
			"45ba0040 iiii 0000 3f11 ssss" + ends4 + "pppp 17c0 002c ssss 00040000",
			"45ba0054 iiii 0000 3f11 ssss" + ends4 + "pppp 17c0 0040 ssss 00290000",
		},
		"GRE": {
			"45ba0038 iiii 0000 3f2f ssss" + ends4 + "0000 0800",
			"45ba004c iiii 0000 3f2f ssss" + ends4 + "0000 86dd",
		},
		"GRE with checksum": {
			"45ba003c iiii 0000 3f2f ssss" + ends4 + "8000 0800 ssss 0000",
			"45ba0050 iiii 0000 3f2f ssss" + ends4 + "8000 86dd ssss 0000",
		},

		"IPIP over IPv6": {"6ba00000 0020 04 3f" + ends6, "6ba00000 0034 29 3f" + ends6},
		"GUE over IPv6": {
			"6ba00000 002c 11 3f" + ends6 + "pppp 17c0 002c 0000 00040000",
			"6ba00000 0040 11 3f" + ends6 + "pppp 17c0 0040 0000 00290000",
		},
		"GUE with checksum over IPv6": {
			"6ba00000 002c 11 3f" + ends6 + "pppp 17c0 002c ssss 00040000",
			"6ba00000 0040 11 3f" + ends6 + "pppp 17c0 0040 ssss 00290000",
		},
		"GRE over IPv6": {
			"6ba00000 0024 2f 3f" + ends6 + "0000 0800",
			"6ba00000 0038 2f 3f" + ends6 + "0000 86dd",
		},
		"GRE with checksum over IPv6": {
			"6ba00000 0028 2f 3f" + ends6 + "8000 0800 ssss 0000",
			"6ba00000 003c 2f 3f" + ends6 + "8000 86dd ssss 0000",
		},
	} {
		for i, in := range inner {
			f := in.Frame()
			if i == 1 {
				b := f.Bytes()[wire.EthernetLen:]
				b[1], b[2], b[3] = b[1]|0x01, 0x23, 0x45 // the flow label
			}
			p := fwdtest.Parse(t, &f)
			fwd.DecTTL(&f, p)
			tun := tunnelCalled(t, name)
			if !tun.Encap(&f, p) {
				t.Fatalf("%s: Encap refused", name)
			}
			wiretest.Check(t, f)
			got := hex.EncodeToString(f.Bytes()[wire.EthernetLen:][:tun.Overhead()])
			if !matches(got, strings.ReplaceAll(want[i], " ", "")) {
				t.Errorf("%s of %s:\n%s, want\n%s", name, fwdtest.Families[i].Name, got, want[i])
			}
		}
	}
}

func tunnelCalled(t *testing.T, name string) *tunnel.Tunnel {
	t.Helper()
	for i := range fwdtest.Tunnels {
		if fwdtest.Tunnels[i].Name == name {
			return &fwdtest.Tunnels[i].Tunnel
		}
	}
	t.Fatalf("no tunnel is called %s", name)
	return nil
}

// matches compares hexadecimal digits; iiii, ssss and pppp stand for any but 0000.
func matches(got, want string) bool {
	if len(got) != len(want) {
		return false
	}
	for i := 0; i < len(want); i += 4 {
		if g, w := got[i:i+4], want[i:i+4]; w == "iiii" || w == "ssss" || w == "pppp" {
			if g == "0000" {
				return false
			}
		} else if g != w {
			return false
		}
	}
	return true
}
