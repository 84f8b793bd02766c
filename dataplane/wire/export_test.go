package wire

// Used is how many bytes of the splitter's memory hold pieces.
func (s *Splitter) Used() int { return s.used }
