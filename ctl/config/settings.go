package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// Values holds the settings that differ from their defaults, by name. Where
// IPVS has a sysctl (net.ipv4.vs.*) for it, the name is the sysctl's.
type Values map[string]uint32

// Setting is one setting.
type Setting struct {
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
	ConnReuseMode           = "conn_reuse_mode"
	ExpireNodestConn        = "expire_nodest_conn"
	ExpireQuiescentTemplate = "expire_quiescent_template"
	SloppyTCP               = "sloppy_tcp"
	SloppySCTP              = "sloppy_sctp"
	SecureTCP               = "secure_tcp"
	KeepTags                = "keep_tags"
	DropEntry               = "drop_entry"
	DropPacket              = "drop_packet"
	AMDropRate              = "am_droprate"
	AMReserve               = "am_reserve"
	ResetForgotten          = "reset_forgotten"
	TimeoutProfile          = "timeout_profile"
	NoServer                = "no_server"
	SlowStart               = "slow_start"
	MHTable                 = "mh_table"
	HashFields              = "hash_fields"
	LimitRate               = "limit_rate"
	LimitConns              = "limit_conns"
	OPSReplies              = "ops_replies"
	PMTUDisc                = "pmtu_disc"
	FTP                     = "ftp"
	TFTP                    = "tftp"
	FTPBounce               = "ftp_bounce"
	FTPLeaveAddress         = "ftp_leave_address"
	MSSClamp                = "mss_clamp"
	NATICMPSend             = "nat_icmp_send"
	ScheduleICMP            = "schedule_icmp"

	FragmentTime       = "fragment_time"
	FragmentHold       = "fragment_hold"
	FragmentHoldSource = "fragment_hold_source"

	TimeoutTCPEstablished = "timeout_tcp_established"
	tuneFinWait           = "timeout_tcp_fin_wait"
	TimeoutUDP            = "timeout_udp"
)

// Values of timeout_profile.
const (
	profileIPVS      = 0
	profileNetfilter = 1
)

// Values of no_server.
const (
	NoServerUnreachable = 0
	NoServerReset       = 1
)

// mostMSS is the most mss_clamp may be: what the longest IPv4 packet has room for.
const mostMSS = wire.MaxIPLen - 40

// maxSlowStart bounds slow_start: a server that needs longer than an hour to
// warm up is better given its weight by hand.
const maxSlowStart = 3600

// knobs are the settings that are not timeouts. Defaults are IPVS's but for
// expire_nodest_conn, whose default there loses packets silently.
var knobs = []Setting{
	{Name: ConnReuseMode, Default: 1, Max: 3, Help: "a SYN on a known flow begins a new one: 0 never, 1 in TIME_WAIT and CLOSE, 2 (bit) also in FIN_WAIT when replies bypass the director"},
	{Name: ExpireNodestConn, Default: 1, Max: 1, Help: "a packet whose server was removed: 1 is scheduled anew or reset, 0 is dropped silently (IPVS's default)"},
	{Name: ResetForgotten, Default: 1, Max: 1, Help: "1: both ends of an established TCP connection that idled too long are reset; 0: it is forgotten silently (IPVS's way; also with sloppy_tcp)"},
	{Name: ExpireQuiescentTemplate, Default: 0, Max: 1, PerService: true, Help: "new connections of a known persistent client whose server has weight 0: 0 go there, 1 go to another server"},
	{Name: NoServer, Default: NoServerUnreachable, Max: NoServerReset, PerService: true, Help: "a connection no server can take is answered with: 0 ICMP port unreachable, 1 TCP RST"},
	{Name: SlowStart, Default: 0, Max: maxSlowStart, Unit: "s", PerService: true, Help: "how long the weight of a server that was added, came up, or returns from weight 0, rises to its full value (lc wlc sed nq lblc lblcr twos)"},
	{Name: MHTable, Default: 0, Only: tableSizes(), PerService: true, Help: "slots of mh's table; 0: IPVS's 4093"},
	{Name: HashFields, Default: 0, Max: uint32(sched.AllFields), PerService: true, Help: "what dh, sh and mh hash, added up: 1 client, 2 its port, 4 VIP, 8 its port; 0: IPVS's choice"},
	{Name: LimitRate, Default: 0, Max: 1e6, Unit: "1/s", PerService: true, Help: "new connections a second, as many at once, that one client address may begin with a service; more are dropped; 0: any number"},
	{Name: LimitConns, Default: 0, Max: 1 << 28, Unit: "conns", PerService: true, Help: "connections, closing ones included, that one client address (with persistence: one template) may have with a service; more are dropped; 0: any number"},
	{Name: OPSReplies, Default: 0, Max: 1, PerService: true, Help: "1: what masqueraded servers of one-packet services (ipvsadm --ops) send is translated, as from the service; 0: routed on unchanged, as IPVS does"},
	{Name: PMTUDisc, Default: 1, Max: 1, PerService: true, Help: "packets too long for a tunnel: 1 with DF are answered with fragmentation needed, 0 all of IPv4 are sent in fragments"},
	{Name: FTP, Default: HelpAuto, Max: HelpAuto, Words: helpWords, PerService: true, Help: "help FTP through NAT: off; on: at the service's port, at single ports that rules give its mark; auto: at port 21"},
	{Name: FTPBounce, Default: 0, Max: 1, PerService: true, Help: "1: an FTP client may have data sent to a third party (PORT, EPRT); 0: its server is told to refuse that"},
	{Name: FTPLeaveAddress, Default: 0, Max: 1, PerService: true, Help: "1: the address in a server's 227 stays as it is, for servers that announce the VIP themselves; 0: it becomes the VIP"},
	{Name: TFTP, Default: HelpAuto, Max: HelpAuto, Words: helpWords, PerService: true, Help: "help TFTP through NAT, whose servers answer from other ports: off; on: as ftp; auto: at UDP port 69"},
	{Name: MSSClamp, Default: 0, Also: []uint32{0, 1}, Min: wire.MinMSS, Max: mostMSS, Unit: "bytes", PerService: true, Help: "what SYNs that pass here, of clients and of servers, may say of their MSS: 0 anything, 1 what the ways to server and client take, else at most this"},
	{Name: NATICMPSend, Default: 0, Max: 1, Help: "what a masqueraded server sends from its service's port without a connection: 0 is routed on, 1 is answered with ICMP port unreachable (not a TCP RST or SCTP ABORT)"},
	{Name: ScheduleICMP, Default: 0, Max: 1, Help: "1: an ICMP error about a reply of a service that belongs to no connection is scheduled to a server"},
	{Name: SloppyTCP, Default: 0, Max: 1, Help: "1: any TCP segment but RST begins a connection"},
	{Name: SloppySCTP, Default: 0, Max: 1, Help: "1: any SCTP chunk but ABORT begins a connection"},
	{Name: KeepTags, Default: 0, Max: 1, Help: "frames of VLANs the director does not run on: 0 are the host's, 1 are treated like untagged ones and keep their tags (QinQ too)"},
	{Name: SecureTCP, Default: 0, Max: 3, Help: "believe only what servers say of a connection: 0 off, 1 or 2 when the table runs short, 3 always"},
	{Name: DropEntry, Default: 0, Max: 3, Help: "forget half-open and a sample of old connections: 0 off, 1 or 2 when the table runs short, 3 always"},
	{Name: DropPacket, Default: 0, Max: 3, Help: "refuse a part of the packets that begin a connection: 0 off, 1 or 2 when the table runs short, 3 every am_droprate-th"},
	{Name: AMDropRate, Default: 10, Min: 1, Max: 1 << 20, Help: "drop_packet 3 refuses every n-th"},
	{Name: AMReserve, Default: 0, Max: 1 << 28, Unit: "conns", Help: "the table runs short when fewer are left; 0: a sixteenth of it"},
	{Name: FragmentTime, Default: 5, Min: 1, Max: 60, Unit: "s", Help: "how long the fragments of a datagram may take to come; what comes later, and what waits for its first fragment for longer, is dropped"},
	{Name: FragmentHold, Default: frag.MaxQueue >> 10, Max: frag.MaxQueue >> 10, Unit: "KiB", Help: "memory of a worker for fragments that come before the first of their datagram; 0: they are dropped"},
	{Name: FragmentHoldSource, Default: 128, Max: frag.MaxQueue >> 10, Unit: "KiB", Help: "the part of it that the fragments of one source address may take"},
	{Name: TimeoutProfile, Default: profileIPVS, Max: profileNetfilter, Help: "timeouts not set otherwise: 0 IPVS's, 1 netfilter's (TCP established 5 days)"},
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
	names := map[conntrack.State]string{conntrack.UDPNormal: TimeoutUDP}
	for s := conntrack.TCPNone; s <= conntrack.TCPSynAck; s++ {
		names[s] = "timeout_tcp_" + strings.ToLower(s.String())
	}
	for s := conntrack.SCTPNone; s <= conntrack.SCTPClosed; s++ {
		names[s] = "timeout_sctp_" + strings.ReplaceAll(strings.ToLower(s.String()), "-", "_")
	}
	return names
}()

// List lists all settings with the values of t over those of the profile.
func (t Values) List() []Setting {
	list := slices.Clone(knobs)
	base := t.profile()
	for _, s := range slices.Sorted(maps.Keys(timeoutNames)) {
		list = append(list, Setting{
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
	if i := slices.IndexFunc(knobs, func(k Setting) bool { return k.Name == name }); i >= 0 && knobs[i].Words != nil {
		if v := slices.Index(knobs[i].Words, text); v >= 0 {
			return name, uint32(v), nil
		}
	}
	v, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return name, 0, Errorf(syscall.EINVAL, "%q is not NAME=VALUE with a whole number, or a word that `uvs get` shows for it", s)
	}
	return name, uint32(v), nil
}

// Shown is the value as people read it.
func (k Setting) Shown(v uint32) string {
	if int(v) < len(k.Words) {
		return k.Words[v]
	}
	return strconv.FormatUint(uint64(v), 10)
}

func (t Values) profile() conntrack.Timeouts {
	if t[TimeoutProfile] == profileNetfilter {
		return conntrack.NetfilterTimeouts()
	}
	return conntrack.IPVSTimeouts()
}

// Value is a setting's value, its own or the default.
func (t Values) Value(name string) uint32 {
	if v, ok := t[name]; ok {
		return v
	}
	for i := range knobs { // few, and asked for by every service of every table
		if knobs[i].Name == name {
			return knobs[i].Default
		}
	}
	for _, k := range t.List() {
		if k.Name == name {
			return k.Value
		}
	}
	panic("ctl: no setting " + name)
}

// with is t after changes; perService allows only what services may have.
func (t Values) with(changes map[string]uint32, perService bool) (Values, error) {
	next := maps.Clone(t)
	if next == nil {
		next = Values{}
	}
	for name, v := range changes {
		i := slices.IndexFunc(t.List(), func(k Setting) bool { return k.Name == name })
		if i < 0 {
			return t, Errorf(syscall.EINVAL, "there is no setting %q; `uvs get` lists them", name)
		}
		k := t.List()[i]
		switch {
		case perService && !k.PerService:
			return t, Errorf(syscall.EINVAL, "setting %s is the director's; a service cannot have its own", name)
		case len(k.Only) > 0 && !slices.Contains(k.Only, v):
			return t, Errorf(syscall.EINVAL, "setting %s: %d is not one of %v", name, v, k.Only)
		case len(k.Only) == 0 && (v < k.Min || v > k.Max) && !slices.Contains(k.Also, v):
			return t, Errorf(syscall.EINVAL, "setting %s: %d is not %s%d to %d", name, v, orAlso(k.Also), k.Min, k.Max)
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

// Over is t with what own has laid over it: the settings of a service.
func (t Values) Over(own Values) Values {
	if len(own) == 0 {
		return t
	}
	both := maps.Clone(t)
	if both == nil {
		both = Values{}
	}
	maps.Copy(both, own)
	return both
}

// Timeouts are those of the profile, then t's.
func (t Values) Timeouts() conntrack.Timeouts {
	all := t.profile()
	for s, name := range timeoutNames {
		if v, ok := t[name]; ok {
			all[s] = conntrack.Tick(v) * conntrack.Second
		}
	}
	return all
}

// SchedOptions is what a service's scheduler takes of t.
func (t Values) SchedOptions() sched.Options {
	return sched.Options{Table: int(t.Value(MHTable)), Fields: sched.Fields(t.Value(HashFields))}
}

// IPVSTimeouts are the three timeouts of `ipvsadm -L --timeout`.
func (t Values) IPVSTimeouts() Timeouts {
	return Timeouts{TCP: t.Value(TimeoutTCPEstablished), TCPFin: t.Value(tuneFinWait), UDP: t.Value(TimeoutUDP)}
}
