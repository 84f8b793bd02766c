package ctl

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// Tuning holds the settings that differ from their defaults, by name. Where
// IPVS has a sysctl (net.ipv4.vs.*) for it, the name is the sysctl's.
type Tuning map[string]uint32

// Tunable is one setting.
type Tunable struct {
	Name    string `json:"name"`
	Value   uint32 `json:"value"`
	Default uint32 `json:"default"`
	Min     uint32 `json:"min"`
	Max     uint32 `json:"max"`
	// Also are values it can have besides those from Min to Max.
	Also []uint32 `json:"also,omitempty"`
	// Only are the values it can have, if not all from Min to Max.
	Only []uint32 `json:"only,omitempty"`
	// Words are names of the values from 0 on, if they have any.
	Words []string `json:"words,omitempty"`
	Unit  string   `json:"unit,omitempty"`
	Help  string   `json:"help"`
	// PerService says that a service can have a value of its own.
	PerService bool `json:"per_service,omitempty"`
}

// Names of settings the code asks for.
const (
	tuneReuse     = "conn_reuse_mode"
	tuneNodest    = "expire_nodest_conn"
	tuneQuiescent = "expire_quiescent_template"
	tuneSloppyTCP = "sloppy_tcp"
	tuneSloppySCT = "sloppy_sctp"
	tuneSecureTCP = "secure_tcp"
	tuneKeepTags  = "keep_tags"
	tuneDropEntry = "drop_entry"
	tuneDropPkt   = "drop_packet"
	tuneDropRate  = "am_droprate"
	tuneReserve   = "am_reserve"
	tuneForgotten = "reset_forgotten"
	tuneProfile   = "timeout_profile"
	tuneNoServer  = "no_server"
	tuneSlowStart = "slow_start"
	tuneTable     = "mh_table"
	tuneFields    = "hash_fields"
	tuneRate      = "limit_rate"
	tuneConns     = "limit_conns"
	tuneReplies   = "ops_replies"
	tunePathMTU   = "pmtu_disc"
	tuneFTP       = "ftp"
	tuneTFTP      = "tftp"
	tuneBounce    = "ftp_bounce"
	tuneLeave     = "ftp_leave_address"
	tuneMSS       = "mss_clamp"
	tuneNATICMP   = "nat_icmp_send"
	tuneSchedICMP = "schedule_icmp"

	tuneFragmentTime   = "fragment_time"
	tuneFragmentHold   = "fragment_hold"
	tuneFragmentSource = "fragment_hold_source"

	tuneEstablished = "timeout_tcp_established"
	tuneFinWait     = "timeout_tcp_fin_wait"
	tuneUDP         = "timeout_udp"
)

// Values of timeout_profile.
const (
	profileIPVS      = 0
	profileNetfilter = 1
)

// Values of no_server.
const (
	noServerUnreachable = 0
	noServerReset       = 1
)

// mostMSS is the most mss_clamp may be: what the longest IPv4 packet has room for.
const mostMSS = wire.MaxIPLen - 40

// maxSlowStart bounds slow_start: a server that needs longer than an hour to
// warm up is better given its weight by hand.
const maxSlowStart = 3600

// knobs are the settings that are not timeouts. Defaults are IPVS's but for
// expire_nodest_conn, whose default there loses packets silently.
var knobs = []Tunable{
	{Name: tuneReuse, Default: 1, Max: 3, Help: "a SYN on a known flow begins a new one: 0 never, 1 in TIME_WAIT and CLOSE, 2 (bit) also in FIN_WAIT when replies bypass the director"},
	{Name: tuneNodest, Default: 1, Max: 1, Help: "a packet whose server was removed: 1 is scheduled anew or reset, 0 is dropped silently (IPVS's default)"},
	{Name: tuneForgotten, Default: 1, Max: 1, Help: "1: both ends of an established TCP connection that idled too long are reset; 0: it is forgotten silently (IPVS's way; also with sloppy_tcp)"},
	{Name: tuneQuiescent, Default: 0, Max: 1, PerService: true, Help: "new connections of a known persistent client whose server has weight 0: 0 go there, 1 go to another server"},
	{Name: tuneNoServer, Default: noServerUnreachable, Max: noServerReset, PerService: true, Help: "a connection no server can take is answered with: 0 ICMP port unreachable, 1 TCP RST"},
	{Name: tuneSlowStart, Default: 0, Max: maxSlowStart, Unit: "s", PerService: true, Help: "how long the weight of a server that was added, came up, or returns from weight 0, rises to its full value (lc wlc sed nq lblc lblcr twos)"},
	{Name: tuneTable, Default: 0, Only: tableSizes(), PerService: true, Help: "slots of mh's table; 0: IPVS's 4093"},
	{Name: tuneFields, Default: 0, Max: uint32(sched.AllFields), PerService: true, Help: "what dh, sh and mh hash, added up: 1 client, 2 its port, 4 VIP, 8 its port; 0: IPVS's choice"},
	{Name: tuneRate, Default: 0, Max: director.MaxRate, Unit: "1/s", PerService: true, Help: "new connections a second, as many at once, that one client address may begin with a service; more are dropped; 0: any number"},
	{Name: tuneConns, Default: 0, Max: 1 << 28, Unit: "conns", PerService: true, Help: "connections, closing ones included, that one client address (with persistence: one template) may have with a service; more are dropped; 0: any number"},
	{Name: tuneReplies, Default: 0, Max: 1, PerService: true, Help: "1: what masqueraded servers of one-packet services (ipvsadm --ops) send is translated, as from the service; 0: routed on unchanged, as IPVS does"},
	{Name: tunePathMTU, Default: 1, Max: 1, PerService: true, Help: "packets too long for a tunnel: 1 with DF are answered with fragmentation needed, 0 all of IPv4 are sent in fragments"},
	{Name: tuneFTP, Default: helpAuto, Max: helpAuto, Words: helpWords, PerService: true, Help: "help FTP through NAT: off; on: at the service's port, at single ports that rules give its mark; auto: at port 21"},
	{Name: tuneBounce, Default: 0, Max: 1, PerService: true, Help: "1: an FTP client may have data sent to a third party (PORT, EPRT); 0: its server is told to refuse that"},
	{Name: tuneLeave, Default: 0, Max: 1, PerService: true, Help: "1: the address in a server's 227 stays as it is, for servers that announce the VIP themselves; 0: it becomes the VIP"},
	{Name: tuneTFTP, Default: helpAuto, Max: helpAuto, Words: helpWords, PerService: true, Help: "help TFTP through NAT, whose servers answer from other ports: off; on: as ftp; auto: at UDP port 69"},
	{Name: tuneMSS, Default: 0, Also: []uint32{0, director.AutoMSS}, Min: wire.MinMSS, Max: mostMSS, Unit: "bytes", PerService: true, Help: "what SYNs that pass here, of clients and of servers, may say of their MSS: 0 anything, 1 what the ways to server and client take, else at most this"},
	{Name: tuneNATICMP, Default: 0, Max: 1, Help: "what a masqueraded server sends from its service's port without a connection: 0 is routed on, 1 is answered with ICMP port unreachable (not a TCP RST or SCTP ABORT)"},
	{Name: tuneSchedICMP, Default: 0, Max: 1, Help: "1: an ICMP error about a reply of a service that belongs to no connection is scheduled to a server"},
	{Name: tuneSloppyTCP, Default: 0, Max: 1, Help: "1: any TCP segment but RST begins a connection"},
	{Name: tuneSloppySCT, Default: 0, Max: 1, Help: "1: any SCTP chunk but ABORT begins a connection"},
	{Name: tuneKeepTags, Default: 0, Max: 1, Help: "frames of VLANs the director does not run on: 0 are the host's, 1 are treated like untagged ones and keep their tags (QinQ too)"},
	{Name: tuneSecureTCP, Default: 0, Max: 3, Help: "believe only what servers say of a connection: 0 off, 1 or 2 when the table runs short, 3 always"},
	{Name: tuneDropEntry, Default: 0, Max: 3, Help: "forget half-open and a sample of old connections: 0 off, 1 or 2 when the table runs short, 3 always"},
	{Name: tuneDropPkt, Default: 0, Max: 3, Help: "refuse a part of the packets that begin a connection: 0 off, 1 or 2 when the table runs short, 3 every am_droprate-th"},
	{Name: tuneDropRate, Default: 10, Min: 1, Max: 1 << 20, Help: "drop_packet 3 refuses every n-th"},
	{Name: tuneReserve, Default: 0, Max: 1 << 28, Unit: "conns", Help: "the table runs short when fewer are left; 0: a sixteenth of it"},
	{Name: tuneFragmentTime, Default: 5, Min: 1, Max: 60, Unit: "s", Help: "how long the fragments of a datagram may take to come; what comes later, and what waits for its first fragment for longer, is dropped"},
	{Name: tuneFragmentHold, Default: frag.MaxQueue >> 10, Max: frag.MaxQueue >> 10, Unit: "KiB", Help: "memory of a worker for fragments that come before the first of their datagram; 0: they are dropped"},
	{Name: tuneFragmentSource, Default: 128, Max: frag.MaxQueue >> 10, Unit: "KiB", Help: "the part of it that the fragments of one source address may take"},
	{Name: tuneProfile, Default: profileIPVS, Max: profileNetfilter, Help: "timeouts not set otherwise: 0 IPVS's, 1 netfilter's (TCP established 5 days)"},
}

// tableSizes are the values of mh_table.
func tableSizes() []uint32 {
	sizes := []uint32{0}
	for _, n := range sched.TableSizes() {
		sizes = append(sizes, uint32(n))
	}
	return sizes
}

// timeoutNames is the setting of every state that has one of its own.
var timeoutNames = func() map[conntrack.State]string {
	names := map[conntrack.State]string{conntrack.UDPNormal: tuneUDP}
	for s := conntrack.TCPNone; s <= conntrack.TCPSynAck; s++ {
		names[s] = "timeout_tcp_" + strings.ToLower(s.String())
	}
	for s := conntrack.SCTPNone; s <= conntrack.SCTPClosed; s++ {
		names[s] = "timeout_sctp_" + strings.ReplaceAll(strings.ToLower(s.String()), "-", "_")
	}
	return names
}()

// tunables lists all settings with the values of t over those of the profile.
func (t Tuning) tunables() []Tunable {
	list := slices.Clone(knobs)
	base := t.profile()
	for _, s := range slices.Sorted(maps.Keys(timeoutNames)) {
		list = append(list, Tunable{
			Name: timeoutNames[s], Default: uint32(base[s] / conntrack.Second), Min: 1, Max: maxTimeout, Unit: "s",
			Help: "how long a connection in this state is kept after its last packet", PerService: true,
		})
	}
	for i := range list {
		list[i].Value = list[i].Default
		if v, ok := t[list[i].Name]; ok {
			list[i].Value = v
		}
	}
	return list
}

// ParseSetting reads NAME=VALUE; values that have words may be given by them.
func ParseSetting(s string) (name string, value uint32, err error) {
	name, text, _ := strings.Cut(s, "=")
	if i := slices.IndexFunc(knobs, func(k Tunable) bool { return k.Name == name }); i >= 0 && knobs[i].Words != nil {
		if v := slices.Index(knobs[i].Words, text); v >= 0 {
			return name, uint32(v), nil
		}
	}
	v, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return name, 0, refuse(syscall.EINVAL, "%q is not NAME=VALUE with a whole number, or a word that `uvs get` shows for it", s)
	}
	return name, uint32(v), nil
}

// Shown is the value as people read it.
func (k Tunable) Shown(v uint32) string {
	if int(v) < len(k.Words) {
		return k.Words[v]
	}
	return strconv.FormatUint(uint64(v), 10)
}

func (t Tuning) profile() conntrack.Timeouts {
	if t[tuneProfile] == profileNetfilter {
		return conntrack.NetfilterTimeouts()
	}
	return conntrack.IPVSTimeouts()
}

// value is a setting's value, its own or the default.
func (t Tuning) value(name string) uint32 {
	if v, ok := t[name]; ok {
		return v
	}
	for i := range knobs { // few, and asked for by every service of every table
		if knobs[i].Name == name {
			return knobs[i].Default
		}
	}
	for _, k := range t.tunables() {
		if k.Name == name {
			return k.Value
		}
	}
	panic("ctl: no setting " + name)
}

// with is t after changes; perService allows only what services may have.
func (t Tuning) with(changes map[string]uint32, perService bool) (Tuning, error) {
	next := maps.Clone(t)
	if next == nil {
		next = Tuning{}
	}
	for name, v := range changes {
		i := slices.IndexFunc(t.tunables(), func(k Tunable) bool { return k.Name == name })
		if i < 0 {
			return t, refuse(syscall.EINVAL, "there is no setting %q; `uvs get` lists them", name)
		}
		k := t.tunables()[i]
		switch {
		case perService && !k.PerService:
			return t, refuse(syscall.EINVAL, "setting %s is the director's; a service cannot have its own", name)
		case len(k.Only) > 0 && !slices.Contains(k.Only, v):
			return t, refuse(syscall.EINVAL, "setting %s: %d is not one of %v", name, v, k.Only)
		case len(k.Only) == 0 && (v < k.Min || v > k.Max) && !slices.Contains(k.Also, v):
			return t, refuse(syscall.EINVAL, "setting %s: %d is not %s%d to %d", name, v, orAlso(k.Also), k.Min, k.Max)
		}
		next[name] = v
	}
	return next, nil
}

// orAlso says further values, for people.
func orAlso(values []uint32) string {
	var b strings.Builder
	for _, v := range values {
		fmt.Fprintf(&b, "%d, ", v)
	}
	if len(values) > 0 {
		b.WriteString("or ")
	}
	return b.String()
}

// over is t with what own has laid over it: the settings of a service.
func (t Tuning) over(own Tuning) Tuning {
	if len(own) == 0 {
		return t
	}
	both := maps.Clone(t)
	if both == nil {
		both = Tuning{}
	}
	maps.Copy(both, own)
	return both
}

// timeouts are those of the profile, then t's.
func (t Tuning) timeouts() conntrack.Timeouts {
	all := t.profile()
	for s, name := range timeoutNames {
		if v, ok := t[name]; ok {
			all[s] = conntrack.Tick(v) * conntrack.Second
		}
	}
	return all
}

// limit is what a single client may ask of a service; nil: anything.
func (t Tuning) limit(policers *director.Policers) *director.Limit {
	limit := &director.Limit{Rate: t.value(tuneRate), Conns: t.value(tuneConns), Policers: policers}
	if limit.Rate == 0 && limit.Conns == 0 {
		return nil
	}
	return limit
}

// options is what a service's scheduler takes of t.
func (t Tuning) options() sched.Options {
	return sched.Options{Table: int(t.value(tuneTable)), Fields: sched.Fields(t.value(tuneFields))}
}

// settings is what the connection table takes of t.
func (t Tuning) settings() *conntrack.Settings {
	return &conntrack.Settings{
		Timeouts:   t.timeouts(),
		SecureTCP:  mode(t.value(tuneSecureTCP)),
		DropEntry:  mode(t.value(tuneDropEntry)),
		DropPacket: mode(t.value(tuneDropPkt)),
		DropRate:   int(t.value(tuneDropRate)),
		Reserve:    int(t.value(tuneReserve)),

		ResetForgotten: t.value(tuneForgotten) != 0 && t.value(tuneSloppyTCP) == 0,
	}
}

// mode reads a defence's value as IPVS's sysctls have it: the kernel writes 1
// and 2 itself while the defence is idle and active.
func mode(v uint32) conntrack.Mode {
	switch v {
	case 0:
		return conntrack.ModeOff
	case 3:
		return conntrack.ModeAlways
	}
	return conntrack.ModeAuto
}

// rules is what the director takes of t.
func (t Tuning) rules() director.Settings {
	return director.Settings{
		ReuseMode:      uint8(t.value(tuneReuse)),
		ExpireNoServer: t.value(tuneNodest) != 0,
		SloppyTCP:      t.value(tuneSloppyTCP) != 0,
		SloppySCTP:     t.value(tuneSloppySCT) != 0,
		ScheduleICMP:   t.value(tuneSchedICMP) != 0,
		RefuseReplies:  t.value(tuneNATICMP) != 0,
		FragmentTime:   conntrack.Tick(t.value(tuneFragmentTime)) * conntrack.Second,
		Hold: frag.Limits{
			Timeout: conntrack.Tick(t.value(tuneFragmentTime)) * conntrack.Second,
			Bytes:   int(t.value(tuneFragmentHold)) << 10,
			Source:  int(t.value(tuneFragmentSource)) << 10,
		},
		KeepTags: t.value(tuneKeepTags) != 0,
	}
}

// shown are the three timeouts of `ipvsadm -L --timeout`.
func (t Tuning) shown() Timeouts {
	return Timeouts{TCP: t.value(tuneEstablished), TCPFin: t.value(tuneFinWait), UDP: t.value(tuneUDP)}
}
