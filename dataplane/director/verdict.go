package director

// Verdict is what became of a frame: one value for every cause. The counters
// of a worker are indexed by it, and they add up to the frames received.
type Verdict uint8

const (
	// Frames left to the host's stack, untouched.
	NotOurs          Verdict = iota
	NotOursOtherHost         // IP to another machine's hardware address, as seen in promiscuous mode
	NotOursVLAN              // in a VLAN that is no port of ours
	NotOursLinkGroup         // IP in a broadcast or multicast frame: never for a VIP (RFC 1122 section 3.3.6)

	// Forwarded frames.
	ForwardedMasq     // client to server, addresses rewritten
	ForwardedRoute    // client to server, by MAC address only
	ForwardedTunnel   // client to server, encapsulated
	ReturnedMasq      // server to client of a masqueraded conn
	ReturnedAsIs      // server to client of any other conn, the director being the gateway
	ICMPErrorToServer // an ICMP error about a reply, to the server that sent it
	ICMPErrorToClient // an ICMP error about a request, to the client that sent it
	ICMPErrorNoted    // an ICMP error about a tunnel of ours, of which no client is to be told
	PassedUnchanged   // no conn: routed unchanged, as the host would have done
	PassedAmbiguous   // likewise, a one-packet server's: several services could be meant
	HeldFragment      // kept until the first of its datagram comes, or too long has passed

	// Answered frames.
	AnsweredARP         // who-has for a VIP
	AnsweredND          // neighbour solicitation for a VIP
	AnsweredEcho        // ping of a VIP
	RefusedNoServer     // no server eligible: port unreachable or reset
	RefusedNoService    // VIP without such a service: reset or port unreachable
	RefusedNoConn       // TCP segment without a conn: reset
	RefusedForgotten    // TCP segment of a conn that idled too long: reset
	RefusedReply        // a server's packet without a conn: port unreachable
	AnsweredTTLExceeded // time exceeded
	AnsweredTooBig      // fragmentation needed, packet too big
	AnsweredNoRoute     // host unreachable
	AnsweredHelper      // acknowledged in its receiver's place: text that a helper keeps until its line is whole

	// Dropped frames.
	DroppedNoNeighbour // the next hop's hardware address is not known
	DroppedServerGone  // conn of a server that was removed
	DroppedTableFull   // no conn entry to be had
	DroppedDefence     // drop_packet refused it a conn
	DroppedClientRate  // its client begins more connections a second than it may
	DroppedClientConns // its client has as many connections as it may
	DroppedNoCallID    // begins a call, but says not which
	DroppedNoRoom      // no headroom for the tunnel header
	DroppedIPsecNoConn // ESP or AH to a service of IKE without a conn of it

	// Frames to a VIP whose source can be no client.
	DroppedSourceVIP         // a VIP: forged, or two services would talk to each other for ever
	DroppedSourceLoopback    // 127/8, ::1
	DroppedSourceUnspecified // 0/8, ::
	DroppedSourceGroup       // multicast, broadcast
	DroppedSourceReserved    // 240/4
	DroppedSourceLinkLocal   // fe80::/10, which may not leave its link (RFC 4291 section 2.5.6)
	DroppedSourceMACGroup    // the frame comes from a group of machines
	DroppedSourceMACOwn      // the frame comes from our own hardware address

	DroppedBadDestination // hidden from the host, and to nowhere a router may send it
	DroppedUDP6NoChecksum // UDP over IPv6 without a checksum, to be translated
	DroppedUnanswered     // an answer was due, but must not be sent (RFC 1122, RFC 4443)
	DroppedAnswerLimit    // an answer was due, but too many were sent lately
	DroppedVIPOther       // to a VIP of ours, of a kind nobody serves

	// Frames that are not sound, whoever they are for (wire.Flaw).
	DroppedRunt
	DroppedBadARP
	DroppedBadIPHeader
	DroppedBadIPLength
	DroppedBadIPChecksum
	DroppedMappedAddress
	DroppedBadIPOption
	DroppedSourceRoute
	DroppedBadExtension
	DroppedManyExtensions
	DroppedBadTransport
	DroppedBadTransportLength
	DroppedBadICMPChecksum // ICMP error whose own checksum is wrong

	// Dropped fragments.
	DroppedFragment        // the first of its datagram went nowhere, or its conn has ended
	DroppedFragmentTwice   // all its bytes came before
	DroppedFragmentOverlap // some of its bytes did, or the datagram is in too many parts: refused from there on
	DroppedFragmentBad     // empty, of an odd length, or longer than any datagram
	DroppedFragmentSCTP    // its port is to change, and the CRC covers what is in other fragments
	DroppedFragmentLimit   // it would have to wait, and its source has as much waiting as it may; or no note is to be had

	// Segments of a helped connection; TCP sends most of them again.
	DroppedHelperBusy     // another worker has one of the same connection in hand
	DroppedHelperKept     // to be kept, but nothing was heard of its receiver yet
	DroppedHelperGap      // text before it was not seen yet
	DroppedHelperFull     // too many changes wait for acknowledgement
	DroppedHelperRoom     // its text grew beyond what fits
	DroppedHelperChecksum // TCP checksum wrong
	DroppedHelperFragment // IP fragment
	DroppedHelperRefused  // the helper refused the connection
	DroppedUnexpected     // a server came to a client from two ports at once

	NumVerdict
)

// verdictNames are the counters' names, as `uvs stats` prints them.
var verdictNames = [NumVerdict]string{
	NotOurs:             "not_ours",
	NotOursOtherHost:    "not_ours_other_host",
	NotOursVLAN:         "not_ours_vlan",
	NotOursLinkGroup:    "not_ours_link_group",
	ForwardedMasq:       "forwarded_masq",
	ForwardedRoute:      "forwarded_route",
	ForwardedTunnel:     "forwarded_tunnel",
	ReturnedMasq:        "returned_masq",
	ReturnedAsIs:        "returned_as_is",
	ICMPErrorToServer:   "icmp_error_to_server",
	ICMPErrorToClient:   "icmp_error_to_client",
	ICMPErrorNoted:      "icmp_error_noted",
	PassedUnchanged:     "passed_unchanged",
	PassedAmbiguous:     "passed_ambiguous",
	AnsweredARP:         "answered_arp",
	AnsweredND:          "answered_nd",
	AnsweredEcho:        "answered_echo",
	RefusedNoServer:     "refused_no_server",
	RefusedNoService:    "refused_no_service",
	RefusedNoConn:       "refused_no_conn",
	RefusedForgotten:    "refused_forgotten",
	RefusedReply:        "refused_reply",
	AnsweredTTLExceeded: "answered_ttl_exceeded",
	AnsweredTooBig:      "answered_too_big",
	AnsweredNoRoute:     "answered_no_route",
	AnsweredHelper:      "answered_helper",
	DroppedNoNeighbour:  "dropped_no_neighbour",
	DroppedServerGone:   "dropped_server_gone",
	DroppedTableFull:    "dropped_table_full",
	DroppedDefence:      "dropped_defence",
	DroppedClientRate:   "dropped_client_rate",
	DroppedClientConns:  "dropped_client_conns",
	DroppedNoCallID:     "dropped_no_call_id",
	DroppedNoRoom:       "dropped_no_room",
	DroppedIPsecNoConn:  "dropped_ipsec_no_conn",

	DroppedSourceVIP:         "dropped_source_vip",
	DroppedSourceLoopback:    "dropped_source_loopback",
	DroppedSourceUnspecified: "dropped_source_unspecified",
	DroppedSourceGroup:       "dropped_source_group",
	DroppedSourceReserved:    "dropped_source_reserved",
	DroppedSourceLinkLocal:   "dropped_source_link_local",
	DroppedSourceMACGroup:    "dropped_source_mac_group",
	DroppedSourceMACOwn:      "dropped_source_mac_own",

	DroppedBadDestination: "dropped_bad_destination",
	DroppedUDP6NoChecksum: "dropped_udp6_no_checksum",
	DroppedUnanswered:     "dropped_unanswered",
	DroppedAnswerLimit:    "dropped_answer_limit",
	DroppedVIPOther:       "dropped_vip_other",

	DroppedRunt:               "dropped_runt",
	DroppedBadARP:             "dropped_bad_arp",
	DroppedBadIPHeader:        "dropped_bad_ip_header",
	DroppedBadIPLength:        "dropped_bad_ip_length",
	DroppedBadIPChecksum:      "dropped_bad_ip_checksum",
	DroppedMappedAddress:      "dropped_mapped_address",
	DroppedBadIPOption:        "dropped_bad_ip_option",
	DroppedSourceRoute:        "dropped_source_route",
	DroppedBadExtension:       "dropped_bad_extension",
	DroppedManyExtensions:     "dropped_many_extensions",
	DroppedBadTransport:       "dropped_bad_transport",
	DroppedBadTransportLength: "dropped_bad_transport_length",
	DroppedBadICMPChecksum:    "dropped_bad_icmp_checksum",

	HeldFragment:           "held_fragment",
	DroppedFragment:        "dropped_fragment",
	DroppedFragmentTwice:   "dropped_fragment_twice",
	DroppedFragmentOverlap: "dropped_fragment_overlap",
	DroppedFragmentBad:     "dropped_fragment_bad",
	DroppedFragmentSCTP:    "dropped_fragment_sctp",
	DroppedFragmentLimit:   "dropped_fragment_limit",

	DroppedHelperBusy:     "dropped_helper_busy",
	DroppedHelperKept:     "dropped_helper_kept",
	DroppedHelperGap:      "dropped_helper_gap",
	DroppedHelperFull:     "dropped_helper_full",
	DroppedHelperRoom:     "dropped_helper_room",
	DroppedHelperChecksum: "dropped_helper_checksum",
	DroppedHelperFragment: "dropped_helper_fragment",
	DroppedHelperRefused:  "dropped_helper_refused",
	DroppedUnexpected:     "dropped_unexpected",
}

func (v Verdict) String() string {
	if v < NumVerdict {
		return verdictNames[v]
	}
	return "unknown"
}

// Dropped says whether the frame went nowhere although it was ours.
func (v Verdict) Dropped() bool { return v >= DroppedNoNeighbour && v < NumVerdict }
