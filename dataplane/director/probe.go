package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd/reply"
)

// originator makes frames that no frame called for, in memory of its own.
type originator struct {
	frames [maxProbes]wire.Frame
}

const maxProbes = 2 * conntrack.MaxTimedOut

func newOriginator() *originator {
	o := new(originator)
	memory := make([]byte, len(o.frames)*reply.ProbeLen)
	for i := range o.frames {
		o.frames[i].Buf = memory[i*reply.ProbeLen : (i+1)*reply.ProbeLen]
	}
	return o
}

// Originate gives the frames to be sent after those of the last Process:
// fragments that were held, whose first has come; and what time called for,
// probes to the ends of TCP connections that were forgotten. An end answers a
// probe with its own numbers, and that answer is reset (see forgotten), so that
// it learns of the loss with right sequence numbers and nobody had to keep them.
// The frames are good until the next Process; t is the table of the last.
func (d *Director) Originate(t *Table) []wire.Frame {
	n := 0
	for _, c := range d.conns.TimedOut() {
		if way := t.FIB.ReturnHop(c.Client, c.ReturnHop); way.State == Resolved {
			reply.Probe(&d.probes.frames[n], &way.Link, c.VIP, c.Client, c.VPort, c.ClientPort)
			n++
		}
		// Servers of other methods answer the client, who tells them itself.
		if way := &t.server(c.ServerID).NextHop; c.Method == conntrack.MethodMasq && way.State == Resolved {
			reply.Probe(&d.probes.frames[n], &way.Link, c.Client, c.Server, c.ClientPort, c.SPort)
			n++
		}
	}
	r := d.held
	frames := r.frames[:r.n+copy(r.frames[r.n:], d.probes.frames[:n])]
	if t.FIB.vlans != nil {
		t.tag(frames, nil)
	}
	return frames
}
