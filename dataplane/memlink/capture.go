package memlink

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// pcapngMagic begins a pcapng file: the type of a section header block (pcapng draft
// section 4.1), a palindrome that is the same in any byte order.
const pcapngMagic = 0x0a0d0d0a

// snapLen is the snapshot length in written captures: more than any frame has.
const snapLen = 1 << 20

// Format is a capture file format.
type Format uint8

const (
	Pcapng Format = iota // every port is an interface
	Pcap                 // ports are lost
)

// Read reads a capture in either format. The port of a frame is 0, or the interface
// number in a pcapng file. Like the rings, Read skips truncated frames, and returns
// their number as snapped. It trusts the capture: it allocates memory for the length
// of a frame that the file states.
func Read(from io.Reader) (records []Record, snapped int, err error) {
	in := bufio.NewReader(from)
	magic, err := in.Peek(4)
	if err != nil {
		return nil, 0, fmt.Errorf("read capture: %w", err)
	}
	var r interface {
		ReadPacketData() (data []byte, ci gopacket.CaptureInfo, err error)
		LinkType() layers.LinkType
	}
	if binary.BigEndian.Uint32(magic) == pcapngMagic {
		r, err = pcapgo.NewNgReader(in, pcapgo.DefaultNgReaderOptions)
	} else {
		r, err = pcapgo.NewReader(in)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read capture header: %w", err)
	}
	if t := r.LinkType(); t != layers.LinkTypeEthernet {
		return nil, 0, fmt.Errorf("read capture: link type %v (%d): want %v", t, t, layers.LinkTypeEthernet)
	}
	for {
		data, ci, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return records, snapped, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read frame %d of capture: %w", len(records)+snapped+1, err)
		}
		if ci.CaptureLength < ci.Length {
			snapped++
			continue
		}
		records = append(records, Record{Port: uint16(ci.InterfaceIndex), Data: data, Time: ci.Timestamp})
	}
}

// Write writes frames as a capture. Offload is lost: a partial checksum looks wrong to
// a reader, and a GSO frame is one long frame.
func Write(to io.Writer, format Format, records []Record) error {
	w, err := newWriter(to, format, records)
	if err != nil {
		return fmt.Errorf("write capture header: %w", err)
	}
	for i, r := range records {
		ci := gopacket.CaptureInfo{Timestamp: r.Time, CaptureLength: len(r.Data), Length: len(r.Data)}
		if r.Time.IsZero() {
			ci.Timestamp = time.Unix(0, 0) // the format has no time before 1970
		}
		if format == Pcapng {
			ci.InterfaceIndex = int(r.Port)
		}
		if err := w.WritePacket(ci, r.Data); err != nil {
			return fmt.Errorf("write frame %d of capture: %w", i+1, err)
		}
	}
	if ng, ok := w.(*pcapgo.NgWriter); ok {
		if err := ng.Flush(); err != nil {
			return fmt.Errorf("write capture: %w", err)
		}
	}
	return nil
}

// writer is implemented by the writers of both formats.
type writer interface {
	WritePacket(ci gopacket.CaptureInfo, data []byte) error
}

// newWriter writes the headers before the frames.
func newWriter(to io.Writer, format Format, records []Record) (writer, error) {
	if format == Pcap {
		w := pcapgo.NewWriterNanos(to)
		return w, w.WriteFileHeader(snapLen, layers.LinkTypeEthernet)
	}
	port := func(i uint16) pcapgo.NgInterface {
		return pcapgo.NgInterface{
			Name: fmt.Sprintf("port%d", i), LinkType: layers.LinkTypeEthernet,
			TimestampResolution: 9, // nanoseconds
		}
	}
	w, err := pcapgo.NewNgWriterInterface(to, port(0), pcapgo.DefaultNgWriterOptions)
	last := uint16(0)
	for _, r := range records {
		for ; err == nil && last < r.Port; last++ {
			_, err = w.AddInterface(port(last + 1))
		}
	}
	return w, err
}
