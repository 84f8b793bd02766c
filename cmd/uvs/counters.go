package main

import (
	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/ctl/api"
	"uvs/ctl/guard"
	"uvs/dataplane"
	"uvs/dataplane/ring"
)

// nonVerdictCounters returns the counters besides the verdicts: of the rings,
// by interface, of the guard, of the connection table, and of fragments.
func nonVerdictCounters(rings []*ring.Link, g interface{ Dropped() (guard.Dropped, error) }, conns *conntrack.Table,
	plane *dataplane.Plane,
) []api.Counter {
	var list []api.Counter
	for i, r := range rings {
		var ofRing []api.Counter
		for _, p := range r.Stats().Ports {
			ofRing = append(ofRing, portCounters(p)...)
		}
		if i == 0 {
			list = ofRing
			continue
		}
		for j, c := range ofRing {
			list[j].Value += c.Value
		}
	}
	if d, err := g.Dropped(); err == nil {
		list = append(list,
			api.Counter{Name: "guard_vip", Value: d.VIP},
			api.Counter{Name: "guard_service", Value: d.Service},
			api.Counter{Name: "guard_source", Value: d.Source},
			api.Counter{Name: "guard_error", Value: d.Error},
			api.Counter{Name: "guard_fragment", Value: d.Fragment})
	}
	list = append(list, connCounters(conns.Stats())...)
	list = append(list, api.Counter{Name: "faults", Value: plane.Faults()})
	return append(list, waitingCounters(plane.Fragments())...)
}

func connCounters(s conntrack.Stats) []api.Counter {
	list := []api.Counter{
		{Name: "conns_in_use", Value: uint64(s.InUse)},
		{Name: "conns_capacity", Value: uint64(s.Capacity)},
		{Name: "conns_memory_bytes", Value: uint64(s.Memory)},
		{Name: "conns_memory_budget_bytes", Value: uint64(s.Budget)},
		{Name: "conns_inserted", Value: s.Inserted},
		{Name: "conns_refused_full", Value: s.Full},
	}
	for e, n := range s.Ended {
		list = append(list, api.Counter{Name: "conns_ended_" + conntrack.EndReason(e).String(), Value: n})
	}
	return list
}

// waitingCounters returns the counters of fragments whose verdict was held_fragment, of
// fragment flows, and of packets whose verdict was held_no_neighbour.
func waitingCounters(t *frag.Table) []api.Counter {
	fragments, unresolved := t.Stats(frag.ForFirst), t.Stats(frag.ForNeighbour)
	return []api.Counter{
		{Name: "fragments_waiting", Value: uint64(fragments.Waiting)},
		{Name: "fragments_sent_after_first", Value: fragments.Sent},
		{Name: "fragments_stopped_after_first", Value: fragments.Stopped},
		{Name: "fragments_expired", Value: fragments.Expired},
		{Name: "fragments_displaced", Value: fragments.Evicted},
		{Name: "fragment_notes_displaced", Value: t.EvictedFlows()},
		{Name: "unresolved_waiting", Value: uint64(unresolved.Waiting)},
		{Name: "unresolved_sent", Value: unresolved.Sent},
		{Name: "unresolved_stopped", Value: unresolved.Stopped},
		{Name: "unresolved_expired", Value: unresolved.Expired},
		{Name: "unresolved_displaced", Value: unresolved.Evicted},
	}
}

func portCounters(p ring.PortStats) []api.Counter {
	name := func(what string) string { return "ring_" + p.Interface + "_" + what }
	return []api.Counter{
		{Name: name("received"), Value: p.Received},
		{Name: name("other_host"), Value: p.OtherHost},
		{Name: name("outgoing"), Value: p.Outgoing},
		{Name: name("snapped"), Value: p.Snapped},
		{Name: name("malformed"), Value: p.Malformed},
		{Name: name("ring_full"), Value: p.RingFull},
		{Name: name("tagged"), Value: p.Tagged},
		{Name: name("sent"), Value: p.Sent},
		{Name: name("split"), Value: p.Split},
		{Name: name("drop_busy"), Value: p.DropBusy},
		{Name: name("drop_queue"), Value: p.DropQueue},
		{Name: name("drop_too_long"), Value: p.DropTooLong},
		{Name: name("drop_down"), Value: p.DropDown},
		{Name: name("drop_other"), Value: p.DropOther},
	}
}
