package sched

// Flags are the three bits whose meaning IPVS leaves to the scheduler.
type Flags uint32

// The values of IP_VS_SVC_F_SCHED1 to 3 in linux/ip_vs.h.
const (
	Flag1 Flags = 0x08
	Flag2 Flags = 0x10
	Flag3 Flags = 0x20
)

// FlagName is a name with which `ipvsadm -b` sets and lists a flag.
type FlagName struct {
	Name      string
	Scheduler string // the only scheduler that has it; "": any
	Flag      Flags
}

// flagNames lists the names of one scheduler before those of all, so that a listing
// prints the first match.
var flagNames = [...]FlagName{
	{"sh-fallback", "sh", Flag1},
	{"sh-port", "sh", Flag2},
	{"mh-fallback", "mh", Flag1},
	{"mh-port", "mh", Flag2},
	{"flag-1", "", Flag1},
	{"flag-2", "", Flag2},
	{"flag-3", "", Flag3},
}

// Flag looks up a flag name. The caller checks its Scheduler.
func Flag(name string) (FlagName, bool) {
	for _, n := range flagNames {
		if n.Name == name {
			return n, true
		}
	}
	return FlagName{}, false
}

// Names returns the names of the flags in f, as listings print them for a service
// with this scheduler. The lowest bit is first.
func (f Flags) Names(scheduler string) []string {
	var list []string
	for _, bit := range []Flags{Flag1, Flag2, Flag3} {
		for _, n := range flagNames {
			if f&bit == n.Flag && (n.Scheduler == "" || n.Scheduler == scheduler) {
				list = append(list, n.Name)
				break
			}
		}
	}
	return list
}
