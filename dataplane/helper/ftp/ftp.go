package ftp

import (
	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
)

// State is what is remembered of one control connection besides its stream.Conn.
// The zero value is a connection of which nothing was seen yet. It holds no pointers.
type State struct {
	line        [2]lineProgress // by the Dir that sends: what is done with the line begun
	clientSpoke bool            // the client has sent text

	// Commands that wait for their reply.
	pendingPASV, pendingEPSV, pendingAUTH uint8

	// The server's line that is on its way: its first bytes, as far as they came.
	replyHead    [4]byte
	replyHeadLen uint8
	isAwaited    bool // it was awaited
	// multiline is the code of the multi-line reply that was begun, 0 if none.
	multiline uint16
	denied    bool // a line of the reply was replaced, and so will be those like it
	// What the reply on its way announced, and what the client was told: 0, nothing.
	announcedPort, announcedVPort uint16
}

// lineProgress is what is done with the rest of a line of which a part was judged.
type lineProgress uint8

const (
	atLineStart lineProgress = iota // there is no such line
	passRest                        // it goes on as it is
	dropRest                        // it is left out
)

// Terms are what holds for a control connection.
type Terms struct {
	// Client, Server and VIP are its ends: CIP, RIP and the address the client
	// calls, all of one family.
	Client, Server, VIP wire.Addr
	// ThirdParty allows data connections with others than Client and Server.
	ThirdParty bool
	// LeaveAddress leaves the address in a 227 as the server wrote it, and does
	// not ask whose it is: for servers that are told which address to announce.
	LeaveAddress bool
}

// Expecter is asked while a frame is processed, once for every data connection
// that is announced. False: none can be expected (there are too many, the table
// is full, the port is taken), and the end that waits for it is told so.
type Expecter interface {
	// ExpectPassive is about a server that listens at server:port (server is
	// Terms.Server unless ThirdParty). The client will call VIP:vport, so vport must
	// lead there; normally it is port.
	ExpectPassive(server wire.Addr, port uint16) (vport uint16, ok bool)
	// ExpectActive is about a client that listens at client:port (client is
	// Terms.Client unless ThirdParty). The server will call it from any port of its
	// own: RFC 959 section 5.2 wants the one below that of the control connection,
	// not every server does it (vsftpd: connect_from_port_20).
	ExpectActive(client wire.Addr, port uint16) (ok bool)
}

// Event is a set of events in a segment that are worth counting.
type Event uint16

const (
	EventPassive    Event = 1 << iota // a passive data connection is expected
	EventActive                       // an active data connection is expected
	EventBounce                       // a PORT or EPRT named a third party and was replaced
	EventForeign                      // a 227 named a third party and was replaced
	EventRefused                      // the Expecter refused a data connection: replaced
	EventUnasked                      // a 227 or 229 without a command before it: passed, nothing is expected
	EventUnreadable                   // no readable address: PORT, EPRT, LPRT, LPSV replaced; 227, 229 passed
	EventTLS                          // the connection is encrypted from here on
	numEvent        = iota
)

// EventNames are the names of the events, by their bits.
var EventNames = [numEvent]string{
	"passive", "active", "bounce", "foreign", "refused", "unasked", "unreadable", "tls",
}

// Helper processes the control connections of one worker. It holds only scratch
// memory: nothing stays from one segment to the next.
type Helper struct {
	*State
	terms  Terms
	expect Expecter
	events Event
	bare   [stream.MaxUnit]byte // a command without the bytes that servers skip
	text   [stream.MaxUnit]byte // the replacement of a line
}

// New returns a Helper that asks x for data connections.
func New(x Expecter) *Helper { return &Helper{expect: x} }

// Process processes a segment of a control connection as stream.Conn.Process does,
// and reads its text. f is the frame as it came in, before translation. A SYN that
// begins a new connection sets c and s to their zero values first. The outcome says
// what becomes of the frame.
func (h *Helper) Process(c *stream.Conn, s *State, t Terms, dir conntrack.Dir, f *wire.Frame, p *wire.Packet) (stream.Outcome, Event) {
	if c.Restarts(dir, f, p) {
		*c, *s = stream.Conn{}, State{}
	}
	h.State, h.terms, h.events = s, t, 0
	outcome := c.Process(dir, f, p, h)
	return outcome, h.events
}

// Judge implements stream.Rewriter.
func (h *Helper) Judge(dir conntrack.Dir, text []byte, last bool) stream.Judgement {
	if h.line[dir.Index()] != atLineStart {
		return h.restOfLine(dir, text)
	}
	if dir == conntrack.DirIn {
		return h.command(text, last)
	}
	return h.reply(text, last)
}

// restOfLine treats the rest of a line of which a part was judged.
func (h *Helper) restOfLine(dir conntrack.Dir, text []byte) stream.Judgement {
	n, whole := lineLen(text)
	if dir == conntrack.DirOut {
		h.trackReply(text[:n], whole)
	}
	do := stream.Pass
	if h.line[dir.Index()] == dropRest {
		do = stream.Replace
	}
	if whole {
		h.line[dir.Index()] = atLineStart
	}
	return stream.Judgement{Do: do, N: n}
}

// setRest notes that the n bytes judged are a line only if whole, and that
// otherwise its rest is treated so.
func (h *Helper) setRest(dir conntrack.Dir, whole bool, rest lineProgress) {
	if !whole {
		h.line[dir.Index()] = rest
	}
}
