package ipvsadm

import "strings"

// scanner splits the words of a command line into options as libpopt does:
// short options bundle (-Ln), a value may be glued on (-p300, -p=300,
// --weight=3) or be the next word whatever that looks like, an optional value
// is the next word unless it begins with "-", a long name is written whole,
// "--" ends the options, and every other word is an argument, wherever it
// stands.
type scanner struct {
	words     []string // not yet looked at
	word      string   // being read
	letters   string   // rest of a bundle of short options
	arguments []string // words that are no options
}

// found is an option as it stands on the command line. Its value is nil if
// there is none; word is the word it was found in.
type found struct {
	*spelling
	word  string
	value *string
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
			name, value, glued := strings.Cut(s.word[2:], "=")
			if glued {
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

// short takes the next letter off a bundle. What follows a letter that takes
// a value is that value; an "=" in front of it is dropped.
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

// option finishes the option sp with the value glued to it, if any, or else
// with the next word if it takes one.
func (s *scanner) option(sp *spelling, glued *string) (found, error) {
	f := found{sp, s.word, glued}
	switch {
	case sp == nil:
		return f, misread("%s: unknown option", s.word)
	case sp.takes == takesNothing && glued != nil:
		return f, misread("%s: option does not take an argument", s.word)
	case sp.takes == takesNothing || glued != nil:
		return f, nil
	case len(s.words) > 0 && (sp.takes == takesValue || !strings.HasPrefix(s.words[0], "-")):
		f.value, s.words = &s.words[0], s.words[1:]
		return f, nil
	case sp.takes == takesValue:
		return f, misread("%s: missing argument", s.word)
	}
	return f, nil
}
