package sched

// Fields are the parts of a flow that dh, sh and mh hash.
type Fields uint8

const (
	FieldClient     Fields = 1 << iota // source address
	FieldClientPort                    // source port
	FieldVIP                           // destination address
	FieldPort                          // destination port
)

// TableSizes are the sizes the mh table can have: the kernel's primes for
// CONFIG_IP_VS_MH_TAB_INDEX 8 to 17, and 65537, the smaller one of the Maglev
// paper (section 5.3).
var TableSizes = []int{251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 65537, 131071}

// DefaultTable is the kernel's default, index 12.
const DefaultTable = 4093
