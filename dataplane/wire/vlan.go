package wire

import "encoding/binary"

// vlanMask selects the VLAN ID in a tag. The bits above are priority and drop
// eligibility (IEEE 802.1Q section 9.6).
const vlanMask = 0xfff

// PushVLAN inserts a tag after the MAC addresses of a frame. It returns false if
// the frame is too short for an EtherType, or has less than VLANLen bytes of
// headroom.
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

// PopVLAN removes the outermost tag of a frame, which must have one.
func PopVLAN(f *Frame) {
	b := f.Bytes()
	copy(b[VLANLen:], b[:ethernetType])
	f.Off += VLANLen
	f.Offload.shift(-VLANLen)
}

// shift moves the offsets that count from the start of the frame by n bytes.
func (o *Offload) shift(n int) {
	if o.Flags&OffloadNeedsCsum != 0 {
		o.CsumStart += uint16(n)
	}
	if o.HdrLen != 0 {
		o.HdrLen += uint16(n)
	}
}

// VLAN returns the VLAN ID in the outermost tag of a frame. ID 0 is that of a
// priority tag, which names no VLAN. customer reports whether it is a tag of IEEE
// 802.1Q, rather than a provider's of 802.1ad. ok is false without a tag.
func VLAN(f *Frame) (id uint16, customer, ok bool) {
	b := f.Bytes()
	if len(b) < EthernetLen+VLANLen {
		return 0, false, false
	}
	switch tpid := binary.BigEndian.Uint16(b[ethernetType:]); tpid {
	case EtherTypeVLAN, EtherTypeQinQ:
		return binary.BigEndian.Uint16(b[ethernetType+2:]) & vlanMask, tpid == EtherTypeVLAN, true
	}
	return 0, false, false
}
