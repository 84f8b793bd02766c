package routes

import (
	"context"
	"errors"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// event is an rtnetlink event: a neighbour, or a change that makes the Watcher
// read again.
type event struct {
	changed   bool // of links, addresses or routes
	addrs     bool // of addresses
	overrun   bool // the kernel dropped events of any kind
	neighbour *netlink.Neigh
	deleted   bool // the neighbour was deleted
}

// receive passes events on until ctx is done or the socket is closed.
func (w *Watcher) receive(ctx context.Context, events chan<- []event) {
	defer close(events)
	for {
		messages, from, err := w.sub.Receive()
		var batch []event
		switch {
		case errors.Is(err, unix.ENOBUFS):
			batch = []event{{changed: true, overrun: true}}
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case err != nil:
			return
		case from.Pid == nl.PidKernel:
			batch = decode(messages)
		}
		if len(batch) == 0 {
			continue
		}
		select {
		case events <- batch:
		case <-ctx.Done():
			return
		}
	}
}

// decode decodes messages that arrived together.
func decode(messages []syscall.NetlinkMessage) (batch []event) {
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			n, err := netlink.NeighDeserialize(m.Data)
			if err != nil {
				batch = append(batch, event{overrun: true})
				continue
			}
			batch = append(batch, event{neighbour: n, deleted: m.Header.Type == unix.RTM_DELNEIGH})
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			batch = append(batch, event{changed: true, addrs: true}) // routes can go with an address, without an event
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if len(m.Data) >= unix.SizeofRtMsg && nl.DeserializeRtMsg(m.Data).Table == unix.RT_TABLE_MAIN {
				batch = append(batch, event{changed: true})
			}
		default:
			batch = append(batch, event{changed: true})
		}
	}
	return batch
}

// apply records an event.
func (w *Watcher) apply(e event) {
	w.rereadHost = w.rereadHost || e.changed
	w.rereadAddrs = w.rereadAddrs || e.addrs
	w.rereadAll = w.rereadAll || e.overrun
	if e.neighbour == nil {
		return
	}
	id, ok := neighbourIDOf(e.neighbour)
	if !ok {
		return
	}
	old := w.host.neighbours[id]
	now := neighbour{macOf(e.neighbour.HardwareAddr), e.neighbour.State, e.neighbour.Flags}
	if e.deleted {
		now = neighbour{}
		delete(w.host.neighbours, id)
		if _, ok := w.requested[id]; ok {
			delete(w.solicited, id) // somebody flushes the table while a packet waits
		}
	} else {
		w.host.neighbours[id] = now
	}
	if now.usable() {
		delete(w.requested, id)
	}
	if old.usable() != now.usable() || now.usable() && old.mac != now.mac {
		w.neighbourChanged = true
	}
}
