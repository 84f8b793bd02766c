package conntrack

// Tick is the data path's time: milliseconds of monotonic time since the Plane
// (uvs/dataplane) was made. Callers pass it in; nothing here reads a clock.
type Tick int64

// Second is one second in ticks.
const Second Tick = 1000

// MaxTimeout is the longest timeout: 31 days, the limit of `ipvsadm --set` and `-p`
// (2678400 s).
const MaxTimeout = 2678400 * Second

// Timeouts are how long a conn is kept after its last packet, by state.
type Timeouts [NumState]Tick

// IPVSTimeouts returns IPVS's timeouts, the default (net/netfilter/ipvs/
// ip_vs_proto_*.c, tcp_timeouts, udp_timeouts and sctp_timeouts).
func IPVSTimeouts() Timeouts {
	return Timeouts{
		TCPNone: 2 * Second, TCPEstablished: 900 * Second, TCPSynSent: 120 * Second,
		TCPSynRecv: 60 * Second, TCPFinWait: 120 * Second, TCPTimeWait: 120 * Second,
		TCPClose: 10 * Second, TCPCloseWait: 60 * Second, TCPLastAck: 30 * Second,
		TCPListen: 120 * Second, TCPSynAck: 120 * Second,
		UDPNormal: 300 * Second,
		SCTPNone:  2 * Second, SCTPInit1: 4 * Second, SCTPInit: 61 * Second,
		SCTPCookieSent: 61 * Second, SCTPCookieReplied: 61 * Second, SCTPCookieWait: 61 * Second,
		SCTPCookie: 61 * Second, SCTPCookieEchoed: 61 * Second, SCTPEstablished: 900 * Second,
		SCTPShutdownSent: 61 * Second, SCTPShutdownReceived: 61 * Second,
		SCTPShutdownAckSent: 61 * Second, SCTPRejected: 4 * Second, SCTPClosed: 61 * Second,
		TemplateNone: 360 * Second, TemplateAssured: 360 * Second, // unless the template has its own
		TCPForgotten: 10 * Second, // as CLOSE
		OtherNormal:  3 * Second,  // IP_VS_CONN_TIMEOUT, the kernel's default
	}
}

// NetfilterTimeouts returns IPVSTimeouts with TCP as in netfilter's conntrack: 5 days
// established, 30 minutes without a state.
func NetfilterTimeouts() Timeouts {
	t := IPVSTimeouts()
	t[TCPNone] = 1800 * Second
	t[TCPEstablished] = 5 * 86400 * Second
	return t
}

// Mode is how a defence is switched, as the kernel's sysctls drop_entry, drop_packet
// and secure_tcp. Their 1 and 2 are both ModeAuto here (2 is 1 while it is active).
type Mode uint8

const (
	ModeOff  Mode = iota
	ModeAuto      // on while the table has room for fewer conns than Settings.AMReserve
	ModeAlways
)

// Settings of the table. A value given to SetSettings is not changed afterwards;
// every worker loads it once a batch.
type Settings struct {
	Timeouts Timeouts

	SecureTCP  Mode // the TCP machine that trusts only the servers
	DropEntry  Mode // end half-open conns and a sample of the others
	DropPacket Mode // drop every n-th packet that would begin a conn

	// ResetForgotten resets both sides of an established or half-closed TCP connection
	// whose time is up, instead of ending it silently. The conn is kept in TCPForgotten
	// a while longer, and Worker.TimedOut returns it.
	ResetForgotten bool

	// AMDropRate is DropPacket's n under ModeAlways (the kernel's am_droprate).
	AMDropRate int
	// ModeAuto defences are on while there is room for fewer conns than this. It stands for
	// the kernel's amemthresh. 0: a sixteenth of the capacity.
	AMReserve int
}

// DefaultSettings returns IPVS's defaults: all defences off.
func DefaultSettings() *Settings { return &Settings{Timeouts: IPVSTimeouts(), AMDropRate: 10} }

// on reports whether a defence is active.
func (m Mode) on(belowReserve bool) bool { return m == ModeAlways || m == ModeAuto && belowReserve }
