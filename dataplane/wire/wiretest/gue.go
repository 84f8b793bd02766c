package wiretest

import (
	"errors"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// GUE is the header after UDP port 6080 (draft-ietf-intarea-gue section 3), which
// gopacket does not know:
//
//	+---+-+---------+---------------+-------------------------------+
//	|Ver|C|  Hlen   |     Proto     |            Flags              | 0
//	+---+-+---------+---------------+-------------------------------+
//	|                     Hlen times four bytes                     | 4
//	+---------------------------------------------------------------+
type GUE struct {
	layers.BaseLayer
	Version, Hlen uint8
	Control       bool
	Proto         layers.IPProtocol
	Flags         uint16
}

// LayerTypeGUE is gopacket's layer after UDP port 6080. The initialisation of this
// package registers it.
var LayerTypeGUE = gopacket.RegisterLayerType(guePort,
	gopacket.LayerTypeMetadata{Name: "GUE", Decoder: gopacket.DecodeFunc(decodeGUE)})

const guePort = 6080

func init() { layers.RegisterUDPPortLayerType(guePort, LayerTypeGUE) }

// LayerType returns LayerTypeGUE.
func (*GUE) LayerType() gopacket.LayerType { return LayerTypeGUE }

func decodeGUE(b []byte, p gopacket.PacketBuilder) error {
	if len(b) < 4 {
		return errors.New("GUE header is truncated")
	}
	g := &GUE{
		Version: b[0] >> 6, Control: b[0]&0x20 != 0, Hlen: b[0] & 0x1f, Proto: layers.IPProtocol(b[1]),
		Flags: uint16(b[2])<<8 | uint16(b[3]),
	}
	end := 4 + 4*int(g.Hlen)
	if g.Version != 0 || g.Control || len(b) < end {
		return errors.New("GUE header is not of a version 0 data packet, or is truncated")
	}
	g.BaseLayer = layers.BaseLayer{Contents: b[:end], Payload: b[end:]}
	p.AddLayer(g)
	return p.NextDecoder(g.Proto)
}
