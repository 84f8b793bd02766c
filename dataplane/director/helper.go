package director

import (
	"uvs/conntrack"
	"uvs/dataplane/helper"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// helperContext is the connection whose packet a helper processes. It implements
// helper.Expecter (expect.go).
type helperContext struct {
	d       *Director
	ref     conntrack.Ref
	server  *Server
	session *helper.Session   // nil for protocols other than TCP
	locked  conntrack.Session // of ref, while it is locked
	context helper.Context
	scratch *helper.Scratch
}

// runHelper lets a helper process a packet of a helped conn. If ok is false, the
// frame does not continue, and v is its verdict.
func (d *Director) runHelper(dir conntrack.Dir, p *packet, server *Server) (v Verdict, ok bool) {
	h, ref, sessions := &d.helper, p.query.Ref, d.table.Sessions
	h.ref, h.server, h.session = ref, server, nil
	c := d.conns.Conn(ref)
	_, vport := c.VIP()
	if c.Proto() != wire.ProtoTCP {
		if p.Proto == c.Proto() && p.Fragment == wire.FragmentNone { // ESP and AH follow conns of UDP
			h.process(server.Helper.For(p.Proto, vport), dir, p)
		}
		return 0, true
	}
	if p.Fragment != wire.FragmentNone { // with or without a session, or text would pass in fragments
		return DroppedHelperFragment, false
	}
	number, busy := d.conns.LockSession(ref)
	if number == 0 && !busy {
		// A session begins with the SYN, which states the MSS. When sessions run short,
		// as in a flood of SYNs, it begins with the first text.
		begins := p.TCPFlags&wire.TCPSyn != 0 && d.conns.SessionsMostlyFree() || hasPayload(p)
		if !begins || sessions == nil {
			return 0, true
		}
		if number, busy = d.conns.LockNewSession(ref); number != 0 {
			*sessions.At(number) = helper.Session{Helper: server.Helper.For(p.Proto, vport)}
		}
	}
	switch {
	case busy:
		return DroppedHelperBusy, false
	case number == 0: // all sessions are in use: the conn continues without help
		return 0, true
	}
	h.session = sessions.At(number)
	id := h.session.Helper
	h.locked = number
	outcome, events := h.process(id, dir, p)
	h.locked = 0
	d.conns.UnlockSession(ref, number)
	sessions.Count(d.worker, id, events)
	return outcomeVerdict[outcome], outcome <= stream.Shortened
}

// process fills in the context and runs a helper.
func (h *helperContext) process(id helper.ID, dir conntrack.Dir, p *packet) (stream.Outcome, uint16) {
	c := h.d.conns.Conn(h.ref)
	h.context.Client, _ = c.Client()
	h.context.Server, _ = c.Server()
	h.context.VIP, _ = c.VIP()
	h.context.Settings = helper.Settings{}
	if config := h.server.Helper; config != nil {
		h.context.Settings = config.Settings
	}
	return helper.Registry[id].Process(h.scratch, h.session, &h.context, dir, p.frame, &p.Packet)
}

// hasPayload reports whether a TCP packet has a payload.
func hasPayload(p *packet) bool {
	return p.Len > uint32(p.L4-p.L3)+uint32(wire.TCP(p.frame.From(p.L4)).HeaderLen())
}

// outcomeVerdict has the verdicts of the outcomes after which a frame does not go on.
var outcomeVerdict = [stream.NumOutcome]Verdict{
	stream.Answered:        AnsweredHelper,
	stream.DroppedHeldBack: DroppedHelperKept,
	stream.DroppedGap:      DroppedHelperGap,
	stream.DroppedFull:     DroppedHelperFull,
	stream.DroppedRoom:     DroppedHelperRoom,
	stream.DroppedChecksum: DroppedHelperChecksum,
	stream.DroppedFragment: DroppedHelperFragment,
	stream.DroppedRefused:  DroppedHelperRefused,
}

// renumberQuote translates the sequence number in an ICMP error's quote back to its
// sender's, if a helper has changed earlier text. A host ignores errors about numbers
// that it has not sent. It returns false if another worker has locked the session.
func (d *Director) renumberQuote(p *packet) bool {
	seq, ok := fwd.QuotedSeq(p.frame, p.inner)
	if !ok || d.table.Sessions == nil {
		return true
	}
	number, busy := d.conns.LockSession(p.query.Ref)
	if number == 0 {
		return !busy
	}
	d.helper.ref, d.helper.locked = p.query.Ref, number
	own := d.table.Sessions.At(number).QuotedSeq(p.query.Dir.Opposite(), seq)
	d.helper.locked = 0
	d.conns.UnlockSession(p.query.Ref, number)
	if own != seq {
		fwd.SetQuotedSeq(p.frame, &p.Packet, p.inner, own)
	}
	return true
}
