package director

import (
	"slices"
	"sync/atomic"

	"uvs/conntrack"
	"uvs/dataplane/helper/ftp"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/slab"
	"uvs/dataplane/wire"
)

// Helper says how the connections of a masqueraded service are helped that
// announce others: FTP over TCP, TFTP over UDP.
type Helper struct {
	// Ports are where the connections go that are helped.
	Ports []HelpedPort
	// ThirdParty lets a client have FTP data sent to another host than itself
	// (a bounce, RFC 2577 section 3).
	ThirdParty bool
	// LeaveAddress leaves the address in FTP's 227 as the server wrote it.
	LeaveAddress bool
}

// HelpedPort is a port of a service: over TCP of FTP, over UDP of TFTP.
type HelpedPort struct {
	Proto uint8
	Port  uint16
}

// helps says whether connections to a port are helped.
func (h *Helper) helps(proto uint8, port uint16) bool {
	return h != nil && slices.Contains(h.Ports, HelpedPort{proto, port})
}

// Sessions is what helpers remember of connections, and count. It outlives every
// table.
type Sessions struct {
	slab   slab.Slab[session] // by their numbers
	counts []sessionCounts    // by worker
}

// session is what is remembered of one helped TCP connection.
type session struct {
	ftp ftp.Conn
	// What was announced last, while nobody has come: the VIP's port, and the
	// client's end.
	passive    uint16
	active     wire.Addr
	activePort uint16
}

// sessionCounts belong to one worker, their only writer.
type sessionCounts struct {
	n [ftp.NumNote]atomic.Uint64
	_ [64]byte
}

// NewSessions makes room for as many sessions as conns can have: some 85
// MiB of address space, of which as much is used as there ever were sessions.
func NewSessions(workers int) (*Sessions, error) {
	room, err := slab.New[session](conntrack.MaxSessions + 1)
	if err != nil {
		return nil, err
	}
	return &Sessions{slab: room, counts: make([]sessionCounts, workers)}, nil
}

// Counts adds up what the workers' helpers came across, by the bits of ftp.Note.
func (s *Sessions) Counts() (sums [ftp.NumNote]uint64) {
	for i := range s.counts {
		for bit := range sums {
			sums[bit] += s.counts[i].n[bit].Load()
		}
	}
	return sums
}

// Close gives the memory back; no table may use it any more.
func (s *Sessions) Close() error { return s.slab.Close() }

// helping is the conn whose packet a helper looks at; it is asked by the helper
// what may be expected.
type helping struct {
	d       *Director
	ref     conntrack.Ref
	server  *Server
	session *session
	terms   ftp.Terms
	ftp     ftp.Helper
}

// help lets a helper look at a packet of a helped conn. If ok is false the frame
// is not to go on, and v is what became of it.
func (d *Director) help(dir conntrack.Dir, p *packet, server *Server) (v Verdict, ok bool) {
	h := &d.helping
	h.ref, h.server = p.query.Ref, server
	if p.Proto != wire.ProtoTCP {
		if dir == conntrack.DirIn && p.Fragment == wire.FragmentNone {
			h.expectTransfer(p)
		}
		return 0, true
	}
	if p.Fragment != wire.FragmentNone { // with or without a session, or text would slip through in pieces
		return DroppedHelperFragment, false
	}
	number, busy := d.conns.LockSession(p.query.Ref)
	if number == 0 && !busy {
		// A session begins with its SYN, from which the MSS is learned; when they
		// run short, as in a flood of SYNs, not before its first text.
		begins := p.TCPFlags&wire.TCPSyn != 0 && d.conns.SessionsMostlyFree() || hasText(p)
		if !begins || d.table.Sessions == nil {
			return 0, true
		}
		if number, busy = d.conns.LockNewSession(p.query.Ref); number != 0 {
			d.table.Sessions.slab.Items[number] = session{}
		}
	}
	switch {
	case busy:
		return DroppedHelperBusy, false
	case number == 0: // all sessions are in use: the conn goes without help meanwhile
		return 0, true
	}
	h.session = &d.table.Sessions.slab.Items[number]
	outcome, seen := h.process(dir, p)
	d.conns.UnlockSession(p.query.Ref, number)
	if seen != 0 {
		d.table.Sessions.counts[d.worker].add(seen)
	}
	return outcomeVerdict[outcome], outcome <= stream.Shortened
}

// process runs the frame through FTP's helper.
func (h *helping) process(dir conntrack.Dir, p *packet) (stream.Outcome, ftp.Note) {
	c := h.d.conns.Conn(h.ref)
	h.terms = ftp.Terms{}
	h.terms.Client, _ = c.Client()
	h.terms.Server, _ = c.Server()
	h.terms.VIP, _ = c.VIP()
	if helper := h.server.Helper; helper != nil {
		h.terms.ThirdParty, h.terms.LeaveAddress = helper.ThirdParty, helper.LeaveAddress
	}
	return h.ftp.Process(&h.session.ftp, &h.terms, h, dir, p.frame, &p.Packet)
}

// hasText says whether a TCP packet has a payload.
func hasText(p *packet) bool {
	return p.Len > uint32(p.L4-p.L3)+uint32(wire.TCP(p.frame.From(p.L4)).HeaderLen())
}

// outcomeVerdict is what a stream's outcome makes of a frame; a frame that goes
// on has the verdict of its way.
var outcomeVerdict = [stream.NumOutcome]Verdict{
	stream.Answered:        AnsweredHelper,
	stream.DroppedKept:     DroppedHelperKept,
	stream.DroppedGap:      DroppedHelperGap,
	stream.DroppedFull:     DroppedHelperFull,
	stream.DroppedRoom:     DroppedHelperRoom,
	stream.DroppedChecksum: DroppedHelperChecksum,
	stream.DroppedFragment: DroppedHelperFragment,
	stream.DroppedRefused:  DroppedHelperRefused,
}

func (c *sessionCounts) add(seen ftp.Note) {
	for bit := range c.n {
		if seen>>bit&1 != 0 {
			c.n[bit].Add(1)
		}
	}
}

// firstVPort is the lowest port that a data connection to a server may be announced
// at, by the server or in another's place, vportStep how far on the next is tried (a prime, so that
// all are reached), vportTries how many are.
const (
	firstVPort = wire.PortUnprivileged
	vportStep  = 7919
	vportTries = 8
)

// ExpectPassive lets the client of the control connection call VIP:vport once,
// where the server listens at port. The two ports are the same unless somebody
// else is to be found there: a service, or what another control connection of
// the same client announced.
func (h *helping) ExpectPassive(server wire.Addr, port uint16) (vport uint16, ok bool) {
	c := h.d.conns.Conn(h.ref)
	switch {
	case server != h.terms.Server: // packets for another address would reach this server
		return 0, false
	case port < firstVPort: // a service of the server's, to which it was tricked, or may be
		return 0, false
	}
	h.endPassive(c)
	n := h.expectation(c)
	n.NoClientPort, n.SPort = true, port
	vport = port
	for range vportTries {
		key := Endpoint{Addr: n.VIP, Port: vport, Proto: n.Proto}
		if n.VPort = vport; h.d.table.Services[key] == nil && h.d.expect(h.ref, server) {
			h.session.passive = vport
			return vport, true
		}
		vport = firstVPort + uint16((uint32(vport)+vportStep)%(1<<16-firstVPort))
	}
	return 0, false
}

// ExpectActive lets the server of the control connection call the client's port
// once, from any port of its own; the client sees the one below that of the
// control connection.
func (h *helping) ExpectActive(client wire.Addr, port uint16) (ok bool) {
	c := h.d.conns.Conn(h.ref)
	if port == 0 {
		return false
	}
	h.endActive(c)
	n := h.expectation(c)
	_, vport := c.VIP()
	_, sport := c.Server()
	n.NoServerPort, n.VPort, n.SPort = true, max(vport-1, 1), max(sport-1, 1)
	if n.Client != client {
		n.ReturnHop = 0 // not where this client's packets come from
	}
	n.Client, n.ClientPort = client, port
	if !h.d.vacate(n) || !h.d.expect(h.ref, h.terms.Server) {
		return false
	}
	h.session.active, h.session.activePort = client, port
	return true
}

// expectTransfer lets the server of a TFTP request answer from a port of its own
// (RFC 1350 section 4): the client's next packets go to the VIP's port of the
// same number.
func (h *helping) expectTransfer(p *packet) {
	b := p.frame.From(p.L4)[wire.UDPLen:]
	if len(b) < 2 || b[0] != 0 || b[1] != tftpRead && b[1] != tftpWrite {
		return
	}
	c := h.d.conns.Conn(h.ref)
	n := h.expectation(c)
	n.State = conntrack.UDPNormal
	n.NoServerPort, n.ClientPort = true, p.SrcPort
	_, n.SPort = c.Server()
	server, _ := c.Server()
	h.d.expect(h.ref, server)
}

// Opcodes of TFTP's requests (RFC 1350 section 5).
const (
	tftpRead  = 1
	tftpWrite = 2
)

// expectation begins a new entry that a conn announced, in Director.entry.
func (h *helping) expectation(c *conntrack.Conn) *conntrack.Entry {
	n := &h.d.entry
	*n = conntrack.Entry{
		Proto: c.Proto(), State: conntrack.TCPListen, Method: conntrack.MethodMasq,
		ServerID: c.ServerID(), ServiceID: c.ServiceID(), Control: h.ref, ReturnHop: c.ReturnHop(),
		Timeout: h.d.conns.Timeout(conntrack.TCPListen, h.server.Timeouts),
	}
	n.Client, _ = c.Client()
	n.VIP, _ = c.VIP()
	n.Server, _ = c.Server()
	return n
}

// expect enters Director.entry. What the same control connection, or another to
// the same server, announced before under that name it replaces; false: another
// server's connection has it, or the table is full.
func (d *Director) expect(control conntrack.Ref, server wire.Addr) bool {
	for range 2 {
		ref, fresh := d.conns.Insert(&d.entry)
		if fresh || ref == 0 {
			return fresh
		}
		c := d.conns.Conn(ref)
		if known, _ := c.Server(); c.Control() != control && known != server {
			return false
		}
		d.conns.Expire(ref)
	}
	return false
}

// vacate ends an old data connection between the ends of one that the server is
// to open; false: it is in use.
func (d *Director) vacate(n *conntrack.Entry) bool {
	d.single[0] = conntrack.Query{
		Proto: n.Proto, Dir: conntrack.DirIn,
		Client: n.Client, ClientPort: n.ClientPort, Peer: n.VIP, PeerPort: n.VPort,
	}
	d.conns.Lookup(d.single[:])
	ref := d.single[0].Ref
	if ref == 0 || d.conns.Conn(ref).Expectation() {
		return true
	}
	if d.conns.Conn(ref).State() == conntrack.TCPEstablished {
		return false
	}
	d.conns.Expire(ref)
	return true
}

// endPassive ends what the control connection announced before and nobody came
// for, and endActive likewise: so it has one of each at most.
func (h *helping) endPassive(c *conntrack.Conn) {
	if h.session.passive == 0 {
		return
	}
	q := &h.d.single[0]
	*q = conntrack.Query{Proto: c.Proto(), Dir: conntrack.DirIn, PeerPort: h.session.passive}
	q.Client, _ = c.Client()
	q.Peer, _ = c.VIP()
	h.end()
	h.session.passive = 0
}

func (h *helping) endActive(c *conntrack.Conn) {
	if h.session.activePort == 0 {
		return
	}
	q := &h.d.single[0]
	*q = conntrack.Query{Proto: c.Proto(), Dir: conntrack.DirOut, Client: h.session.active, ClientPort: h.session.activePort}
	q.Peer, _ = c.Server()
	h.end()
	h.session.activePort = 0
}

// end ends the expectation of this control connection that Director.single finds.
func (h *helping) end() {
	h.d.conns.Lookup(h.d.single[:])
	if ref := h.d.single[0].Ref; ref != 0 {
		if e := h.d.conns.Conn(ref); e.Expectation() && e.Control() == h.ref {
			h.d.conns.Expire(ref)
		}
	}
}

// metByClient treats a client's packet for which only an expectation was found:
// one that opens a connection gets it, nothing else does.
func (d *Director) metByClient(p *packet) Verdict {
	ref, server := p.query.Ref, d.table.server(d.conns.Conn(p.query.Ref).ServerID())
	p.query.Ref = 0
	if !opensConn(p) || !server.Available {
		return d.newConn(p)
	}
	if p.query.Ref = d.conns.SetPort(ref, p.SrcPort); p.query.Ref == 0 {
		return DroppedTableFull
	}
	return d.toServer(p, server)
}

// metByServer is metByClient for a server's packet.
func (d *Director) metByServer(p *packet) Verdict {
	if p.Proto == wire.ProtoTCP && !opensConn(p) {
		return d.unmatchedReply(p)
	}
	if p.query.Ref = d.conns.SetPort(p.query.Ref, p.SrcPort); p.query.Ref == 0 {
		return DroppedTableFull
	}
	if _, port := d.conns.Conn(p.query.Ref).Server(); port != p.SrcPort {
		return DroppedUnexpected // from two ports at once
	}
	return d.fromServer(p)
}
