// Package helper knows the protocols whose connections announce others. A helper
// reads what a connection says and tells the director which connections to expect,
// as a helper of netfilter's connection tracking does
// (include/net/netfilter/nf_conntrack_helper.h).
//
//	helper.go    Helper, Expecter, Scratch: what the director calls
//	registry.go  Registry: every helper, with its ports and settings
//	session.go   Session: what is remembered of a helped TCP connection
//	stream       changes the text of a TCP connection on its way
//	ftp, tftp    the protocols
//	sip          Call-IDs, by which the SIP persistence engine keeps calls together
package helper

import (
	"uvs/conntrack"
	"uvs/dataplane/helper/ftp"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
)

// Helper is one protocol: a row of Registry.
type Helper struct {
	Name  string // of the protocol, and of the setting that is its mode
	Proto uint8  // the transport protocol of the connections that announce others
	Port  uint16 // their server port
	// DataPort is set if servers open connections to clients from the port below
	// that of the control connection (RFC 959 section 5.2).
	DataPort bool
	Mode     func(*Settings) uint32 // Off, On or Auto
	Events   []string               // the names of what Process counts, by the bits it returns
	Process  Process
}

// Process reads and may change a packet as it came in, before translation. s is the
// session of a TCP connection, nil for other protocols. Bit i of events is set if what
// Events[i] names has happened.
type Process func(
	w *Scratch, s *Session, c *Context, dir conntrack.Dir, f *wire.Frame, p *wire.Packet,
) (outcome stream.Outcome, events uint16)

// ID is a helper's index in Registry.
type ID uint8

// Port is a port of a service and the helper of the connections to it.
type Port struct {
	Helper ID
	Port   uint16
}

// Proto returns the transport protocol of the connections.
func (p Port) Proto() uint8 { return Registry[p.Helper].Proto }

// Config configures the helpers of a NAT service. A nil Config helps nothing.
type Config struct {
	Ports    []Port
	Settings Settings
}

// At finds the helper of the connections to a port.
func (c *Config) At(proto uint8, port uint16) (id ID, ok bool) {
	if c == nil {
		return 0, false
	}
	for _, p := range c.Ports {
		if p.Port == port && p.Proto() == proto {
			return p.Helper, true
		}
	}
	return 0, false
}

// For is At for a connection that is helped already. If the configuration has
// changed since, it returns the first helper of the transport protocol.
func (c *Config) For(proto uint8, port uint16) ID {
	id, ok := c.At(proto, port)
	for !ok && Registry[id].Proto != proto {
		id++
	}
	return id
}

// Context is what a helper must know about a connection besides its packets.
type Context struct {
	Client, Server, VIP wire.Addr // CIP, RIP and the address that the client uses
	Settings            Settings
}

// Expecter enters expectations for the connection whose packet is being processed.
type Expecter interface {
	ftp.Expecter
	// ExpectReply lets the server reply from any port to the client's port. The
	// client's next packets then go to that port of the VIP.
	ExpectReply(clientPort uint16)
}

// Scratch is the memory of one worker's helpers. Nothing in it stays from one packet to
// the next.
type Scratch struct {
	ftp    *ftp.Helper
	expect Expecter
}

// NewScratch returns a Scratch that enters expectations through x.
func NewScratch(x Expecter) *Scratch { return &Scratch{ftp: ftp.New(x), expect: x} }
