package compile

import (
	"fmt"

	"uvs/conntrack"
	"uvs/ctl/config"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// pickerInputs are what a picker is made from.
type pickerInputs struct {
	scheduler string
	flags     sched.Flags
	options   sched.Options
	ramp      conntrack.Tick
	servers   []config.Server // never written to: operations replace the list
}

// equal compares all but the servers.
func (a *pickerInputs) equal(b *pickerInputs) bool {
	return a.scheduler == b.scheduler && a.flags == b.flags && a.options == b.options && a.ramp == b.ramp
}

// sameList reports whether a and b are one list, that is, whether no operation replaced it.
// An operation that leaves each server as it was counts as a change: IPVS tells the scheduler
// of every edit, and wrr then starts its list again.
func sameList(a, b []config.Server) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// updatePicker makes a new picker if what it is made from changed: the scheduler, its
// options, the servers. A change of routes keeps it.
func (s *RunningService) updatePicker(svc *config.Service, rt *Runtime, settings *config.Settings) {
	ramp := seconds(settings.SlowStart)
	options := settings.SchedOptions(svc.Scheduler)
	in := pickerInputs{svc.Scheduler, sched.Flags(svc.SchedFlags), options, ramp, svc.Servers}
	same := sameList(s.inputs.servers, in.servers)
	if s.picker != nil && same && s.inputs.equal(&in) {
		return
	}
	list := make([]sched.Server, len(svc.Servers))
	ids := make([]uint32, len(svc.Servers))
	for i := range svc.Servers {
		v := rt.Server(svc.ServiceKey, svc.Servers[i].ServerKey)
		counts := rt.conns.Counts(v.ID)
		ids[i] = v.ID
		list[i] = sched.Server{
			ID: v.ID, Addr: wire.AddrFrom(v.Config.Addr), Port: v.Config.Port,
			Weight: v.Config.EffectiveWeight(), LastWeight: v.weight,
			Active: &counts.Active, Inactive: &counts.Inactive,
			Overload:       &v.Overload,
			Down:           v.Config.Admin == config.AdminDown,
			SlowStartBegin: int64(v.SlowStartBegin), SlowStartEnd: int64(v.SlowStartBegin + ramp),
		}
	}
	picker, err := sched.New(in.scheduler, in.flags, list, in.options)
	if err != nil {
		panic(fmt.Sprintf("compile: service %s, which was checked: %v", svc.ServiceKey, err))
	}
	vips := 1
	if svc.FWMark != 0 {
		vips = 0 // any number
	}
	switch {
	case s.picker == nil:
		s.cursor = sched.NewCursor(in.scheduler, nil, vips)
		s.cursor.Rebase(nil, list)
	case s.inputs.scheduler != in.scheduler:
		s.cursor = sched.NewCursor(in.scheduler, list, vips)
	case !same:
		s.cursor.Rebase(s.SchedServers, list)
	}
	s.picker, s.inputs, s.SchedServers, s.ids = picker, in, list, ids
}
