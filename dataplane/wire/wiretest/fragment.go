package wiretest

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"uvs/dataplane/wire"
)

// parsedFragment is a fragment as Reassemble parses it.
type parsedFragment struct {
	start   int
	last    bool
	next    uint8 // IPv6: next header of the fragment header
	headers []byte
	payload []byte
}

// Fragments fragments the IP packet of an untagged frame, as its sender would. Each
// fragment has at most size bytes of payload, a multiple of eight.
func Fragments(f wire.Frame, id uint32, size int) (fragments []wire.Frame) {
	b := f.Bytes()
	headers := 34
	if v6 := b[14]>>4 == 6; v6 {
		headers = 54
	}
	payload := b[headers:]
	for at := 0; at < len(payload); at += size {
		chunk := payload[at:min(at+size, len(payload))]
		fragments = append(fragments, Fragment(f, id, at, at+size < len(payload), chunk))
	}
	return fragments
}

// Fragment makes one fragment with the headers of an untagged frame. The payload
// begins at byte start of the datagram.
func Fragment(f wire.Frame, id uint32, start int, more bool, payload []byte) wire.Frame {
	word := map[bool]uint16{true: 1}[more]
	if ip := f.Bytes()[14:]; ip[0]>>4 == 6 {
		b := append(bytes.Clone(f.Bytes()[:54]), ip[6], 0)
		b = binary.BigEndian.AppendUint16(b, uint16(start)|word)
		b = binary.BigEndian.AppendUint32(b, id)
		b[20] = wire.ProtoFragment
		binary.BigEndian.PutUint16(b[18:], uint16(8+len(payload)))
		return Frame(append(b, payload...))
	}
	b := append(bytes.Clone(f.Bytes()[:34]), payload...)
	ip := b[14:]
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[4:], uint16(id))
	binary.BigEndian.PutUint16(ip[6:], word<<13|uint16(start/8))
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^sum16(ip[:20], 0))
	return Frame(b)
}

// Reassemble reassembles the fragments of one untagged IP packet, in any order, as its
// receiver would. It fails the test if one is missing, if two overlap, or if their
// headers differ in more than the fields that are different in every fragment. A
// packet that is not a fragment is returned as it is.
func Reassemble(t testing.TB, frames []wire.Frame) wire.Frame {
	t.Helper()
	var fragments []parsedFragment
	for _, f := range frames {
		Check(t, f)
		fragments = append(fragments, parse(f))
	}
	slices.SortFunc(fragments, func(a, b parsedFragment) int { return a.start - b.start })
	whole, at := bytes.Clone(fragments[0].headers), 0
	for i, p := range fragments {
		if p.start != at || p.last != (i == len(fragments)-1) || !bytes.Equal(p.headers, fragments[0].headers) ||
			p.next != fragments[0].next {
			t.Fatalf("fragment %d of %d starts at %d, last %t, with headers %x; want %d with %x",
				i, len(fragments), p.start, p.last, p.headers, at, fragments[0].headers)
		}
		whole = append(whole, p.payload...)
		at += len(p.payload)
	}
	ip := whole[14:]
	if ip[0]>>4 == 6 {
		ip[6] = fragments[0].next
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[10:], ^sum16(ip[:20], 0))
	}
	return Frame(whole)
}

// parse parses a fragment. In p.headers it clears the fields that are different in
// every fragment.
func parse(f wire.Frame) (p parsedFragment) {
	b := bytes.Clone(f.Bytes())
	ip := b[14:]
	if ip[0]>>4 == 6 {
		if p.last = true; ip[6] == wire.ProtoFragment {
			word := binary.BigEndian.Uint16(ip[42:])
			p.start, p.last, p.next = int(word&^7), word&1 == 0, ip[40]
			p.payload = ip[48:]
		} else {
			p.next, p.payload = ip[6], ip[40:]
		}
		copy(ip[4:7], make([]byte, 3))
		p.headers = b[:54:54]
		return p
	}
	word := binary.BigEndian.Uint16(ip[6:])
	p.start, p.last, p.payload = int(word&0x1fff)*8, word&0x2000 == 0, ip[20:]
	copy(ip[2:4], make([]byte, 2))
	copy(ip[6:8], make([]byte, 2))
	copy(ip[10:12], make([]byte, 2))
	p.headers = b[:34:34]
	return p
}
