package conntrack

import "uvs/dataplane/wire"

// State is the state of a conn's protocol. The states of all protocols share one
// numbering, so that a state alone finds its timeout and its row of the machine.
type State uint8

// TCP states, in the kernel's order (enum in include/net/ip_vs.h,
// IP_VS_TCP_S_*).
const (
	TCPNone State = iota
	TCPEstablished
	TCPSynSent
	TCPSynRecv
	TCPFinWait
	TCPTimeWait
	TCPClose
	TCPCloseWait
	TCPLastAck
	TCPListen
	TCPSynAck

	// UDPNormal is the one state of UDP.
	UDPNormal

	// SCTP states, in the kernel's order (IP_VS_SCTP_S_*).
	SCTPNone
	SCTPInit1
	SCTPInit
	SCTPCookieSent
	SCTPCookieReplied
	SCTPCookieWait
	SCTPCookie
	SCTPCookieEchoed
	SCTPEstablished
	SCTPShutdownSent
	SCTPShutdownReceived
	SCTPShutdownAckSent
	SCTPRejected
	SCTPClosed

	// A template is assured once a conn that it placed was seen to work.
	TemplateNone
	TemplateAssured

	// OtherNormal is the one state of protocols without a machine.
	OtherNormal

	// TCPForgotten is an established or half-closed connection whose time is up and
	// whose peers are being reset (Settings.ResetForgotten). The kernel has no such
	// state; listings show it as CLOSE.
	TCPForgotten

	NumState
)

const (
	numTCP  = int(TCPSynAck) + 1
	numSCTP = int(SCTPClosed-SCTPNone) + 1
)

var stateNames = [NumState]string{
	TCPNone: "NONE", TCPEstablished: "ESTABLISHED", TCPSynSent: "SYN_SENT", TCPSynRecv: "SYN_RECV",
	TCPFinWait: "FIN_WAIT", TCPTimeWait: "TIME_WAIT", TCPClose: "CLOSE", TCPCloseWait: "CLOSE_WAIT",
	TCPLastAck: "LAST_ACK", TCPListen: "LISTEN", TCPSynAck: "SYNACK",
	UDPNormal: "UDP",
	SCTPNone:  "NONE", SCTPInit1: "INIT1", SCTPInit: "INIT", SCTPCookieSent: "C-SENT",
	SCTPCookieReplied: "C-REPLIED", SCTPCookieWait: "C-WAIT", SCTPCookie: "COOKIE",
	SCTPCookieEchoed: "C-ECHOED", SCTPEstablished: "ESTABLISHED", SCTPShutdownSent: "S-SENT",
	SCTPShutdownReceived: "S-RECEIVED", SCTPShutdownAckSent: "S-ACK-SENT",
	SCTPRejected: "REJECTED", SCTPClosed: "CLOSED",
	TemplateNone: "NONE", TemplateAssured: "ASSURED",
	OtherNormal: "NONE", TCPForgotten: "CLOSE",
}

// String returns the name in IPVS's connection listing.
func (s State) String() string {
	if s < NumState {
		return stateNames[s]
	}
	return "BUG!" // what the kernel prints
}

// Active reports whether a conn in this state counts as active at its server
// (ipvsadm's ActiveConn): established or, for TCP, in its handshake.
func (s State) Active() bool { return activeStates>>s&1 != 0 }

const activeStates = 1<<TCPEstablished | 1<<TCPSynSent | 1<<TCPSynRecv | 1<<TCPSynAck | 1<<SCTPEstablished

// Sets of states, for evictionClass.
const (
	halfOpenStates = 1<<TCPNone | 1<<TCPSynSent | 1<<TCPSynRecv | 1<<TCPSynAck |
		1<<SCTPNone | 1<<SCTPInit1 | 1<<SCTPInit | 1<<SCTPCookieSent | 1<<SCTPCookieReplied |
		1<<SCTPCookieWait | 1<<SCTPCookie | 1<<SCTPCookieEchoed
	closingStates = 1<<TCPForgotten | 1<<TCPFinWait | 1<<TCPTimeWait | 1<<TCPClose | 1<<TCPCloseWait | 1<<TCPLastAck |
		1<<SCTPShutdownSent | 1<<SCTPShutdownReceived | 1<<SCTPShutdownAckSent | 1<<SCTPRejected | 1<<SCTPClosed
)

// noDataStates are the states in which neither end sends data any more: both have closed
// (RFC 9293 section 3.3.2, RFC 9260 section 9.2), or one has reset the connection. In
// FIN_WAIT and CLOSE_WAIT one end has closed, but the other may still send.
const noDataStates = 1<<TCPTimeWait | 1<<TCPClose | 1<<TCPLastAck | 1<<TCPForgotten |
	1<<SCTPShutdownAckSent | 1<<SCTPRejected | 1<<SCTPClosed

// InitialState returns the state in which a conn of a protocol begins.
func InitialState(proto uint8) State {
	switch proto {
	case wire.ProtoTCP:
		return TCPNone
	case wire.ProtoUDP:
		return UDPNormal
	case wire.ProtoSCTP:
		return SCTPNone
	}
	return OtherNormal
}

// Event is what a packet means for the state of its conn.
type Event uint8

const (
	// EventData is a packet of a protocol without a machine, UDP included.
	EventData Event = iota

	EventSYN
	EventFIN
	EventACK
	EventRST
	EventBare // a TCP segment with none of the four flags

	EventChunkData // any SCTP chunk without an event below
	EventInit
	EventInitAck
	EventCookieEcho
	EventCookieAck
	EventShutdown
	EventShutdownAck
	EventShutdownComplete
	EventError
	EventAbort

	numEvent
)

// TCPEvent returns the event of a segment with these flags (byte 13 of the header).
// RST wins over SYN, SYN over FIN, FIN over ACK (net/netfilter/ipvs/
// ip_vs_proto_tcp.c, tcp_state_idx).
func TCPEvent(flags uint8) Event {
	switch {
	case flags&wire.TCPRst != 0:
		return EventRST
	case flags&wire.TCPSyn != 0:
		return EventSYN
	case flags&wire.TCPFin != 0:
		return EventFIN
	case flags&wire.TCPAck != 0:
		return EventACK
	}
	return EventBare
}

// chunkEvents has the event of every chunk type; those not named are data.
var chunkEvents = func() (ev [256]Event) {
	for i := range ev {
		ev[i] = EventChunkData
	}
	ev[wire.ChunkInit], ev[wire.ChunkInitAck] = EventInit, EventInitAck
	ev[wire.ChunkCookieEcho], ev[wire.ChunkCookieAck] = EventCookieEcho, EventCookieAck
	ev[wire.ChunkShutdown], ev[wire.ChunkShutdownAck] = EventShutdown, EventShutdownAck
	ev[wire.ChunkShutdownComplete] = EventShutdownComplete
	ev[wire.ChunkError], ev[wire.ChunkAbort] = EventError, EventAbort
	return ev
}()

// SCTPEvent returns the event of a packet whose first chunk has type first and whose
// second has type next (0: there is none). It is the first chunk's, except that an
// ABORT after a COOKIE-ECHO or COOKIE-ACK counts.
func SCTPEvent(first, next uint8) Event {
	if (first == wire.ChunkCookieEcho || first == wire.ChunkCookieAck) && next == wire.ChunkAbort {
		return EventAbort
	}
	return chunkEvents[first]
}
