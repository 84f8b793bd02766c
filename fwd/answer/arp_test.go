package answer_test

import (
	"bytes"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/answer"
	"uvs/fwd/fwdtest"
)

// TestARP: requests and probes are answered, nothing else.
func TestARP(t *testing.T) {
	const vip = "10.9.0.1"
	mac := wire.MAC{2, 0, 0, 0, 0, 0x99}
	for name, sender := range map[string]string{"request": "198.51.100.7", "probe": "0.0.0.0"} {
		f := wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, sender, wire.MAC{}, vip)
		f.In = 6
		f.Buf = append(f.Buf, make([]byte, 18)...) // Ethernet's padding
		f.End += 18
		p := fwdtest.Parse(t, &f)
		if op, s, target := answer.ARPTarget(&f, p); op != wire.ARPRequest || s != fwdtest.Addr(sender) ||
			target != fwdtest.Addr(vip) {
			t.Errorf("%s is operation %d from %v for %v", name, op, s, target)
		}
		if !answer.ARP(&f, p, mac) {
			t.Fatalf("%s: refused", name)
		}
		wantReply(t, f, wiretest.ARP(wire.ARPReply, mac, vip, wiretest.ClientMAC, sender))
	}

	tagged := wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.9.0.7", wire.MAC{}, vip)
	b := tagged.Bytes()
	tagged = wiretest.Frame(append(append(bytes.Clone(b[:12]), 0x81, 0, 0, 42), b[12:]...))
	if !answer.ARP(&tagged, fwdtest.Parse(t, &tagged), mac) ||
		!bytes.Equal(tagged.Bytes()[12:18], []byte{0x81, 0, 0, 42, 8, 6}) {
		t.Errorf("tagged request became %s", fwdtest.Dump(tagged))
	}

	never := map[string]wire.Frame{
		"reply":              wiretest.ARP(wire.ARPReply, wiretest.ClientMAC, "10.9.0.7", mac, vip),
		"announcement":       wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, vip, wire.MAC{}, vip),
		"from a group":       wiretest.ARP(wire.ARPRequest, wire.MAC{1}, "10.9.0.7", wire.MAC{}, vip),
		"from no MAC at all": wiretest.ARP(wire.ARPRequest, wire.MAC{}, "10.9.0.7", wire.MAC{}, vip),
		"IP":                 wiretest.Packet{Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP}.Frame(),
	}
	for name, f := range never {
		t.Run(name, func(t *testing.T) {
			p := fwdtest.Parse(t, &f)
			fwdtest.WantUntouched(t, f, func(f *wire.Frame) bool { return answer.ARP(f, p, mac) })
		})
	}
}
