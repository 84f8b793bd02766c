package ipvsadm

import "strings"

// scanner splits the words of a command line into options as libpopt does. Short options may
// be joined (-Ln). A value is attached (-p300, -p=300, --weight=3) or the next word, whatever
// it looks like. An optional value is the next word only if that does not start with "-". Long
// names cannot be abbreviated. "--" ends the options. All other words are arguments.
type scanner struct {
	words     []string // not scanned yet
	word      string   // being scanned
	letters   string   // rest of joined short options
	arguments []string // words that are not options
}

// found is an option of the command line.
type found struct {
	*spelling
	word  string  // that has it
	value *string // nil: none
}

// next returns the next option; found.spelling is nil at the end of the line.
func (s *scanner) next() (found, error) {
	for s.letters == "" {
		if len(s.words) == 0 {
			return found{}, nil
		}
		s.word, s.words = s.words[0], s.words[1:]
		switch {
		case s.word == "--":
			s.arguments = append(s.arguments, s.words...)
			s.words = nil
		case strings.HasPrefix(s.word, "--"):
			name, value, attached := strings.Cut(s.word[2:], "=")
			if attached {
				return s.option(byLong(name), &value)
			}
			return s.option(byLong(name), nil)
		case len(s.word) > 1 && s.word[0] == '-':
			s.letters = s.word[1:]
		default:
			s.arguments = append(s.arguments, s.word)
		}
	}
	return s.short()
}

// short scans the next letter of joined options. The rest after a letter that takes a value
// is the value, without a leading "=".
func (s *scanner) short() (found, error) {
	sp, rest := byShort(s.letters[0]), s.letters[1:]
	s.letters = rest
	value, equals := strings.CutPrefix(rest, "=")
	if sp == nil || rest == "" || sp.takes == takesNothing && !equals {
		return s.option(sp, nil)
	}
	s.letters = ""
	return s.option(sp, &value)
}

// option returns the option of a spelling with the value attached to it or, if it takes one, with
// the next word.
func (s *scanner) option(sp *spelling, attached *string) (found, error) {
	f := found{sp, s.word, attached}
	switch {
	case sp == nil:
		return f, refuseWord("%s: unknown option", s.word)
	case sp.takes == takesNothing && attached != nil:
		return f, refuseWord("%s: option does not take an argument", s.word)
	case sp.takes == takesNothing || attached != nil:
		return f, nil
	case len(s.words) > 0 && (sp.takes == takesValue || !strings.HasPrefix(s.words[0], "-")):
		f.value, s.words = &s.words[0], s.words[1:]
		return f, nil
	case sp.takes == takesValue:
		return f, refuseWord("%s: missing argument", s.word)
	}
	return f, nil
}
