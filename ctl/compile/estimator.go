package compile

import "uvs/dataplane/director"

// Estimator smooths counters to rates as the kernel does (net/netfilter/ipvs/ip_vs_est.c): every
// two seconds each estimate moves a quarter of the way to the last rate, in fixed point.
type Estimator struct{ last, estimate director.Totals }

// Shifts of ip_vs_est.c: a count in 2 s is kept as rate<<10, bytes as rate<<5.
const (
	countShift = 9
	byteShift  = 4
)

// Sample moves the estimates one step; now is what was counted so far.
func (e *Estimator) Sample(now director.Totals) {
	move(&e.estimate.Conns, (now.Conns-e.last.Conns)<<countShift)
	move(&e.estimate.InPkts, (now.InPkts-e.last.InPkts)<<countShift)
	move(&e.estimate.OutPkts, (now.OutPkts-e.last.OutPkts)<<countShift)
	move(&e.estimate.InBytes, (now.InBytes-e.last.InBytes)<<byteShift)
	move(&e.estimate.OutBytes, (now.OutBytes-e.last.OutBytes)<<byteShift)
	e.last = now
}

func move(estimate *uint64, rate uint64) {
	*estimate = uint64(int64(*estimate) + (int64(rate)-int64(*estimate))>>2)
}

// Rates returns the estimates per second, rounded to the nearest.
func (e *Estimator) Rates() director.Totals {
	return director.Totals{
		Conns:  (e.estimate.Conns + 0x1ff) >> 10,
		InPkts: (e.estimate.InPkts + 0x1ff) >> 10, OutPkts: (e.estimate.OutPkts + 0x1ff) >> 10,
		InBytes: (e.estimate.InBytes + 0xf) >> 5, OutBytes: (e.estimate.OutBytes + 0xf) >> 5,
	}
}
