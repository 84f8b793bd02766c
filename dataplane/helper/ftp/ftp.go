package ftp

import (
	"strings"

	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
)

// Conn is what is remembered of one control connection: a stream.Conn and a few
// bytes. The zero value is a connection of which nothing was seen yet. It holds
// no pointers; only one frame may be processed with it at a time.
type Conn struct {
	stream stream.Conn
	line   [2]progress // by the Dir that sends: what is done with the line begun
	began  bool        // the client has sent text

	// Commands that wait for their reply.
	passive, extended, auth uint8

	// The server's line that is on its way: its first bytes, as far as they came.
	head  [4]byte
	heads uint8
	mine  bool // it was awaited
	// block is the code of the multi-line reply that was begun, 0 if none.
	block  uint16
	denied bool // a line of the reply was replaced, and so will be those like it
	// What the reply on its way announced, and what the client was told: 0, nothing.
	port, vport uint16
}

// progress is what is done with the rest of a line of which a part was judged.
type progress uint8

const (
	reading  progress = iota // there is no such line
	passing                  // it goes on as it is
	dropping                 // it is left out
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

// Note is a set of things worth counting that a frame's text brought.
type Note uint16

const (
	NotePassive    Note = 1 << iota // a passive data connection is expected
	NoteActive                      // an active data connection is expected
	NoteBounce                      // a PORT or EPRT named a third party and was replaced
	NoteForeign                     // a 227 named a third party and was replaced
	NoteRefused                     // the Expecter would not expect a data connection: replaced
	NoteUnasked                     // a 227 or 229 that nobody asked for: passed, not believed
	NoteUnreadable                  // a PORT, EPRT, LPRT or LPSV (replaced), 227 or 229 (passed) without a readable address
	NoteTLS                         // the connection is encrypted from here on
	NumNote        = iota
)

var noteNames = [NumNote]string{
	"passive", "active", "bounce", "foreign", "refused", "unasked", "unreadable", "tls",
}

// String names the notes in the set, one if it is one.
func (n Note) String() string {
	var names []string
	for i, name := range noteNames {
		if n>>i&1 != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// Helper processes the control connections of one worker. The zero value is
// ready; it is scratch only and remembers nothing from frame to frame.
type Helper struct {
	*Conn
	terms *Terms
	ask   Expecter
	notes Note
	bare  [stream.MaxUnit]byte // a command without what does not count
	text  [stream.MaxUnit]byte // what replaces a line
}

// Process treats a segment of a control connection as stream.Conn.Process does,
// with what its text means: f is the frame as it came in, before translation. A
// SYN that begins the connection anew makes c the zero value first. The outcome
// says what becomes of the frame, the notes what was in it.
func (h *Helper) Process(c *Conn, t *Terms, ask Expecter, dir conntrack.Dir, f *wire.Frame, p *wire.Packet) (stream.Outcome, Note) {
	if c.stream.Anew(dir, f, p) {
		*c = Conn{}
	}
	h.Conn, h.terms, h.ask, h.notes = c, t, ask, 0
	outcome := c.stream.Process(dir, f, p, h)
	return outcome, h.notes
}

// Quoted is stream.Conn.Quoted.
func (c *Conn) Quoted(dir conntrack.Dir, seq uint32) uint32 { return c.stream.Quoted(dir, seq) }

// Judge implements stream.Rewriter.
func (h *Helper) Judge(dir conntrack.Dir, text []byte, last bool) stream.Judgement {
	if h.line[dir.Index()] != reading {
		return h.rest(dir, text)
	}
	if dir == conntrack.DirIn {
		return h.command(text, last)
	}
	return h.reply(text, last)
}

// rest treats the rest of a line of which a part was judged.
func (h *Helper) rest(dir conntrack.Dir, text []byte) stream.Judgement {
	n, whole := lineLen(text)
	if dir == conntrack.DirOut {
		h.track(text[:n], whole)
	}
	do := stream.Pass
	if h.line[dir.Index()] == dropping {
		do = stream.Replace
	}
	if whole {
		h.line[dir.Index()] = reading
	}
	return stream.Judgement{Do: do, N: n}
}

// part notes that the n bytes judged are a line only if whole, and that
// otherwise its rest is treated so.
func (h *Helper) part(dir conntrack.Dir, whole bool, rest progress) {
	if !whole {
		h.line[dir.Index()] = rest
	}
}
