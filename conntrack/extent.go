package conntrack

// Fit is how a fragment stands to those of its datagram that came before.
type Fit uint8

const (
	FitNone      Fit = iota // nothing is known of its datagram, or not enough yet
	FitNew                  // it has bytes nobody had
	FitTwice                // all its bytes were there already
	FitOverlap              // some were: the datagram is refused from here on
	FitScattered            // too many gaps to keep in mind: likewise
)

// Extent is the part of a datagram that a fragment has: bytes Start to End of
// what was cut in pieces; End is at most 65535 and greater than Start.
type Extent struct {
	Start, End int
	Last       bool
}

// maxRuns is how many separate runs of a datagram's bytes are kept in mind. A
// datagram in order, or from its end to its beginning, is one run all the time.
const maxRuns = 8

// runs are the bytes of a datagram that have come, in order and neither touching
// nor overlapping each other.
type runs struct {
	list  [maxRuns]struct{ start, end uint16 }
	n     uint8
	total uint16 // the length of the whole; 0: not known yet
}

// add enters what a fragment has. Nothing may overlap (RFC 8200 section 4.5, RFC
// 5722); what came already is let be, as networks may duplicate: the RFC allows
// to tell the two apart. IPv4 is treated alike, as Linux does.
func (r *runs) add(x Extent) Fit {
	start, end := uint16(x.Start), uint16(x.End)
	i := 0 // the first run that does not end before the fragment
	for i < int(r.n) && r.list[i].end < start {
		i++
	}
	if i < int(r.n) && r.list[i].start <= start && end <= r.list[i].end {
		return FitTwice
	}
	next := i // the first run that begins behind it
	before := i < int(r.n) && r.list[i].end == start
	if before {
		next++
	}
	switch {
	case next < int(r.n) && r.list[next].start < end,
		r.total != 0 && (end > r.total || x.Last),
		x.Last && next < int(r.n):
		return FitOverlap
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
	case r.n == maxRuns:
		return FitScattered
	default:
		copy(r.list[i+1:r.n+1], r.list[i:r.n])
		r.list[i].start, r.list[i].end = start, end
		r.n++
	}
	return FitNew
}

// whole says whether every byte has come.
func (r *runs) whole() bool {
	return r.n == 1 && r.list[0].start == 0 && r.total != 0 && r.list[0].end == r.total
}
