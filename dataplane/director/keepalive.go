package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd/answer"
)

// maxKeepAlives is a keep-alive to each end of every conn that can time out in a batch.
const maxKeepAlives = 2 * conntrack.MaxTimedOut

// Originate returns the frames to send after those of the last Process; valid until the
// next. They are queued fragments whose first has come, packets that waited for their
// server, and keep-alives. Keep-alives go to both ends of an established or half-closed
// TCP connection whose conn timed out.
//
// An end replies to a keep-alive with its own sequence numbers, and the director resets
// that reply (RefusedForgotten). So both ends learn of the loss with valid numbers,
// which no conn had to store.
func (d *Director) Originate() []wire.Frame {
	t, n := d.table, 0
	for _, c := range d.conns.TimedOut() {
		if t.Standby != StandbyNone && t.onStandby(c.VIP) {
			continue // the connection may live at the other director
		}
		if hop := t.FIB.ReturnHop(c.Client, c.ReturnHop); hop.State == Resolved {
			answer.KeepAlive(&d.keepAlives[n], &hop.Link, c.VIP, c.Client, c.VPort, c.ClientPort)
			n++
		}
		// Servers of other methods reply to the client, which resets them itself.
		if hop := &t.server(c.ServerID).NextHop; c.Method == conntrack.MethodNAT && hop.State == Resolved {
			answer.KeepAlive(&d.keepAlives[n], &hop.Link, c.Client, c.Server, c.ClientPort, c.SPort)
			n++
		}
	}
	h := &d.released
	frames := h.frames[:h.n+copy(h.frames[h.n:], d.keepAlives[:n])]
	if t.FIB.vlans != nil {
		t.tag(frames, nil)
	}
	return frames
}
