package config

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// ParseIPTables parses rules that set marks, as scripts have them:
//
//	iptables -t mangle -A PREROUTING -d 192.0.2.1/32 -p tcp --dport 80 -j MARK --set-mark 1
//
// and also those of ip6tables, of the INPUT chain, of chains that these jump to, and as
// iptables-save prints them. It skips what cannot set a mark, and returns the number of such
// rules. The first line that it cannot honour is an error, which names the line and the reason.
func ParseIPTables(r io.Reader) (rules []MarkRule, skipped int, err error) {
	s := ruleScript{chains: map[string][]scriptRule{}}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := scriptRule{number: n, text: strings.TrimSpace(lines.Text())}
		if err := s.line(line); err != nil {
			return nil, 0, line.wrap(err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, 0, fmt.Errorf("read rules: %w", err)
	}
	for _, chain := range []string{"iptables PREROUTING", "iptables INPUT", "ip6tables PREROUTING", "ip6tables INPUT"} {
		s.first, s.ended = -1, nil
		if err := s.flatten(chain, MarkRule{IPv6: strings.HasPrefix(chain, "ip6")}, 0); err != nil {
			return nil, 0, err
		}
	}
	return s.rules, s.skipped, nil
}

// ruleScript is the state of a script between lines.
type ruleScript struct {
	table   string                  // in the output of iptables-save ("*mangle"); empty: lines are commands
	chains  map[string][]scriptRule // of the mangle table, by command and name
	skipped int                     // rules that cannot set a mark

	// What flatten has found.
	rules []MarkRule
	first int   // where rules for packets without a mark go; -1: rules go to the end
	ended error // from a rule that ends the chain for some packets
}

// scriptRule is a line of a script, and its rule.
type scriptRule struct {
	number int
	text   string
	jump   string
	words  []string // after the chain
}

func (r *scriptRule) wrap(err error) error {
	return fmt.Errorf("line %d: %s: %w", r.number, r.text, err)
}

// line reads one line.
func (s *ruleScript) line(r scriptRule) error {
	words, err := splitWords(r.text)
	switch {
	case err != nil || len(words) == 0:
		return err
	case r.text[0] == '*':
		s.table = r.text[1:]
		return nil
	case r.text == "COMMIT":
		s.table = ""
		return nil
	case r.text[0] == ':' && s.table != "":
		return nil // the policy of a chain
	}
	for i := 0; i < len(words); i++ { // --jump=MARK
		if name, value, joined := strings.Cut(words[i], "="); joined && strings.HasPrefix(name, "--") {
			words = slices.Insert(words, i+1, value)
			words[i] = name
			i++
		}
	}
	program, table := "iptables", s.table
	if s.table == "" {
		if program = path.Base(words[0]); program != "iptables" && program != "ip6tables" {
			return fmt.Errorf("it is no iptables or ip6tables command")
		}
		words, table = words[1:], "filter"
	} else if strings.HasPrefix(words[0], "[") { // counters
		words = words[1:]
	}
	if i := indexOption(words, "-t", "--table"); i >= 0 && i+1 < len(words) {
		table = words[i+1]
		words = slices.Delete(words, i, i+2)
	}
	if i := indexOption(words, "-w", "--wait"); i >= 0 {
		words = slices.Delete(words, i, i+1)
		if _, err := strconv.Atoi(append(words, "")[min(i, len(words))]); err == nil {
			words = slices.Delete(words, i, i+1) // its seconds
		}
	}
	if i := indexOption(words, "-j", "--jump"); i >= 0 && i+1 < len(words) {
		r.jump = words[i+1]
	}
	return s.command(r, program, table, append(words, "", ""))
}

// indexOption returns the index of an option in words, by either of its names; -1: it is not there.
func indexOption(words []string, short, long string) int {
	return slices.IndexFunc(words, func(w string) bool { return w == short || w == long })
}

// command does a command of iptables; words ends with two empty ones.
func (s *ruleScript) command(r scriptRule, program, table string, words []string) error {
	name, chain := words[0], program+" "+words[1]
	switch {
	case slices.Contains([]string{"-N", "--new-chain", "-P", "--policy", "-Z", "--zero"}, name):
		return nil
	case name == "-F" || name == "--flush" || name == "-X" || name == "--delete-chain":
		for k := range s.chains {
			if table == "mangle" && (words[1] == "" && strings.HasPrefix(k, program+" ") || k == chain) {
				delete(s.chains, k)
			}
		}
		return nil
	case table != "mangle" && r.jump == "MARK":
		return fmt.Errorf("the rule is not for the mangle table (-t mangle)")
	case name != "-A" && name != "--append" && name != "-I" && name != "--insert":
		return fmt.Errorf("%s is not supported", name)
	}
	tooLate := slices.Contains([]string{"FORWARD", "OUTPUT", "POSTROUTING"}, words[1])
	if tooLate && r.jump == "MARK" {
		return fmt.Errorf("the rule does not append to PREROUTING or INPUT")
	}
	at := len(s.chains[chain])
	r.words = words[2 : len(words)-2]
	if name == "-I" || name == "--insert" {
		at = 0
		if n, err := strconv.Atoi(words[2]); err == nil {
			at, r.words = n-1, r.words[1:]
		}
	}
	if table != "mangle" || tooLate {
		s.skipped++
		return nil
	}
	if at < 0 || at > len(s.chains[chain]) {
		return fmt.Errorf("the chain has no place %s", words[2])
	}
	s.chains[chain] = slices.Insert(s.chains[chain], at, r)
	return nil
}

// splitWords splits a line as a shell does, without its comment.
func splitWords(line string) (words []string, err error) {
	var word strings.Builder
	quote, inWord := rune(0), false
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, inWord = c, true
		case quote == 0 && c == '#' && !inWord:
			return words, nil
		case quote == 0 && (c == ' ' || c == '\t'):
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quotation does not end")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// flatten adds the rules of a chain for packets that match within, with those of the chains
// that it jumps to.
func (s *ruleScript) flatten(chain string, within MarkRule, depth int) error {
	program, _, _ := strings.Cut(chain, " ")
	var returned error // from a rule that ends only this chain
	for _, line := range s.chains[chain] {
		_, isChain := s.chains[program+" "+line.jump]
		endsChain := slices.Contains([]string{"ACCEPT", "RETURN", "DROP"}, line.jump)
		if !isChain && !endsChain && line.jump != "MARK" && line.jump != "CONNMARK" {
			s.skipped++ // it changes something else, or an empty chain
			continue
		}
		p := ruleParser{words: line.words}
		err := p.parse()
		switch unmarked := p.mark == onlyUnmarked; {
		case err != nil:
		case endsChain && p.mark == onlyMarked && depth == 0 && p.rule.equal(MarkRule{}):
			s.first = 0 // the chain goes on for packets without a mark
			s.skipped++
		case endsChain:
			ended := &s.ended
			if line.jump == "RETURN" {
				ended = &returned
			}
			*ended = line.wrap(fmt.Errorf("packets that it matches do not get to the MARK rules after it"))
			s.skipped++
		case line.jump == "CONNMARK" && p.rule.Mark != 0:
			err = fmt.Errorf("marks of connections can only be saved and restored")
		case line.jump == "CONNMARK": // packets of a connection match the same rules, or have its conn
			s.skipped++
		case p.mark == onlyMarked || unmarked && isChain || depth > len(s.chains):
			err = fmt.Errorf("this use of marks or chains is not supported")
		case cmp.Or(s.ended, returned) != nil:
			return cmp.Or(s.ended, returned)
		default:
			for _, rule := range p.rules() {
				var some bool
				if rule, some = rule.within(within); !some {
					continue
				}
				if isChain {
					if err := s.flatten(program+" "+line.jump, rule, depth+1); err != nil {
						return err
					}
				} else if err = s.add(rule, unmarked); err != nil {
					break
				}
			}
		}
		if err != nil {
			return line.wrap(err)
		}
	}
	return nil
}

// add adds a rule. Of the rules that match a packet the last decides, so one for packets
// without a mark comes before the others.
func (s *ruleScript) add(rule MarkRule, unmarked bool) error {
	rule, err := rule.checked()
	switch {
	case err != nil:
		return err
	case slices.ContainsFunc(s.rules, rule.equal):
		return fmt.Errorf("the rule is there twice")
	case unmarked:
		s.rules = slices.Insert(s.rules, 0, rule)
	case s.first >= 0:
		s.rules = slices.Insert(s.rules, s.first, rule)
	default:
		s.rules = append(s.rules, rule)
	}
	if s.first >= 0 {
		s.first++
	}
	return nil
}

// within returns the rule for the packets that o matches too; some is false if there are none.
func (r MarkRule) within(o MarkRule) (_ MarkRule, some bool) {
	some = (r.Proto == 0 || o.Proto == 0 || r.Proto == o.Proto) &&
		(r.Interface == "" || o.Interface == "" || r.Interface == o.Interface)
	for _, p := range [][2]*netip.Prefix{{&r.Dst, &o.Dst}, {&r.Src, &o.Src}} {
		switch {
		case !p[0].IsValid():
			*p[0] = *p[1]
		case !p[1].IsValid():
		case !p[0].Overlaps(*p[1]):
			some = false
		case p[1].Bits() > p[0].Bits():
			*p[0] = *p[1]
		}
	}
	for _, p := range [][2]*Ports{{&r.DstPorts, &o.DstPorts}, {&r.SrcPorts, &o.SrcPorts}} {
		var both []PortRange
		for _, a := range orAllPorts(*p[0]) {
			for _, b := range orAllPorts(*p[1]) {
				c := PortRange{First: max(a.First, b.First), Last: min(a.Last, b.Last)}
				if c.First <= c.Last {
					both = append(both, c)
				}
			}
		}
		if len(*p[1]) > 0 {
			*p[0], some = both, some && len(both) > 0
		}
	}
	r.Proto, r.Interface = cmp.Or(r.Proto, o.Proto), cmp.Or(r.Interface, o.Interface)
	r.IPv6 = r.IPv6 || o.IPv6
	return r, some
}
