package wire

// Used returns the bytes of the splitter's memory that are in use.
func (s *Splitter) Used() int { return s.used }

// UpdateAddr is Update16 for an address, as ChecksumDelta updates a complete checksum. Both
// addresses must be of the same family.
func UpdateAddr(check uint16, old, new Addr) uint16 {
	return ^Fold(uint32(^check) + uint32(Fold(ChecksumDelta{}.Addr(old, new).addrs)))
}
