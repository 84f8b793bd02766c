package frag

// Result is how a fragment stands to those that came before. OK, Duplicate and Overlap are
// those of net/ipv4/inet_fragment.c, inet_frag_queue_insert; the others are our own.
type Result uint8

const (
	NoFlow      Result = iota // the datagram has no flow, or an undecided one
	OK                        // all its bytes are new
	Duplicate                 // all its bytes came before
	Overlap                   // some came before: the datagram is refused from here on
	TooManyGaps               // more than can be tracked: it is refused too
)

// Range is the part of a datagram that a fragment has: bytes Start to End of the
// payload that was fragmented. End is at most 65535 and greater than Start.
type Range struct {
	Start, End int
	Last       bool
}

// maxRanges is how many separate ranges of a datagram are tracked. A datagram in
// order, or from its end to its start, is one range all the time.
const maxRanges = 8

// ranges are the bytes of a datagram that have come, in order. They neither touch
// nor overlap each other.
type ranges struct {
	list  [maxRanges]struct{ start, end uint16 }
	n     uint8
	total uint16 // the length of the whole; 0: not known yet
}

// add enters the range of a fragment. Nothing may overlap (RFC 8200 section 4.5,
// RFC 5722), but networks may duplicate: the RFC allows a fragment whose bytes all
// came before. IPv4 is treated the same way, as Linux does.
func (r *ranges) add(x Range) Result {
	start, end := uint16(x.Start), uint16(x.End)
	i := 0 // the first range that does not end before the fragment
	for i < int(r.n) && r.list[i].end < start {
		i++
	}
	if i < int(r.n) && r.list[i].start <= start && end <= r.list[i].end {
		return Duplicate
	}
	next := i // the first range that begins behind it
	before := i < int(r.n) && r.list[i].end == start
	if before {
		next++
	}
	switch {
	case next < int(r.n) && r.list[next].start < end,
		r.total != 0 && (end > r.total || x.Last),
		x.Last && next < int(r.n):
		return Overlap
	}
	if x.Last {
		r.total = end
	}
	behind := next < int(r.n) && r.list[next].start == end
	switch {
	case before && behind:
		r.list[i].end = r.list[next].end
		copy(r.list[next:r.n], r.list[next+1:r.n])
		r.n--
	case before:
		r.list[i].end = end
	case behind:
		r.list[next].start = start
	case r.n == maxRanges:
		return TooManyGaps
	default:
		copy(r.list[i+1:r.n+1], r.list[i:r.n])
		r.list[i].start, r.list[i].end = start, end
		r.n++
	}
	return OK
}

// complete reports whether every byte has come.
func (r *ranges) complete() bool {
	return r.n == 1 && r.list[0].start == 0 && r.total != 0 && r.list[0].end == r.total
}
