package sched

// Flags are the three bits IPVS gives a scheduler to use as it likes.
type Flags uint32

// The values are those of IP_VS_SVC_F_SCHED1 to 3 in linux/ip_vs.h.
const (
	Flag1 Flags = 0x08
	Flag2 Flags = 0x10
	Flag3 Flags = 0x20
)

// FlagName is a name by which `ipvsadm -b` sets or lists a flag.
type FlagName struct {
	Name      string
	Scheduler string // the only scheduler it is for; "": any
	Flag      Flags
}

// flagNames has the names with a meaning before the plain ones, so that the
// first that fits is the one to print.
var flagNames = [...]FlagName{
	{"sh-fallback", "sh", Flag1},
	{"sh-port", "sh", Flag2},
	{"mh-fallback", "mh", Flag1},
	{"mh-port", "mh", Flag2},
	{"flag-1", "", Flag1},
	{"flag-2", "", Flag2},
	{"flag-3", "", Flag3},
}

// Flag looks a flag name up, for whatever scheduler it is.
func Flag(name string) (FlagName, bool) {
	for _, n := range flagNames {
		if n.Name == name {
			return n, true
		}
	}
	return FlagName{}, false
}

// Names are the names of the flags set in f as listings of a service with the
// given scheduler print them, lowest bit first.
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
