package helper

import (
	"uvs/conntrack"
	"uvs/dataplane/helper/ftp"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/helper/tftp"
	"uvs/dataplane/wire"
)

// DataPort returns the port from which a server opens a connection to the client of
// a control connection (RFC 959 section 5.2).
func DataPort(control uint16) uint16 { return max(control-1, 1) }

// The helpers, by their place in Registry.
const (
	FTP ID = iota
	TFTP
)

// Modes of a helper.
const (
	Off  = iota // nothing is helped
	On          // the service's port; for a mark, each single port in its rules
	Auto        // the protocol's port
)

// Settings are what an operator may set for the helpers of a service. config.Settings
// embeds this struct; the tags are described there. A field _ continues the tags of the
// field before.
type Settings struct {
	FTP             uint32   `name:"ftp" default:"2" max:"2" words:"off on auto" scope:"service" applies:"helper"`
	_               struct{} `help:"help FTP through NAT: off; on: at the service's port; for a mark, at each single"`
	_               struct{} `help:"port in its rules; auto: at port 21"`
	FTPBounce       bool     `name:"ftp_bounce" scope:"service" applies:"helper"`
	_               struct{} `help:"1: an FTP client may have data sent to another host (PORT, EPRT);"`
	_               struct{} `help:"0: its server is told to refuse that"`
	FTPLeaveAddress bool     `name:"ftp_leave_address" scope:"service" applies:"helper"`
	_               struct{} `help:"1: the address in a server's 227 stays as it is, for servers that announce the"`
	_               struct{} `help:"VIP themselves; 0: it becomes the VIP"`
	TFTP            uint32   `name:"tftp" default:"2" max:"2" words:"off on auto" scope:"service" applies:"helper"`
	_               struct{} `help:"help TFTP through NAT, whose servers reply from other ports: off; on: as ftp;"`
	_               struct{} `help:"auto: at UDP port 69"`
}

// Registry has every helper that expects connections. A new one needs a row, its
// settings above, and, if it remembers anything about a connection, a field of Session.
var Registry = [...]Helper{
	FTP: {
		Name: "ftp", Proto: wire.ProtoTCP, Port: wire.PortFTP, DataPort: true,
		Mode:   func(s *Settings) uint32 { return s.FTP },
		Events: ftp.EventNames[:], Process: processFTP,
	},
	TFTP: {
		Name: "tftp", Proto: wire.ProtoUDP, Port: wire.PortTFTP,
		Mode:    func(s *Settings) uint32 { return s.TFTP },
		Process: processTFTP,
	},
}

func processFTP(
	w *Scratch, s *Session, c *Context, dir conntrack.Dir, f *wire.Frame, p *wire.Packet,
) (stream.Outcome, uint16) {
	outcome, events := w.ftp.Process(&s.tcp, &s.ftp, ftp.Context{
		Client: c.Client, Server: c.Server, VIP: c.VIP,
		Bounce: c.Settings.FTPBounce, LeaveAddress: c.Settings.FTPLeaveAddress,
	}, dir, f, p)
	return outcome, uint16(events)
}

func processTFTP(
	w *Scratch, _ *Session, _ *Context, dir conntrack.Dir, f *wire.Frame, p *wire.Packet,
) (stream.Outcome, uint16) {
	if dir == conntrack.DirIn && tftp.IsRequest(f.From(p.L4)[wire.UDPLen:]) {
		w.expect.ExpectReply(p.SrcPort)
	}
	return stream.Passed, 0
}
