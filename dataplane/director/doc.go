// Package director is the decision: what becomes of a frame.
//
// Process takes a batch of frames and an immutable Table and leaves every frame
// either rewritten with a port to leave by, or untouched, and every frame with
// exactly one Verdict. It works in three short loops, so that memory misses
// overlap:
//
//	parse all → look up all → act, one by one:
//	    hit   → state step → rewrite for the server, or back for the client   (forward.go)
//	    miss  → service? → template? → Picker.Pick → conntrack insert → hit   (schedule.go)
//	    ICMP error about a known flow → rewritten with what it quotes         (icmp.go)
//	    ARP, neighbour solicitation, echo for a VIP of ours → answered        (answer.go)
//
// It never blocks, allocates, logs, reads a clock or sees more than one table:
// the same frames, ticks and table give the same bytes. Whoever calls it owns
// the Director; the connection table behind it is shared by all of them.
package director
