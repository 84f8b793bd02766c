package wire

import "encoding/binary"

// vlanMask is the VLAN's number in a tag; the bits above are priority and drop
// eligibility (IEEE 802.1Q section 9.6).
const vlanMask = 0xfff

// PushVLAN puts a tag behind the addresses of a frame. It says false for a frame too
// short to have an EtherType, or without VLANLen bytes of room.
func PushVLAN(f *Frame, tpid, tci uint16) bool {
	if f.Len() < EthernetLen || f.Headroom() < VLANLen {
		return false
	}
	f.Off -= VLANLen
	b := f.Bytes()
	copy(b, b[VLANLen:VLANLen+ethernetType])
	binary.BigEndian.PutUint16(b[ethernetType:], tpid)
	binary.BigEndian.PutUint16(b[ethernetType+2:], tci)
	f.Offload.shift(VLANLen)
	return true
}

// PopVLAN takes off the outermost tag of a frame, which must have one.
func PopVLAN(f *Frame) {
	b := f.Bytes()
	copy(b[VLANLen:], b[:ethernetType])
	f.Off += VLANLen
	f.Offload.shift(-VLANLen)
}

// shift moves what is counted from the start of the frame by n bytes.
func (o *Offload) shift(n int) {
	if o.Flags&OffloadNeedsCsum != 0 {
		o.CsumStart += uint16(n)
	}
	if o.HdrLen != 0 {
		o.HdrLen += uint16(n)
	}
}

// VLAN is the number in the outermost tag of a frame; 0 is that of a priority
// tag, which says nothing of VLANs. customer: it is the frame's only tag, or the
// first of several, and one of IEEE 802.1Q, not a provider's (802.1ad). ok is
// false for a frame without a tag.
func VLAN(f *Frame) (id uint16, customer, ok bool) {
	b := f.Bytes()
	if len(b) < EthernetLen+VLANLen {
		return 0, false, false
	}
	switch binary.BigEndian.Uint16(b[ethernetType:]) {
	case EtherTypeVLAN:
		return binary.BigEndian.Uint16(b[ethernetType+2:]) & vlanMask, true, true
	case EtherTypeQinQ:
		return binary.BigEndian.Uint16(b[ethernetType+2:]) & vlanMask, false, true
	}
	return 0, false, false
}
