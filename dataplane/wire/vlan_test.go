package wire_test

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// FuzzPushVLAN: gopacket decodes a tag that was pushed onto any frame, and the
// offsets of the Offload move with the headers. Popped, it leaves the frame as it was.
func FuzzPushVLAN(f *testing.F) {
	for _, p := range []wiretest.Packet{tcp4, udp6, {Src: "10.0.0.1:1", Dst: "10.0.0.2:2", VLANs: []uint16{7}}} {
		f.Add(p.Frame().Buf[wire.Headroom:], uint16(0xe007), true)
	}
	f.Add([]byte{1, 2, 3}, uint16(1), false)
	f.Fuzz(func(t *testing.T, b []byte, tci uint16, partial bool) {
		fr := wiretest.Frame(bytes.Clone(b))
		if partial {
			fr.Offload = wire.Offload{Flags: wire.OffloadNeedsCsum, CsumStart: 34, CsumOffset: 16, HdrLen: 54}
		}
		before := fr.Offload
		if ok := wire.PushVLAN(&fr, wire.EtherTypeVLAN, tci); ok != (len(b) >= wire.EthernetLen) {
			t.Fatalf("a frame of %d bytes is tagged: %t", len(b), ok)
		} else if !ok {
			return
		}
		if partial && (fr.Offload.CsumStart != 38 || fr.Offload.HdrLen != 58) {
			t.Errorf("offload of the tagged frame: %+v", fr.Offload)
		}
		id, customer, ok := wire.VLAN(&fr)
		d := gopacket.NewPacket(fr.Bytes(), layers.LayerTypeEthernet, gopacket.Default)
		tag, _ := d.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q)
		if tag == nil || tag.VLANIdentifier != tci&0xfff || tag.Priority != uint8(tci>>13) || !ok || !customer ||
			id != tag.VLANIdentifier {
			t.Errorf("tag %#x: gopacket sees %+v, VLAN says %d %t %t", tci, tag, id, customer, ok)
		}
		wire.PopVLAN(&fr)
		if !bytes.Equal(fr.Bytes(), b) || fr.Offload != before {
			t.Errorf("tagged and untagged: %x %+v, was %x %+v", fr.Bytes(), fr.Offload, b, before)
		}
	})
}

// TestPushVLANRefuses: a frame without headroom or without a whole header stays as it is.
func TestPushVLANRefuses(t *testing.T) {
	f := tcp4.Frame()
	f.Buf, f.Off, f.End = f.Bytes(), 0, int32(f.Len())
	if wire.PushVLAN(&f, wire.EtherTypeVLAN, 7) || f.Off != 0 {
		t.Error("a frame without headroom was tagged")
	}
	for n := range wire.EthernetLen + wire.VLANLen {
		f := wiretest.Frame(bytes.Repeat([]byte{0x81, 0}, 9)[:n])
		if _, _, ok := wire.VLAN(&f); ok {
			t.Errorf("a frame of %d bytes has a tag", n)
		}
	}
}
