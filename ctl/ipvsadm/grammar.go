package ipvsadm

import (
	"math/bits"

	"uvs/ctl/config"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// option is an option of a command. One option can have several spellings (-g, -i and -m
// are all forwarding-method). ipvsadm checks options against the command in this order,
// which decides the error that it prints.
type option uint8

const (
	optNumeric option = iota
	optConnection
	optService
	optScheduler
	optPersistent
	optNetmask
	optServer
	optMethod
	optWeight
	optUpper
	optLower
	optMcastInterface
	optTimeout
	optDaemon
	optStats
	optRate
	optThresholds
	optPersistentConn
	optNoSort
	optSyncID
	optExact
	optOPS
	optPE
	optSchedFlags
	optMcastGroup
	optMcastPort
	optMcastTTL
	optSyncMaxLen
	optTunInfo
	optTunType
	optTunPort
	optTunNoCsum
	optTunCsum
	optTunRemCsum
	optNone // a spelling that is legal everywhere, any number of times
)

// optionNames are the names of options in messages.
var optionNames = [...]string{
	optNumeric: "numeric", optConnection: "connection", optService: "service-address",
	optScheduler: "scheduler", optPersistent: "persistent", optNetmask: "netmask",
	optServer: "real-server", optMethod: "forwarding-method", optWeight: "weight",
	optUpper: "u-threshold", optLower: "l-threshold", optMcastInterface: "mcast-interface",
	optTimeout: "timeout", optDaemon: "daemon", optStats: "stats", optRate: "rate",
	optThresholds: "thresholds", optPersistentConn: "persistent-conn", optNoSort: "nosort",
	optSyncID: "syncid", optExact: "exact", optOPS: "ops", optPE: "pe",
	optSchedFlags: "sched-flags", optMcastGroup: "mcast-group", optMcastPort: "mcast-port",
	optMcastTTL: "mcast-ttl", optSyncMaxLen: "sync-maxlen", optTunInfo: "tun-info",
	optTunType: "tun-type", optTunPort: "tun-port", optTunNoCsum: "tun-nocsum",
	optTunCsum: "tun-csum", optTunRemCsum: "tun-remcsum",
}

func (o option) String() string { return optionNames[o] }

// optionSet is a set of options, one bit each.
type optionSet uint64

// setOf returns the set of its arguments without optNone.
func setOf(options ...option) optionSet {
	var s optionSet
	for _, o := range options {
		s |= 1 << o
	}
	return s &^ (1 << optNone)
}

func (s optionSet) has(o option) bool        { return s&(1<<o) != 0 }
func (s optionSet) hasAny(of optionSet) bool { return s&of != 0 }

// rule has the options that may be given together; all others are illegal.
type rule struct {
	must  optionSet // all of them
	may   optionSet // any of them
	oneOf optionSet // one of them at most
}

// check returns the first error of the given options, in option order. word and kind are
// what the rule is for: 'list' command, 'gue' tunnel type.
func (r rule) check(given optionSet, word, kind string) error {
	legal := r.must | r.may | r.oneOf
	chosen := optNone
	for rest := given | r.must; rest != 0; rest &= rest - 1 {
		switch o := option(bits.TrailingZeros64(uint64(rest))); {
		case !given.has(o):
			return refuse("You need to supply the '%s' option for the '%s' %s", o, word, kind)
		case !legal.has(o):
			return refuse("Illegal '%s' option with the '%s' %s", o, word, kind)
		case r.oneOf.has(o) && chosen != optNone:
			return refuse("The option '%s' conflicts with the '%s' option in the '%s' %s", o, chosen, word, kind)
		case r.oneOf.has(o):
			chosen = o
		}
	}
	return nil
}

// command is the command of a command line.
type command uint8

const (
	cmdNone command = iota
	cmdAddService
	cmdEditService
	cmdDeleteService
	cmdFlush
	cmdList
	cmdAddServer
	cmdDeleteServer
	cmdEditServer
	cmdSet
	cmdStartDaemon
	cmdStopDaemon
	cmdRestore
	cmdSave
	cmdZero
	cmdHelp
	cmdVersion
)

var (
	aboutService = setOf(optScheduler, optPersistent, optNetmask, optPE, optOPS, optSchedFlags)
	aboutServer  = setOf(optMethod, optWeight, optUpper, optLower) | aboutTunnel
	aboutTunnel  = setOf(optTunType, optTunPort, optTunNoCsum, optTunCsum, optTunRemCsum)
	aboutDaemon  = setOf(optSyncID, optMcastInterface, optMcastGroup, optMcastPort, optMcastTTL, optSyncMaxLen)
	aboutList    = setOf(optNumeric, optExact, optStats, optRate, optThresholds, optPersistentConn,
		optNoSort, optSyncID, optTunInfo)
)

// commands has the name of each command in messages, and the options that it takes. Help
// and version need no rule, because parsing stops at them.
var commands = [...]struct {
	name string
	rule
}{
	cmdAddService:    {"add-service", rule{must: setOf(optService), may: aboutService}},
	cmdEditService:   {"edit-service", rule{must: setOf(optService), may: aboutService}},
	cmdDeleteService: {"delete-service", rule{must: setOf(optService)}},
	cmdFlush:         {"flush", rule{}},
	cmdList:          {"list", rule{may: aboutList, oneOf: setOf(optService, optConnection, optTimeout, optDaemon)}},
	cmdAddServer:     {"add-server", rule{must: setOf(optService, optServer), may: aboutServer}},
	cmdDeleteServer:  {"delete-server", rule{must: setOf(optService, optServer)}},
	cmdEditServer:    {"edit-server", rule{must: setOf(optService, optServer), may: aboutServer}},
	cmdSet:           {"set", rule{}},
	cmdStartDaemon:   {"start-daemon", rule{may: aboutDaemon}},
	cmdStopDaemon:    {"stop-daemon", rule{may: setOf(optSyncID)}},
	cmdRestore:       {"restore", rule{}},
	cmdSave:          {"save", rule{may: setOf(optNumeric)}},
	cmdZero:          {"zero", rule{may: setOf(optService)}},
	cmdHelp:          {"help", rule{}},
	cmdVersion:       {"version", rule{}},
}

// takes is whether a value follows a spelling.
type takes uint8

const (
	takesNothing takes = iota
	takesValue
	takesOptional
)

// spelling is one way to write a command or an option.
type spelling struct {
	long    string
	short   byte // 0: none
	takes   takes
	command command // cmdNone for an option
	option  option
	set     setter // nil: nothing to do
}

// spellings lists every command and option, commands first.
var spellings = [...]spelling{
	{"add-service", 'A', takesNothing, cmdAddService, optNone, nil},
	{"edit-service", 'E', takesNothing, cmdEditService, optNone, nil},
	{"delete-service", 'D', takesNothing, cmdDeleteService, optNone, nil},
	{"clear", 'C', takesNothing, cmdFlush, optNone, nil},
	{"list", 'L', takesNothing, cmdList, optNone, nil},
	{"list", 'l', takesNothing, cmdList, optNone, nil},
	{"add-server", 'a', takesNothing, cmdAddServer, optNone, nil},
	{"edit-server", 'e', takesNothing, cmdEditServer, optNone, nil},
	{"delete-server", 'd', takesNothing, cmdDeleteServer, optNone, nil},
	{"set", 0, takesNothing, cmdSet, optNone, nil},
	{"start-daemon", 0, takesValue, cmdStartDaemon, optNone, daemonRole("illegal start-daemon parameter specified")},
	{"stop-daemon", 0, takesValue, cmdStopDaemon, optNone, daemonRole("illegal start_daemon specified")},
	{"restore", 'R', takesNothing, cmdRestore, optNone, nil},
	{"save", 'S', takesNothing, cmdSave, optNone, nil},
	{"zero", 'Z', takesNothing, cmdZero, optNone, nil},
	{"help", 'h', takesNothing, cmdHelp, optNone, nil},
	{"version", 'v', takesNothing, cmdVersion, optNone, nil},

	{"tcp-service", 't', takesValue, cmdNone, optService, addressService(wire.ProtoTCP)},
	{"udp-service", 'u', takesValue, cmdNone, optService, addressService(wire.ProtoUDP)},
	{"sctp-service", 0, takesValue, cmdNone, optService, addressService(wire.ProtoSCTP)},
	{"fwmark-service", 'f', takesValue, cmdNone, optService, serviceMark},
	{"ipv6", '6', takesNothing, cmdNone, optNone, markIPv6},
	{"scheduler", 's', takesValue, cmdNone, optScheduler, scheduler},
	{"persistent", 'p', takesOptional, cmdNone, optPersistent, persistent},
	{"netmask", 'M', takesValue, cmdNone, optNetmask, netmask},
	{"pe", 0, takesValue, cmdNone, optPE, persistenceEngine},
	{"ops", 'o', takesNothing, cmdNone, optOPS, onePacket},
	{"sched-flags", 'b', takesValue, cmdNone, optSchedFlags, schedFlags},

	{"real-server", 'r', takesValue, cmdNone, optServer, realServer},
	{"gatewaying", 'g', takesNothing, cmdNone, optMethod, method(config.MethodDR)},
	{"ipip", 'i', takesNothing, cmdNone, optMethod, method(config.MethodTunnel)},
	{"masquerading", 'm', takesNothing, cmdNone, optMethod, method(config.MethodNAT)},
	{"weight", 'w', takesValue, cmdNone, optWeight, store(weight, 0, maxInt32, "weight")},
	{"u-threshold", 'x', takesValue, cmdNone, optUpper, store(upperThreshold, 0, maxInt32, "u_threshold")},
	{"l-threshold", 'y', takesValue, cmdNone, optLower, store(lowerThreshold, 0, maxInt32, "l_threshold")},
	{"tun-type", 0, takesValue, cmdNone, optTunType, tunType},
	{"tun-port", 0, takesValue, cmdNone, optTunPort, store(tunPort, 1, 65535, "tunnel port")},
	{"tun-nocsum", 0, takesNothing, cmdNone, optTunNoCsum, tunChecksum(tunnel.NoCsum)},
	{"tun-csum", 0, takesNothing, cmdNone, optTunCsum, tunChecksum(tunnel.Csum)},
	{"tun-remcsum", 0, takesNothing, cmdNone, optTunRemCsum, tunChecksum(tunnel.RemCsum)},

	{"connection", 'c', takesNothing, cmdNone, optConnection, nil},
	{"timeout", 0, takesNothing, cmdNone, optTimeout, nil},
	{"daemon", 0, takesNothing, cmdNone, optDaemon, nil},
	{"stats", 0, takesNothing, cmdNone, optStats, nil},
	{"rate", 0, takesNothing, cmdNone, optRate, nil},
	{"thresholds", 0, takesNothing, cmdNone, optThresholds, nil},
	{"persistent-conn", 0, takesNothing, cmdNone, optPersistentConn, nil},
	{"tun-info", 0, takesNothing, cmdNone, optTunInfo, nil},
	{"numeric", 'n', takesNothing, cmdNone, optNumeric, nil},
	{"exact", 'X', takesNothing, cmdNone, optExact, nil},
	{"nosort", 0, takesNothing, cmdNone, optNoSort, nil},
	{"sort", 0, takesNothing, cmdNone, optNone, nil},

	{"mcast-interface", 0, takesValue, cmdNone, optMcastInterface, mcastInterface},
	{"syncid", 0, takesValue, cmdNone, optSyncID, store(syncID, 0, 255, "syncid")},
	{"sync-maxlen", 0, takesValue, cmdNone, optSyncMaxLen, store(syncMaxLen, 1, maxSyncLen, "sync-maxlen")},
	{"mcast-group", 0, takesValue, cmdNone, optMcastGroup, mcastGroup},
	{"mcast-port", 0, takesValue, cmdNone, optMcastPort, store(mcastPort, 1, 65535, "mcast-port")},
	{"mcast-ttl", 0, takesValue, cmdNone, optMcastTTL, store(mcastTTL, 1, 255, "mcast-ttl")},
}

// byLong finds a spelling by its long name; nil: there is none.
func byLong(name string) *spelling {
	return find(func(s *spelling) bool { return s.long == name })
}

// byShort finds a spelling by its letter; nil: there is none.
func byShort(letter byte) *spelling {
	return find(func(s *spelling) bool { return s.short != 0 && s.short == letter })
}

func find(is func(*spelling) bool) *spelling {
	for i := range spellings {
		if is(&spellings[i]) {
			return &spellings[i]
		}
	}
	return nil
}
