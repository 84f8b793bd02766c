package wire

// Used returns the bytes of the splitter's memory that are in use.
func (s *Splitter) Used() int { return s.used }
