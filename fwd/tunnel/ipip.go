package tunnel

// IPIP has nothing between the IP headers: RFC 2003, RFC 2473, RFC 4213.
const IPIP Type = 0

type ipip struct{}

func (ipip) Name() string            { return "ipip" }
func (ipip) Port() uint16            { return 0 }
func (ipip) MaxFlags() uint16        { return NoCsum }
func (ipip) Proto(inner uint8) uint8 { return inner }
func (ipip) Len(bool) int            { return 0 }
func (ipip) ChecksumOffset() uint8   { return 0 }

func (ipip) Put([]byte, uint8, bool) {}

func (ipip) Strip(proto uint8, _ []byte) (n int, inner uint8, ok bool) { return 0, proto, true }

func (ipip) QuotedLen([]byte) int { return 0 }
