package director

// Verdict is what became of a frame: one value for every cause. The counters of a
// worker are indexed by it, and they add up to the frames received.
//
// A constant has the name of its counter in camel case, with the initialisms ARP,
// ICMP, ID, IP, MAC, ND, SCTP, TTL, UDP6, VIP and VLAN in capitals, and IPsec.
type Verdict uint8

const (
	// Left to the host.
	NotOurs Verdict = iota
	NotOursOtherHost
	NotOursVLAN
	NotOursLinkGroup
	// Forwarded.
	ForwardedMasq
	ForwardedRoute
	ForwardedTunnel
	ReturnedMasq
	ReturnedAsIs
	ICMPErrorToServer
	ICMPErrorToClient
	ICMPErrorNoted
	PassedUnchanged
	PassedAmbiguous
	HeldFragment
	HeldServerGone
	HeldNoNeighbour
	// Answered.
	AnsweredARP
	AnsweredND
	AnsweredEcho
	RefusedNoServer
	RefusedNoService
	RefusedNoConn
	RefusedForgotten
	RefusedClash
	RefusedReply
	AnsweredTTLExceeded
	AnsweredTooBig
	AnsweredNoRoute
	AnsweredHelper
	// Dropped: no way on.
	DroppedNoNeighbour
	DroppedServerGone
	DroppedStandby
	DroppedTableFull
	DroppedDefence
	DroppedNotForwarding
	DroppedReversePath
	DroppedClientRate
	DroppedClientConns
	DroppedNoCallID
	DroppedNoRoom
	DroppedFault
	DroppedIPsecNoConn
	// Dropped: a source that can be no client.
	DroppedSourceVIP
	DroppedSourceLoopback
	DroppedSourceUnspecified
	DroppedSourceGroup
	DroppedSourceReserved
	DroppedSourceLinkLocal
	DroppedSourceMACGroup
	DroppedSourceMACOwn
	// Dropped: not to be forwarded or answered.
	DroppedBadDestination
	DroppedUDP6NoChecksum
	DroppedUnanswered
	DroppedAnswerLimit
	DroppedAnswerLimitClient
	DroppedVIPOther
	// Dropped: malformed, whoever it is for.
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
	DroppedBadICMPChecksum
	// Dropped fragments.
	DroppedFragment
	DroppedFragmentTwice
	DroppedFragmentOverlap
	DroppedFragmentBad
	DroppedFragmentSCTP
	DroppedFragmentLimit
	// Dropped by a helper.
	DroppedHelperBusy
	DroppedHelperKept
	DroppedHelperGap
	DroppedHelperFull
	DroppedHelperRoom
	DroppedHelperChecksum
	DroppedHelperFragment
	DroppedHelperRefused
	DroppedUnexpected

	NumVerdict
)

// verdicts has for each verdict its counter, what that counts, and what to do when it
// rises. TestCountersPage -update writes docs/counters.md from it.
var verdicts = [NumVerdict][3]string{
	NotOurs:          {"not_ours", "For the host, or for no address of the director."},
	NotOursOtherHost: {"not_ours_other_host", "IP to another machine's hardware address (promiscuous mode)."},
	NotOursVLAN: {
		"not_ours_vlan", "In a VLAN that is no port of the director.",
		"If clients are there, run uvs on its device or with `--vlan`, or set `keep_tags`.",
	},
	NotOursLinkGroup: {"not_ours_link_group", "IP in a broadcast or multicast frame (RFC 1122 section 3.3.6)."},

	ForwardedMasq:     {"forwarded_masq", "Client to server, addresses rewritten (NAT)."},
	ForwardedRoute:    {"forwarded_route", "Client to server, by hardware address only (DR)."},
	ForwardedTunnel:   {"forwarded_tunnel", "Client to server, encapsulated."},
	ReturnedMasq:      {"returned_masq", "Server to client of a NAT conn, addresses rewritten."},
	ReturnedAsIs:      {"returned_as_is", "Server to client of a DR or tunnel conn, as a router."},
	ICMPErrorToServer: {"icmp_error_to_server", "ICMP error about a reply, to the server that sent the reply."},
	ICMPErrorToClient: {
		"icmp_error_to_client", "ICMP error about a request, to the client that sent the request.",
		"If the errors say too big, see `uvs paths`.",
	},
	ICMPErrorNoted: {"icmp_error_noted", "ICMP error about a tunnel that no client needs to know.", "See `uvs paths`."},
	PassedUnchanged: {
		"passed_unchanged", "From a server, without a conn: routed as the host would.",
		"Normal for a server's own connections. Else raise the timeouts.",
	},
	PassedAmbiguous: {
		"passed_ambiguous", "The same, from a server of several one-packet services.",
		"Give each of these services its own server address or port.",
	},
	HeldFragment: {
		"held_fragment", "Queued until the first fragment of its datagram comes.",
		"See `fragments_expired` and `fragments_displaced`.",
	},
	HeldServerGone: {
		"held_server_gone", "Its server was just removed. One packet of each conn waits, others are dropped.",
		"Normal while a manager restarts. See `removed_grace`.",
	},
	HeldNoNeighbour: {
		"held_no_neighbour", "Waits for the next hop's hardware address, which the host asks for.",
		"Is the server, client or gateway on the link? See `unresolved_expired`, `ip neigh`, `uvs services`.",
	},

	AnsweredARP:  {"answered_arp", "ARP request for a VIP."},
	AnsweredND:   {"answered_nd", "Neighbour solicitation for a VIP."},
	AnsweredEcho: {"answered_echo", "Ping of a VIP."},
	RefusedNoServer: {
		"refused_no_server", "No server can take the connection (`no_server`).",
		"Look for servers that are down, of weight 0 or overloaded: `uvs services`.",
	},
	RefusedNoService: {
		"refused_no_service", "To a port of a VIP that has no service.",
		"A port scan, or a service that is missing.",
	},
	RefusedNoConn: {
		"refused_no_conn", "TCP segment or SCTP packet that has no conn and cannot begin one.",
		"Idle conns may end too soon: raise the timeouts. After a failover, set `sloppy_tcp`.",
	},
	RefusedForgotten: {
		"refused_forgotten", "TCP segment of a conn that idled too long.",
		"Raise the service's TCP timeout above the longest silence of its applications.",
	},
	RefusedClash: {
		"refused_clash", "New flow of a client port that has another to the same server and port (NAT).",
		"Give each service its own server port, or more servers, or use DR.",
	},
	RefusedReply: {
		"refused_reply", "From a NAT server, without a conn (`nat_icmp_send`).",
		"As for `passed_unchanged`.",
	},
	AnsweredTTLExceeded: {
		"answered_ttl_exceeded", "TTL or hop limit used up: time exceeded.",
		"A traceroute, or a routing loop.",
	},
	AnsweredTooBig: {
		"answered_too_big", "Too long for the next hop, and not to be fragmented.",
		"Set `mss_clamp`, or raise the MTU between director and server.",
	},
	AnsweredNoRoute: {
		"answered_no_route", "No route to the server: host unreachable.",
		"Add the route; `uvs explain` names the address.",
	},
	AnsweredHelper: {"answered_helper", "Text held back until its line is whole; the director acknowledges it."},

	DroppedNoNeighbour: {
		"dropped_no_neighbour",
		"The next hop's hardware address is not known: an ICMP error or a later fragment, or too much waits.",
		"A scan of addresses that do not exist? Else as for `held_no_neighbour`.",
	},
	DroppedServerGone: {
		"dropped_server_gone", "The server of its conn was removed.",
		"To move such clients to another server, set `removed_conns=refuse`.",
	},
	DroppedStandby: {
		"dropped_standby", "Another director serves the VIP (`uvs standby`, `announce=held`).",
		"Still rising after a takeover: the sender did not hear the announcement. See `docs/failover.md`.",
	},
	DroppedTableFull: {
		"dropped_table_full", "The connection table is full.",
		"Raise `uvs run --conn-max`, or shorten the timeouts; see `conns_in_use`.",
	},
	DroppedDefence: {
		"dropped_defence", "`drop_packet` refused a new connection.",
		"A flood, or too little memory for the load: see `conns_in_use`.",
	},
	DroppedNotForwarding: {
		"dropped_not_forwarding", "To be routed on unchanged, but the host does not forward.",
		"If the host is the servers' router: `sysctl net.ipv4.conf.INTERFACE.forwarding=1`, or IPv6's.",
	},
	DroppedReversePath: {
		"dropped_reverse_path", "From a server, but by another interface than the route to it.",
		"Forged, or an asymmetric network: then `uvs set reverse_path=loose`.",
	},
	DroppedClientRate: {
		"dropped_client_rate", "Beyond the client's `limit_rate`.",
		"An attack, or many users behind one address.",
	},
	DroppedClientConns: {"dropped_client_conns", "Beyond the client's `limit_conns`.", "As for `dropped_client_rate`."},
	DroppedNoCallID: {
		"dropped_no_call_id", "Begins a SIP call, but names no Call-ID.",
		"Send only SIP over UDP to this service.",
	},
	DroppedNoRoom: {"dropped_no_room", "No headroom for a tunnel header or a VLAN tag.", "A fault of uvs: report it."},
	DroppedFault: {
		"dropped_fault", "A panic while it was decided about. The log has the frame.",
		"A fault of uvs: report it with the line of the log.",
	},
	DroppedIPsecNoConn: {
		"dropped_ipsec_no_conn", "ESP or AH without an IKE flow of the same addresses.",
		"Restart IKE at the peer: its association began elsewhere.",
	},

	DroppedSourceVIP:         {"dropped_source_vip", "A VIP: two services would talk to each other for ever."},
	DroppedSourceLoopback:    {"dropped_source_loopback", "127.0.0.0/8 or ::1."},
	DroppedSourceUnspecified: {"dropped_source_unspecified", "0.0.0.0/8 or ::."},
	DroppedSourceGroup:       {"dropped_source_group", "Multicast or broadcast."},
	DroppedSourceReserved:    {"dropped_source_reserved", "240.0.0.0/4."},
	DroppedSourceLinkLocal:   {"dropped_source_link_local", "fe80::/10 (RFC 4291 section 2.5.6)."},
	DroppedSourceMACGroup:    {"dropped_source_mac_group", "The frame comes from a multicast hardware address."},
	DroppedSourceMACOwn: {
		"dropped_source_mac_own", "The frame comes from the director's own hardware address.",
		"A switching loop, or two hosts with one address.",
	},

	DroppedBadDestination: {
		"dropped_bad_destination", "From a server to an address that is not to be routed to.",
		"See what that server sends.",
	},
	DroppedUDP6NoChecksum: {
		"dropped_udp6_no_checksum",
		"UDP over IPv6 without a checksum, by NAT (RFC 8200 section 8.1).",
		"Correct the sender, or use DR or a tunnel.",
	},
	DroppedUnanswered: {"dropped_unanswered", "An answer was due, but may not be sent (RFC 1122, RFC 4443)."},
	DroppedAnswerLimit: {
		"dropped_answer_limit", "An answer was due, but the 1000 a second are used up.",
		"A scan or a flood: see which `answered_` and `refused_` counters rise.",
	},
	DroppedAnswerLimitClient: {
		"dropped_answer_limit_client", "An answer was due, but the 100 a second of its address are used up.",
		"A scan or a flood by one host.",
	},
	DroppedVIPOther: {"dropped_vip_other", "To a VIP, of a kind that no service takes."},

	DroppedRunt:               {"dropped_runt", "Shorter than its link header, or cut by the ring."},
	DroppedBadARP:             {"dropped_bad_arp", "ARP that is not for Ethernet and IPv4, or is too short."},
	DroppedBadIPHeader:        {"dropped_bad_ip_header", "Impossible IP version or header length."},
	DroppedBadIPLength:        {"dropped_bad_ip_length", "Shorter than its IP header says."},
	DroppedBadIPChecksum:      {"dropped_bad_ip_checksum", "Wrong IPv4 header checksum."},
	DroppedMappedAddress:      {"dropped_mapped_address", "An IPv4-mapped address in an IPv6 header."},
	DroppedBadIPOption:        {"dropped_bad_ip_option", "Malformed IPv4 options."},
	DroppedSourceRoute:        {"dropped_source_route", "Source route (RFC 7126, RFC 5095)."},
	DroppedBadExtension:       {"dropped_bad_extension", "The packet ends in an IPv6 extension header."},
	DroppedManyExtensions:     {"dropped_many_extensions", "More than eight IPv6 extension headers."},
	DroppedBadTransport:       {"dropped_bad_transport", "The packet ends in its transport header."},
	DroppedBadTransportLength: {"dropped_bad_transport_length", "Impossible TCP data offset or UDP length."},
	DroppedBadICMPChecksum:    {"dropped_bad_icmp_checksum", "ICMP error whose own checksum is wrong."},

	DroppedFragment: {
		"dropped_fragment", "The first was not forwarded, or its conn has ended.",
		"See the other counters for the first.",
	},
	DroppedFragmentTwice: {"dropped_fragment_twice", "All its bytes came before, and others are still missing."},
	DroppedFragmentOverlap: {
		"dropped_fragment_overlap", "Some of its bytes came before, or too many gaps.",
		"An attack, or a broken sender.",
	},
	DroppedFragmentBad: {
		"dropped_fragment_bad", "Of a length or at a place that no fragment can have.",
		"An attack, or a broken sender.",
	},
	DroppedFragmentSCTP: {
		"dropped_fragment_sctp", "NAT to another port: the CRC covers all fragments.",
		"Use DR, or the same port at the server.",
	},
	DroppedFragmentLimit: {
		"dropped_fragment_limit", "No room in the queue, or another worker had its flow locked.",
		"Raise `fragment_hold` and `fragment_hold_source`.",
	},

	DroppedHelperBusy:     {"dropped_helper_busy", "Another worker handles a segment of the connection."},
	DroppedHelperKept:     {"dropped_helper_kept", "To hold back, but no ACK is possible: its receiver was not seen."},
	DroppedHelperGap:      {"dropped_helper_gap", "Text before it has not been seen.", "Packets are lost before here."},
	DroppedHelperFull:     {"dropped_helper_full", "Too many changes wait for acknowledgement."},
	DroppedHelperRoom:     {"dropped_helper_room", "The changed text does not fit into the frame."},
	DroppedHelperChecksum: {"dropped_helper_checksum", "Wrong TCP checksum."},
	DroppedHelperFragment: {"dropped_helper_fragment", "An IP fragment of a helped connection.", "Set `mss_clamp`."},
	DroppedHelperRefused:  {"dropped_helper_refused", "The helper refused the connection.", "See the `ftp_` counters."},
	DroppedUnexpected:     {"dropped_unexpected", "A second data connection of a server while one was expected."},
}

func (v Verdict) String() string {
	if v < NumVerdict {
		return verdicts[v][0]
	}
	return "unknown"
}

// Dropped reports whether the frame went nowhere although it was not the host's.
func (v Verdict) Dropped() bool { return v >= DroppedNoNeighbour && v < NumVerdict }
