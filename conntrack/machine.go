package conntrack

// column is the part of a state table that a packet reads.
type column uint8

const (
	columnIn     column = iota // from the client
	columnOut                  // from the server
	columnInOnly               // from the client, if the server's packets do not pass here
	numColumn
)

// Two-letter names of the states, as the kernel's tables have them.
const (
	sNO, sES, sSS, sSR, sFW, sTW = TCPNone, TCPEstablished, TCPSynSent, TCPSynRecv, TCPFinWait, TCPTimeWait
	sCL, sCW, sLA, sLI, sSA      = TCPClose, TCPCloseWait, TCPLastAck, TCPListen, TCPSynAck

	cNO, cI1, cIN, cCS, cCR = SCTPNone, SCTPInit1, SCTPInit, SCTPCookieSent, SCTPCookieReplied
	cCW, cCO, cCE, cES      = SCTPCookieWait, SCTPCookie, SCTPCookieEchoed, SCTPEstablished
	cSS, cSR, cSA           = SCTPShutdownSent, SCTPShutdownReceived, SCTPShutdownAckSent
	cRJ, cCL                = SCTPRejected, SCTPClosed
)

// tcpRows has a row for each of EventSYN, EventFIN, EventACK and EventRST; a
// row has the next state for each state.
type tcpRows [4][numTCP]State

// tcpNormal is IPVS's TCP machine (net/netfilter/ipvs/ip_vs_proto_tcp.c, tcp_states),
// tcpSecure the one under secure_tcp (tcp_states_dos).
var (
	tcpNormal = [numColumn]tcpRows{
		columnIn: {
			// NO ES   SS   SR   FW   TW   CL   CW   LA   LI   SA
			{sSR, sES, sES, sSR, sSR, sSR, sSR, sSR, sSR, sSR, sSR}, // SYN
			{sCL, sCW, sSS, sTW, sTW, sTW, sCL, sCW, sLA, sLI, sTW}, // FIN
			{sES, sES, sSS, sES, sFW, sTW, sCL, sCW, sCL, sLI, sES}, // ACK
			{sCL, sCL, sCL, sSR, sCL, sCL, sCL, sCL, sLA, sLI, sSR}, // RST
		},
		columnOut: {
			{sSS, sES, sSS, sSR, sSS, sSS, sSS, sSS, sSS, sLI, sSR},
			{sTW, sFW, sSS, sTW, sFW, sTW, sCL, sTW, sLA, sLI, sTW},
			{sES, sES, sSS, sES, sFW, sTW, sCL, sCW, sLA, sES, sES},
			{sCL, sCL, sSS, sCL, sCL, sTW, sCL, sCL, sCL, sCL, sCL},
		},
		columnInOnly: {
			{sSR, sES, sES, sSR, sSR, sSR, sSR, sSR, sSR, sSR, sSR},
			{sCL, sFW, sSS, sTW, sFW, sTW, sCL, sCW, sLA, sLI, sTW},
			{sES, sES, sSS, sES, sFW, sTW, sCL, sCW, sCL, sLI, sES},
			{sCL, sCL, sCL, sSR, sCL, sCL, sCL, sCL, sLA, sLI, sCL},
		},
	}
	tcpSecure = [numColumn]tcpRows{
		columnIn: {
			// NO ES   SS   SR   FW   TW   CL   CW   LA   LI   SA
			{sSR, sES, sES, sSR, sSR, sSR, sSR, sSR, sSR, sSR, sSA},
			{sCL, sCW, sSS, sTW, sTW, sTW, sCL, sCW, sLA, sLI, sSA},
			{sES, sES, sSS, sSR, sFW, sTW, sCL, sCW, sCL, sLI, sSA},
			{sCL, sCL, sCL, sSR, sCL, sCL, sCL, sCL, sLA, sLI, sCL},
		},
		columnOut: {
			{sSS, sES, sSS, sSA, sSS, sSS, sSS, sSS, sSS, sLI, sSA},
			{sTW, sFW, sSS, sTW, sFW, sTW, sCL, sTW, sLA, sLI, sTW},
			{sES, sES, sSS, sES, sFW, sTW, sCL, sCW, sLA, sES, sES},
			{sCL, sCL, sSS, sCL, sCL, sTW, sCL, sCL, sCL, sCL, sCL},
		},
		columnInOnly: {
			{sSA, sES, sES, sSR, sSA, sSA, sSA, sSA, sSA, sSA, sSA},
			{sCL, sFW, sSS, sTW, sFW, sTW, sCL, sCW, sLA, sLI, sTW},
			{sES, sES, sSS, sES, sFW, sTW, sCL, sCW, sCL, sLI, sES},
			{sCL, sCL, sCL, sSR, sCL, sCL, sCL, sCL, sLA, sLI, sCL},
		},
	}
)

// sctpRows has a row for each event from EventChunkData to EventAbort.
type sctpRows [10][numSCTP]State

// sctpStates is IPVS's SCTP machine (net/netfilter/ipvs/ip_vs_proto_sctp.c,
// sctp_states).
var sctpStates = [numColumn]sctpRows{
	columnIn: {
		// NO I1   IN   CS   CR   CW   CO   CE   ES   SS   SR   SA   RJ   CL
		{cES, cI1, cIN, cCS, cCR, cCW, cCO, cCE, cES, cSS, cSR, cSA, cRJ, cCL}, // data
		{cI1, cIN, cIN, cCS, cCR, cCW, cCO, cCE, cES, cSS, cSR, cSA, cIN, cIN}, // INIT
		{cCW, cCW, cCW, cCS, cCR, cCO, cCO, cCE, cES, cSS, cSR, cSA, cRJ, cCL}, // INIT-ACK
		{cCR, cIN, cIN, cCR, cCR, cCW, cCO, cCE, cES, cSS, cSR, cSA, cRJ, cCL}, // COOKIE-ECHO
		{cES, cI1, cIN, cCS, cCR, cCW, cCO, cES, cES, cSS, cSR, cSA, cRJ, cCL}, // COOKIE-ACK
		{cSR, cI1, cIN, cCS, cCR, cCW, cCO, cCE, cSR, cSS, cSR, cSA, cRJ, cCL}, // SHUTDOWN
		{cCL, cIN, cIN, cCS, cCR, cCW, cCO, cCE, cES, cCL, cSR, cCL, cRJ, cCL}, // SHUTDOWN-ACK
		{cCL, cCL, cCL, cCS, cCR, cCW, cCO, cCE, cES, cSS, cSR, cCL, cRJ, cCL}, // SHUTDOWN-COMPLETE
		{cCL, cI1, cIN, cCS, cCR, cCW, cCO, cCL, cES, cSS, cSR, cSA, cRJ, cCL}, // ERROR
		{cCL, cCL, cCL, cCL, cCL, cRJ, cCL, cCL, cCL, cCL, cCL, cCL, cCL, cCL}, // ABORT
	},
	columnOut: {
		{cES, cI1, cIN, cCS, cCR, cCW, cCO, cCE, cES, cSS, cSR, cSA, cRJ, cCL},
		{cCW, cCW, cCW, cCW, cCW, cCW, cCW, cCW, cES, cCW, cCW, cCW, cCW, cCW},
		{cCS, cCS, cCS, cCS, cCR, cCW, cCO, cCE, cES, cSS, cSR, cSA, cRJ, cCL},
		{cCE, cCE, cCE, cCE, cCE, cCE, cCE, cCE, cES, cSS, cSR, cSA, cRJ, cCL},
		{cES, cES, cES, cES, cES, cES, cES, cES, cES, cSS, cSR, cSA, cRJ, cCL},
		{cSS, cSS, cSS, cSS, cSS, cSS, cSS, cSS, cSS, cSS, cSR, cSA, cRJ, cCL},
		{cSA, cSA, cSA, cSA, cSA, cCW, cCO, cCE, cES, cSA, cSA, cSA, cRJ, cCL},
		{cCL, cI1, cIN, cCS, cCR, cCW, cCO, cCE, cES, cSS, cSR, cSA, cRJ, cCL},
		{cCL, cCL, cCL, cCL, cCL, cCW, cCO, cCE, cES, cSS, cSR, cSA, cRJ, cCL},
		{cCL, cRJ, cCL, cCL, cCL, cCL, cCL, cCL, cCL, cCL, cCL, cCL, cCL, cCL},
	},
	columnInOnly: {
		{cES, cI1, cIN, cCS, cCR, cES, cCO, cCE, cES, cSS, cSR, cSA, cRJ, cCL},
		{cI1, cIN, cIN, cIN, cIN, cIN, cCO, cCE, cES, cSS, cSR, cSA, cIN, cIN},
		{cCE, cCE, cCE, cCE, cCE, cCE, cCO, cCE, cES, cSS, cSR, cSA, cRJ, cCL},
		{cES, cES, cES, cES, cES, cES, cCO, cCE, cES, cSS, cSR, cSA, cRJ, cCL},
		{cES, cI1, cIN, cES, cES, cCW, cES, cES, cES, cSS, cSR, cSA, cRJ, cCL},
		{cSR, cI1, cIN, cCS, cCR, cCW, cCO, cCE, cSR, cSS, cSR, cSA, cRJ, cCL},
		{cCL, cIN, cIN, cCS, cCR, cCW, cCO, cCE, cCL, cCL, cSR, cCL, cRJ, cCL},
		{cCL, cCL, cCL, cCL, cCL, cCW, cCO, cCE, cES, cSS, cCL, cCL, cRJ, cCL},
		{cCL, cI1, cIN, cCS, cCR, cCW, cCO, cCE, cES, cSS, cSR, cSA, cRJ, cCL},
		{cCL, cCL, cCL, cCL, cCL, cRJ, cCL, cCL, cCL, cCL, cCL, cCL, cCL, cCL},
	},
}

// machine has the next state for all protocols: machine[column][event][state]. An event
// of another protocol leaves a state as it is. 3 x 16 x 32 bytes.
type machine [numColumn][numEvent][32]State

// normalMachine and secureMachine are the tables above in the form that packets read.
// They differ in TCP only.
var (
	normalMachine = newMachine(&tcpNormal)
	secureMachine = newMachine(&tcpSecure)
)

func newMachine(tcp *[numColumn]tcpRows) *machine {
	m := new(machine)
	for col := range m {
		for ev := range m[col] {
			for s := range m[col][ev] {
				m[col][ev][s] = State(s)
			}
		}
		for i, row := range tcp[col] {
			copy(m[col][int(EventSYN)+i][TCPNone:], row[:])
		}
		for s := range numTCP {
			m[col][EventBare][s] = TCPClose
		}
		for i, row := range sctpStates[col] {
			copy(m[col][int(EventChunkData)+i][SCTPNone:], row[:])
		}
	}
	return m
}
