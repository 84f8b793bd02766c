package tunnel

// IPIP has nothing between the IP headers: RFC 2003, RFC 2473, RFC 4213.
const IPIP Type = 0

var ipip = Encapsulation{
	Name:      "ipip",
	Put:       func([]byte, uint8, bool) {},
	Strip:     func(proto uint8, _ []byte) (n int, inner uint8, ok bool) { return 0, proto, true },
	QuotedLen: func([]byte) int { return 0 },
}
