package conntrack

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"uvs/dataplane/wire"
)

// The kernel's tables written as documentation, to compare with: a row for each state;
// in each column the next states for SYN, FIN, ACK and RST.
const (
	normalTable = `
| NO NONE | SR CL ES CL | SS TW ES CL | SR CL ES CL |
| ES ESTABLISHED | ES CW ES CL | ES FW ES CL | ES FW ES CL |
| SS SYN_SENT | ES SS SS CL | SS SS SS SS | ES SS SS CL |
| SR SYN_RECV | SR TW ES SR | SR TW ES CL | SR TW ES SR |
| FW FIN_WAIT | SR TW FW CL | SS FW FW CL | SR FW FW CL |
| TW TIME_WAIT | SR TW TW CL | SS TW TW TW | SR TW TW CL |
| CL CLOSE | SR CL CL CL | SS CL CL CL | SR CL CL CL |
| CW CLOSE_WAIT | SR CW CW CL | SS TW CW CL | SR CW CW CL |
| LA LAST_ACK | SR LA CL LA | SS LA LA CL | SR LA CL LA |
| LI LISTEN | SR LI LI LI | LI LI ES CL | SR LI LI LI |
| SA SYNACK | SR TW ES SR | SR TW ES CL | SR TW ES CL |`

	secureTable = `
| NO | SR CL ES CL | SS TW ES CL | SA CL ES CL |
| ES | ES CW ES CL | ES FW ES CL | ES FW ES CL |
| SS | ES SS SS CL | SS SS SS SS | ES SS SS CL |
| SR | SR TW SR SR | SA TW ES CL | SR TW ES SR |
| FW | SR TW FW CL | SS FW FW CL | SA FW FW CL |
| TW | SR TW TW CL | SS TW TW TW | SA TW TW CL |
| CL | SR CL CL CL | SS CL CL CL | SA CL CL CL |
| CW | SR CW CW CL | SS TW CW CL | SA CW CW CL |
| LA | SR LA CL LA | SS LA LA CL | SA LA CL LA |
| LI | SR LI LI LI | LI LI ES CL | SA LI LI LI |
| SA | SA SA SA CL | SA TW ES CL | SA TW ES CL |`

	// SCTP's table as changes; a state not named stays. "a..b" is a to b in the order
	// of states.
	sctpTable = `
IN data NO>ES; init NO>I1 I1>IN RJ>IN CL>IN; initack NO,I1,IN>CW CW>CO; cecho NO>CR I1>IN CS>CR;
    cack NO>ES CE>ES; shut NO>SR ES>SR; shutack NO>CL I1>IN SS>CL SA>CL; shutcompl NO,I1,IN,SA>CL;
    error NO>CL CE>CL; abort all>CL CW>RJ
OUT data NO>ES; init all>CW ES>ES; initack NO,I1,IN>CS; cecho NO,I1,IN,CS,CR,CW,CO,CE>CE;
    cack NO,I1,IN,CS,CR,CW,CO,CE>ES; shut NO..CE,ES>SS; shutack NO,I1,IN,CS,CR,SS,SR>SA; shutcompl NO>CL;
    error NO,I1,IN,CS,CR>CL; abort all>CL I1>RJ
IN-ONLY data NO>ES CW>ES; init NO>I1 I1,CS,CR,CW,RJ,CL>IN; initack NO,I1,IN,CS,CR,CW>CE;
    cecho NO,I1,IN,CS,CR,CW>ES; cack NO,CS,CR,CO,CE>ES; shut NO>SR ES>SR; shutack NO>CL I1>IN ES,SS,SA>CL;
    shutcompl NO,I1,IN,CS,CR,SR,SA>CL; error NO>CL; abort all>CL CW>RJ`
)

var (
	tcpCodes  = strings.Fields("NO ES SS SR FW TW CL CW LA LI SA")
	sctpCodes = strings.Fields("NO I1 IN CS CR CW CO CE ES SS SR SA RJ CL")
	sctpVerbs = strings.Fields("data init initack cecho cack shut shutack shutcompl error abort")
	columns   = strings.Fields("IN OUT IN-ONLY")
)

// matrix prints the next states of one column of a machine, a line for each event.
func matrix(m *machine, col column, first, last State, codes []string, from, to Event) string {
	var b strings.Builder
	for ev := from; ev <= to; ev++ {
		fmt.Fprintf(&b, "%s event %2d:", columns[col], ev)
		for s := first; s <= last; s++ {
			if next := m[col][ev][s]; next < first || next > last {
				fmt.Fprintf(&b, " ??")
			} else {
				fmt.Fprintf(&b, " %s", codes[next-first])
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestTCPMachine compares both TCP machines, printed as matrices, with the tables above.
func TestTCPMachine(t *testing.T) {
	for name, doc := range map[string]string{"normal": normalTable, "secure": secureTable} {
		m := normalMachine
		if name == "secure" {
			m = secureMachine
		}
		var next [3][4][]string // column, event: code for each state
		for _, row := range strings.Split(strings.TrimSpace(doc), "\n") {
			cells := strings.Split(row, "|")
			for col := range 3 {
				for ev, code := range strings.Fields(cells[col+2]) {
					next[col][ev] = append(next[col][ev], code)
				}
			}
		}
		for col := range numColumn {
			var want strings.Builder
			for ev := range 4 {
				fmt.Fprintf(&want, "%s event %2d: %s\n", columns[col], int(EventSYN)+ev,
					strings.Join(next[col][ev], " "))
			}
			fmt.Fprintf(&want, "%s event %2d:%s\n", columns[col], EventBare, strings.Repeat(" CL", numTCP))
			got := matrix(m, col, TCPNone, TCPSynAck, tcpCodes, EventSYN, EventBare)
			if got != want.String() {
				t.Errorf("%s table is\n%swant\n%s", name, got, want.String())
			}
		}
	}
}

// TestSCTPMachine compares the SCTP machine with the changes above.
func TestSCTPMachine(t *testing.T) {
	for col, line := range strings.Split(strings.ReplaceAll(strings.TrimSpace(sctpTable), "\n    ", " "), "\n") {
		line = strings.TrimPrefix(line, columns[col]+" ")
		var want strings.Builder
		for i, change := range strings.Split(line, "; ") {
			verb, rules, _ := strings.Cut(change, " ")
			if verb != sctpVerbs[i] {
				t.Fatalf("column %s: %q stands where %q should", columns[col], verb, sctpVerbs[i])
			}
			row := slices.Clone(sctpCodes)
			for _, rule := range strings.Fields(rules) {
				from, to, _ := strings.Cut(rule, ">")
				for _, s := range sctpStatesOf(from) {
					row[s] = to
				}
			}
			fmt.Fprintf(&want, "%s event %2d: %s\n", columns[col], int(EventChunkData)+i, strings.Join(row, " "))
		}
		for _, m := range []*machine{normalMachine, secureMachine} {
			got := matrix(m, column(col), SCTPNone, SCTPClosed, sctpCodes, EventChunkData, EventAbort)
			if got != want.String() {
				t.Errorf("SCTP table is\n%swant\n%s", got, want.String())
			}
		}
	}
}

// sctpStatesOf returns the indexes of a list such as "NO,I1", "NO..CE,ES" or "all".
func sctpStatesOf(list string) (states []int) {
	for _, part := range strings.Split(list, ",") {
		from, to, isRange := strings.Cut(part, "..")
		switch {
		case part == "all":
			from, to = sctpCodes[0], sctpCodes[len(sctpCodes)-1]
		case !isRange:
			to = from
		}
		for i := slices.Index(sctpCodes, from); i <= slices.Index(sctpCodes, to); i++ {
			states = append(states, i)
		}
	}
	return states
}

// TestForeignEvents: an event of another protocol changes no state.
func TestForeignEvents(t *testing.T) {
	for col := range numColumn {
		for ev := range numEvent {
			for s := range NumState {
				tcp := s <= TCPSynAck && ev >= EventSYN && ev <= EventBare
				sctp := s >= SCTPNone && s <= SCTPClosed && ev >= EventChunkData
				if next := normalMachine[col][ev][s]; !tcp && !sctp && next != s {
					t.Errorf("event %d moves state %d to %d", ev, s, next)
				}
			}
		}
	}
}

// TestStates compares names, order and timeouts in seconds of the states with IPVS's,
// and which states are active.
func TestStates(t *testing.T) {
	const (
		tcp = "NONE 2, ESTABLISHED 900, SYN_SENT 120, SYN_RECV 60, FIN_WAIT 120, TIME_WAIT 120, " +
			"CLOSE 10, CLOSE_WAIT 60, LAST_ACK 30, LISTEN 120, SYNACK 120"
		sctp = "NONE 2, INIT1 4, INIT 61, C-SENT 61, C-REPLIED 61, C-WAIT 61, " +
			"COOKIE 61, C-ECHOED 61, ESTABLISHED 900, S-SENT 61, S-RECEIVED 61, S-ACK-SENT 61, REJECTED 4, CLOSED 61"
	)
	timeouts := IPVSTimeouts()
	for _, p := range []struct {
		first State
		list  string
	}{{TCPNone, tcp}, {UDPNormal, "UDP 300"}, {SCTPNone, sctp}} {
		for i, want := range strings.Split(p.list, ", ") {
			s := p.first + State(i)
			if got := fmt.Sprintf("%v %d", s, timeouts[s]/Second); got != want {
				t.Errorf("state %d is %q, want %q", s, got, want)
			}
		}
	}
	active := []State{TCPEstablished, TCPSynSent, TCPSynRecv, TCPSynAck, SCTPEstablished}
	for s := range NumState {
		if s.Active() != slices.Contains(active, s) {
			t.Errorf("state %v (%d) is active: %v", s, s, s.Active())
		}
	}
	if NumState.String() != "BUG!" {
		t.Errorf("a state that does not exist is called %q", NumState)
	}
}

// TestTCPEvent: RST wins over SYN, SYN over FIN, FIN over ACK. Without any of them the
// segment is EventBare, whatever other flags it has.
func TestTCPEvent(t *testing.T) {
	order := []struct {
		flag uint8
		ev   Event
	}{{wire.TCPRst, EventRST}, {wire.TCPSyn, EventSYN}, {wire.TCPFin, EventFIN}, {wire.TCPAck, EventACK}}
	for flags := range 256 {
		want := EventBare
		for _, o := range slices.Backward(order) {
			if uint8(flags)&o.flag != 0 {
				want = o.ev
			}
		}
		if got := TCPEvent(uint8(flags)); got != want {
			t.Errorf("flags %#x are event %d, want %d", flags, got, want)
		}
	}
}

// TestSCTPEvent: chunk types of RFC 9260 section 3.2.
func TestSCTPEvent(t *testing.T) {
	for _, c := range []struct {
		first, next uint8
		want        Event
		why         string
	}{
		{0, 0, EventChunkData, "DATA"},
		{1, 0, EventInit, "INIT"},
		{2, 0, EventInitAck, "INIT ACK"},
		{3, 0, EventChunkData, "SACK counts as data"},
		{4, 0, EventChunkData, "HEARTBEAT counts as data"},
		{6, 0, EventAbort, "ABORT"},
		{7, 0, EventShutdown, "SHUTDOWN"},
		{8, 0, EventShutdownAck, "SHUTDOWN ACK"},
		{9, 0, EventError, "ERROR"},
		{10, 0, EventCookieEcho, "COOKIE ECHO"},
		{11, 0, EventCookieAck, "COOKIE ACK"},
		{14, 0, EventShutdownComplete, "SHUTDOWN COMPLETE"},
		{10, 6, EventAbort, "COOKIE ECHO with ABORT after it"},
		{11, 6, EventAbort, "COOKIE ACK with ABORT after it"},
		{9, 6, EventError, "ERROR with ABORT after it stays an error"},
		{255, 6, EventChunkData, "an unknown chunk counts as data"},
	} {
		if got := SCTPEvent(c.first, c.next); got != c.want {
			t.Errorf("%s: event %d, want %d", c.why, got, c.want)
		}
	}
}
