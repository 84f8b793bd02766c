package answer_test

import (
	"encoding/hex"
	"fmt"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/answer"
	"uvs/fwd/fwdtest"
)

// sctpTag is the verification tag of wiretest's SCTP packets.
const sctpTag = "00000001"

// Chunks of the tests, in hexadecimal.
const (
	initChunk    = "010000141122334400010000000a000a00000001"
	dataChunk    = "00030010000000010000000000000000"
	abort        = "06000004"
	initTag      = "11223344"
	abortOfNone  = sctpTag + "06010004"
	shutComplete = sctpTag + "0e010004"
)

// outOfTheBlue has what a live kernel (6.1) answers to the chunks of a packet of no known
// association: verification tag and chunk; "": nothing.
var outOfTheBlue = []struct{ name, chunks, want string }{
	{"INIT", initChunk, initTag + abort},
	{"INIT that is too short", "01000010" + initChunk[8:32], ""},
	{"INIT without a body", "01000004", ""},
	{"INIT and DATA", initChunk + dataChunk, ""},
	{"DATA and INIT", dataChunk + initChunk, ""},
	{"DATA", dataChunk, abortOfNone},
	{"DATA and ABORT", dataChunk + abort, ""},
	{"DATA and SHUTDOWN ACK", dataChunk + "08000004", abortOfNone},
	{"DATA and COOKIE ACK", dataChunk + "0b000004", abortOfNone},
	{"INIT ACK", "02" + initChunk[2:], abortOfNone},
	{"SACK", hex.EncodeToString(fwdtest.Chunk), abortOfNone},
	{"HEARTBEAT", "0400000c0001000800000007", abortOfNone},
	{"ABORT", abort, ""},
	{"SHUTDOWN", "0700000800000000", abortOfNone},
	{"SHUTDOWN ACK", "08000004", shutComplete},
	{"SHUTDOWN ACK and ABORT", "08000004" + abort, ""},
	{"ERROR, stale cookie", "0900000c00030008000003e8", ""},
	{"ERROR, another", "0900000800010004", abortOfNone},
	{"ERROR without a cause", "09000004", abortOfNone},
	{"COOKIE ECHO", "0a00000863636363", abortOfNone},
	{"COOKIE ACK", "0b000004", ""},
	{"SHUTDOWN COMPLETE", "0e000004", ""},
	{"an unknown chunk", "3f00000861626364", abortOfNone},
	{"no chunk", "", ""},
	{"half a chunk header", "0003", ""},
	{"DATA and half a chunk header", dataChunk + "0003", abortOfNone},
	// The kernel's ABORT to these gives the reason in 48 bytes more.
	{"a chunk of length 0", "0000000061626364", abortOfNone},
	{"DATA and a chunk of length 0", dataChunk + "03000000", abortOfNone},
	{"DATA beyond the end", "000300c861626364", abortOfNone},
}

func TestAbort(t *testing.T) {
	for _, r := range outOfTheBlue {
		for i, family := range fwdtest.Families {
			for _, e := range fwdtest.Envelopes {
				t.Run(fmt.Sprint(r.name, "/", family.Name, "/", e.Name), func(t *testing.T) {
					in := sctpPacket(r.chunks)
					in.Src, in.Dst = family.Client, family.VIP
					e.Wrap(&in, i == 1)
					f := in.Frame()
					f.In = 1
					p := fwdtest.Parse(t, &f)
					if r.want == "" {
						fwdtest.WantUntouched(t, f, func(f *wire.Frame) bool { return answer.Abort(f, p) })
						return
					}
					if !answer.Abort(&f, p) {
						t.Fatal("refused")
					}
					want := sctpPacket(r.want[len(sctpTag):])
					want.Src, want.Dst, want.DF = family.VIP, family.Client, true
					w := replyTo(want, in.VLANs).Frame()
					after := fwdtest.Parse(t, &w)
					hex.Decode(w.From(after.L4)[wire.SCTPTag:], []byte(r.want[:len(sctpTag)]))
					wire.FillChecksum(&w, after)
					wantReply(t, f, w)
				})
			}
		}
	}
}

func sctpPacket(chunks string) wiretest.Packet {
	b, err := hex.DecodeString(chunks)
	if err != nil {
		panic(err)
	}
	return wiretest.Packet{Proto: wire.ProtoSCTP, Payload: b}
}

// TestAbortNever: nothing answers a fragment, a wrong CRC32c, a group or TCP.
func TestAbortNever(t *testing.T) {
	tests := []struct {
		name   string
		change func(*wiretest.Packet)
	}{
		{"first fragment", func(p *wiretest.Packet) { p.MF = true }},
		{"broadcast", func(p *wiretest.Packet) { p.DstMAC = wire.MAC{255, 255, 255, 255, 255, 255} }},
		{"from a group", func(p *wiretest.Packet) { p.Src = "224.0.0.1:80" }},
		{"TCP", func(p *wiretest.Packet) { p.Proto = wire.ProtoTCP }},
		{"wrong CRC32c", func(*wiretest.Packet) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := sctpPacket(dataChunk)
			in.Src, in.Dst = fwdtest.Families[0].Client, fwdtest.Families[0].VIP
			tt.change(&in)
			f := in.Frame()
			if tt.name == "wrong CRC32c" {
				f.Bytes()[f.Len()-1]++
			}
			p := fwdtest.Parse(t, &f)
			fwdtest.WantUntouched(t, f, func(f *wire.Frame) bool { return answer.Abort(f, p) })
		})
	}
}
