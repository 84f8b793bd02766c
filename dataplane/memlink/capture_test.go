package memlink

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// TestCapture writes frames in both formats and reads them again.
func TestCapture(t *testing.T) {
	start := time.Unix(1700000000, 123456789).UTC()
	records := []Record{
		{Port: 0, Data: []byte{1, 2, 3}, Time: start},
		{Port: 2, Data: bytes.Repeat([]byte{4}, 70000), Time: start.Add(time.Microsecond)}, // a GSO frame
		{Port: 1, Data: []byte{5}, Time: start.Add(time.Second)},
	}
	for _, format := range []Format{Pcapng, Pcap} {
		var file bytes.Buffer
		if err := Write(&file, format, records); err != nil {
			t.Fatalf("format %d: write: %v", format, err)
		}
		got, snapped, err := Read(&file)
		if err != nil || snapped != 0 {
			t.Fatalf("format %d: read: %v, %d truncated frames", format, err, snapped)
		}
		want := append([]Record(nil), records...)
		for i := range want {
			if format == Pcap {
				want[i].Port = 0
			}
			if i < len(got) {
				got[i].Time = got[i].Time.UTC()
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("format %d: read\n%v, want\n%v", format, got, want)
		}
	}
}

// TestCaptureTruncated: Read skips truncated frames.
func TestCaptureTruncated(t *testing.T) {
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	if err := w.WriteFileHeader(96, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for _, length := range []int{60, 1514, 61} {
		ci := gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: min(length, 96), Length: length}
		if err := w.WritePacket(ci, make([]byte, ci.CaptureLength)); err != nil {
			t.Fatal(err)
		}
	}
	records, snapped, err := Read(&file)
	if len(records) != 2 || snapped != 1 || err != nil {
		t.Errorf("read %d frames, %d truncated, %v, want 2 and 1", len(records), snapped, err)
	}
}

// TestCaptureErrors reads files that are not captures of Ethernet.
func TestCaptureErrors(t *testing.T) {
	var raw, whole bytes.Buffer
	if err := pcapgo.NewWriter(&raw).WriteFileHeader(96, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	if err := Write(&whole, Pcap, []Record{{Data: make([]byte, 100)}}); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ what, file, want string }{
		{"nothing", "", "EOF"},
		{"something else", "#!/bin/sh\nexit 1 # and more than a header", "magic"},
		{"packets without a link header", raw.String(), "link type Raw"},
		{"half a frame", whole.String()[:whole.Len()-10], "frame 1"},
	} {
		if _, _, err := Read(strings.NewReader(row.file)); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want an error naming %q", row.what, err, row.want)
		}
	}
}
