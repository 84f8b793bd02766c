package ftp

import (
	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
)

// State is what is remembered of one control connection besides its stream.Conn. The
// zero value is a connection that has not been seen. It holds no pointers.
type State struct {
	line        [2]lineProgress // by direction: what happens to the rest of the current line
	clientSpoke bool            // the client has sent text

	// Commands without a reply so far.
	pendingPassive, pendingAUTH uint8 // PASV and EPSV are passive

	// The first bytes of the server's current line, as far as they have come.
	replyHead    [4]byte
	replyHeadLen uint8
	isAwaited    bool // a command waits for this line
	// multiline is the code of the multi-line reply that has begun, 0 if none.
	multiline uint16
	denied    bool // a line of the reply was replaced; similar lines of it will be too
	// The port in the current reply, and the port that the client was told; 0 if none.
	announcedPort, announcedVPort uint16
}

// lineProgress is what happens to the rest of a line that was judged in part.
type lineProgress uint8

const (
	atLineStart lineProgress = iota // no line has begun
	passRest                        // it passes unchanged
	dropRest                        // it is removed
)

// Context are what the helper must know about a control connection.
type Context struct {
	// CIP, RIP and the address that the client uses, all of one family.
	Client, Server, VIP wire.Addr
	// Bounce allows data connections to hosts other than Client and Server.
	Bounce bool
	// LeaveAddress leaves the address in a 227 as the server wrote it and does not
	// check it: for servers that are configured with the address to announce.
	LeaveAddress bool
}

// Expecter is asked once for each data connection that is announced. ok is false if the
// connection cannot be expected: too many are, the table is full, or the port is taken.
// The end that waits for it is then told so.
type Expecter interface {
	// ExpectPassive: the server listens at server:port (Context.Server unless Bounce is
	// set). The client will connect to VIP:vport, which must lead there. Normally vport
	// is port.
	ExpectPassive(server wire.Addr, port uint16) (vport uint16, ok bool)
	// ExpectActive: the client listens at client:port (Context.Client unless Bounce is
	// set). The server will connect to it from any port. RFC 959 section 5.2 demands the
	// port below that of the control connection, but not every server uses it (vsftpd:
	// connect_from_port_20).
	ExpectActive(client wire.Addr, port uint16) (ok bool)
}

// Event is a set of events in a segment that are worth counting.
type Event uint16

const (
	EventPassive    Event = 1 << iota // a passive data connection is expected
	EventActive                       // an active data connection is expected
	EventBounce                       // a PORT or EPRT named another host and was replaced
	EventForeign                      // a 227 named another host and was replaced
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
	context Context
	expect  Expecter
	events  Event
	bare    [stream.MaxUnit]byte // a command without the bytes that servers skip
	text    [stream.MaxUnit]byte // the replacement of a line
}

// New returns a Helper that asks x for data connections.
func New(x Expecter) *Helper { return &Helper{expect: x} }

// Process processes a segment of a control connection as stream.Conn.Process does,
// and reads its text. f is the frame as it came in, before translation. A SYN that
// begins a new connection sets c and s to their zero values first. The outcome says
// what becomes of the frame.
func (h *Helper) Process(
	c *stream.Conn, s *State, t Context, dir conntrack.Dir, f *wire.Frame, p *wire.Packet,
) (stream.Outcome, Event) {
	if c.Restarts(dir, f, p) {
		*c, *s = stream.Conn{}, State{}
	}
	h.State, h.context, h.events = s, t, 0
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

// restOfLine judges the rest of a line that was judged in part.
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

// setRest records what happens to the rest of a line, unless the whole line was judged.
func (h *Helper) setRest(dir conntrack.Dir, whole bool, rest lineProgress) {
	if !whole {
		h.line[dir.Index()] = rest
	}
}
