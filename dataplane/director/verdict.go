package director

// Verdict is what became of a frame: one value for every cause. The counters
// of a worker are indexed by it, and they add up to the frames received.
type Verdict uint8

const (
	// NotOurs is a frame left to the host's stack, untouched.
	NotOurs Verdict = iota

	// Forwarded frames.
	Masqueraded     // client to server, addresses rewritten
	Routed          // client to server, by MAC address only
	Tunnelled       // client to server, encapsulated
	Returned        // server to client of a masqueraded conn
	ReturnedAsIs    // server to client of any other conn, the director being the gateway
	ErrorToServer   // an ICMP error about a reply, to the server that sent it
	ErrorToClient   // an ICMP error about a request, to the client that sent it
	ErrorNoted      // an ICMP error about a tunnel of ours, of which no client is to be told
	Passed          // no conn: routed unchanged, as the host would have done
	PassedAmbiguous // likewise, a one-packet server's: several services could be meant

	// Answered frames.
	AnsweredARP      // who-has for a VIP
	AnsweredND       // neighbour solicitation for a VIP
	AnsweredEcho     // ping of a VIP
	RefusedNoServer  // no server eligible: port unreachable or reset
	RefusedNoService // VIP without such a service: reset or port unreachable
	RefusedNoConn    // TCP segment without a conn: reset
	RefusedForgotten // TCP segment of a conn that idled too long: reset
	AnsweredTTL      // time exceeded
	AnsweredTooBig   // fragmentation needed, packet too big
	AnsweredNoRoute  // host unreachable

	// Dropped frames.
	DroppedNoNeighbour // the next hop's hardware address is not known
	DroppedServerGone  // conn of a server that was removed
	DroppedTableFull   // no conn entry to be had
	DroppedDefence     // drop_packet refused it a conn
	DroppedClientRate  // its client begins more connections a second than it may
	DroppedClientConns // its client has as many connections as it may
	DroppedNoRoom      // no headroom for the tunnel header
	DroppedFragment    // fragment other than the first
	DroppedSource      // begins a conn, but its source can be no client
	DroppedSilent      // an answer was due, but must not be sent (RFC 1122, RFC 4443)
	DroppedLimited     // an answer was due, but too many were sent lately
	DroppedVIP         // to a VIP of ours, of a kind nobody serves
	DroppedRunt
	DroppedARP
	DroppedIPHeader
	DroppedIPSum
	DroppedExtension
	DroppedTransport
	DroppedICMPSum // ICMP error whose own checksum is wrong

	NumVerdict
)

// verdictNames are the counters' names, as `uvs stats` prints them.
var verdictNames = [NumVerdict]string{
	NotOurs:            "not_ours",
	Masqueraded:        "forwarded_masq",
	Routed:             "forwarded_route",
	Tunnelled:          "forwarded_tunnel",
	Returned:           "returned_masq",
	ReturnedAsIs:       "returned_as_is",
	ErrorToServer:      "icmp_error_to_server",
	ErrorToClient:      "icmp_error_to_client",
	ErrorNoted:         "icmp_error_noted",
	Passed:             "passed_unchanged",
	PassedAmbiguous:    "passed_ambiguous",
	AnsweredARP:        "answered_arp",
	AnsweredND:         "answered_nd",
	AnsweredEcho:       "answered_echo",
	RefusedNoServer:    "refused_no_server",
	RefusedNoService:   "refused_no_service",
	RefusedNoConn:      "refused_no_conn",
	RefusedForgotten:   "refused_forgotten",
	AnsweredTTL:        "answered_ttl_exceeded",
	AnsweredTooBig:     "answered_too_big",
	AnsweredNoRoute:    "answered_no_route",
	DroppedNoNeighbour: "dropped_no_neighbour",
	DroppedServerGone:  "dropped_server_gone",
	DroppedTableFull:   "dropped_table_full",
	DroppedDefence:     "dropped_defence",
	DroppedClientRate:  "dropped_client_rate",
	DroppedClientConns: "dropped_client_conns",
	DroppedNoRoom:      "dropped_no_room",
	DroppedFragment:    "dropped_fragment",
	DroppedSource:      "dropped_bad_source",
	DroppedSilent:      "dropped_unanswered",
	DroppedLimited:     "dropped_answer_limit",
	DroppedVIP:         "dropped_vip_other",
	DroppedRunt:        "dropped_runt",
	DroppedARP:         "dropped_bad_arp",
	DroppedIPHeader:    "dropped_bad_ip_header",
	DroppedIPSum:       "dropped_bad_ip_checksum",
	DroppedExtension:   "dropped_bad_extension",
	DroppedTransport:   "dropped_bad_transport",
	DroppedICMPSum:     "dropped_bad_icmp_checksum",
}

func (v Verdict) String() string {
	if v < NumVerdict {
		return verdictNames[v]
	}
	return "unknown"
}

// Dropped says whether the frame went nowhere although it was ours.
func (v Verdict) Dropped() bool { return v >= DroppedNoNeighbour && v < NumVerdict }
