package config

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"

	"uvs/dataplane/wire"
)

// ParseIPTables parses rules that set marks, as scripts have them:
//
//	iptables -t mangle -A PREROUTING -d 192.0.2.1/32 -p tcp --dport 80 -j MARK --set-mark 1
//
// and also those of ip6tables, of the INPUT chain, and as iptables-save prints them. It
// skips blank lines and comments. The first line that it cannot honour is an error, which
// names the line and the reason.
func ParseIPTables(r io.Reader) ([]MarkRule, error) {
	var rules []MarkRule
	var s ruleScript
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		rule, ok, err := s.line(line)
		if err == nil && ok {
			rule, err = rule.checked()
		}
		if err == nil && ok && slices.ContainsFunc(rules, rule.equal) {
			err = fmt.Errorf("the rule is there twice")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", n, line, err)
		}
		if ok {
			rules = append(rules, rule)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	return rules, nil
}

// ruleScript is the state of a script between lines.
type ruleScript struct {
	table string // in the output of iptables-save ("*mangle"); empty: lines are commands
}

// line parses one line; ok reports whether there is a rule in it.
func (s *ruleScript) line(line string) (r MarkRule, ok bool, err error) {
	if i := strings.Index(line, " #"); i >= 0 {
		line = line[:i]
	}
	words := strings.Fields(line)
	switch {
	case len(words) == 0 || line[0] == '#':
		return r, false, nil
	case line[0] == '*':
		s.table = line[1:]
		return r, false, nil
	case line == "COMMIT":
		s.table = ""
		return r, false, nil
	case line[0] == ':' && s.table != "":
		return r, false, nil // the policy of a chain
	}
	p := ruleParser{table: s.table, words: words}
	if s.table == "" {
		switch path.Base(words[0]) {
		case "iptables":
		case "ip6tables":
			p.rule.IPv6 = true
		default:
			return r, false, fmt.Errorf("it is no iptables or ip6tables command")
		}
		p.words = words[1:]
	}
	err = p.parse()
	return p.rule, true, err
}

// ruleParser parses the words of one rule.
type ruleParser struct {
	words        []string
	rule         MarkRule
	table, chain string
	jump         string
	src, dst     string // port lists, whose names depend on the protocol
}

// ruleOptions are the options of iptables: all their names, and one name for each.
var ruleOptions = map[string]string{
	"-t": "-t", "--table": "-t", "-A": "-A", "--append": "-A", "-j": "-j", "--jump": "-j",
	"-p": "-p", "--protocol": "-p", "--proto": "-p", "-i": "-i", "--in-interface": "-i", "-m": "-m", "--match": "-m",
	"-d": "-d", "--destination": "-d", "--dst": "-d", "-s": "-s", "--source": "-s", "--src": "-s",
	"--dport": "--dport", "--dports": "--dport", "--destination-port": "--dport", "--destination-ports": "--dport",
	"--sport": "--sport", "--sports": "--sport", "--source-port": "--sport", "--source-ports": "--sport",
	"--set-mark": "--set-mark", "--set-xmark": "--set-mark", "--comment": "--comment",
}

func (p *ruleParser) parse() error {
	seen := map[string]bool{}
	for len(p.words) > 0 {
		name := p.words[0]
		p.words = p.words[1:]
		if name == "!" || len(p.words) > 0 && p.words[0] == "!" {
			return fmt.Errorf("negation is not supported")
		}
		name, value, joined := strings.Cut(name, "=")
		known := ruleOptions[name]
		switch {
		case known == "":
			return fmt.Errorf("option %s is not supported", name)
		case seen[name] && known != "-m":
			return fmt.Errorf("option %s is given twice", name)
		case !joined && len(p.words) == 0:
			return fmt.Errorf("option %s needs a value", name)
		case !joined:
			value, p.words = p.words[0], p.words[1:]
		}
		seen[name] = true
		if strings.ContainsAny(value, "$`\\\"'") && name != "--comment" {
			return fmt.Errorf("%s has to be written out", value)
		}
		if name == "--comment" && strings.HasPrefix(value, `"`) {
			p.skipQuoted(value)
		}
		if err := p.set(known, value); err != nil {
			return err
		}
	}
	return p.finish()
}

// skipQuoted skips the rest of a quoted text.
func (p *ruleParser) skipQuoted(word string) {
	for word == `"` || !strings.HasSuffix(word, `"`) {
		if len(p.words) == 0 {
			return
		}
		word, p.words = " "+p.words[0], p.words[1:]
	}
}

// finish checks what depends on several options.
func (p *ruleParser) finish() (err error) {
	switch {
	case p.table != "mangle":
		return fmt.Errorf("the rule is not for the mangle table (-t mangle)")
	case p.chain != "PREROUTING" && p.chain != "INPUT":
		return fmt.Errorf("the rule does not append to PREROUTING or INPUT")
	case p.jump != "MARK":
		return fmt.Errorf("the rule does not jump to MARK")
	}
	if p.rule.DstPorts, err = p.ports(p.dst); err != nil {
		return err
	}
	p.rule.SrcPorts, err = p.ports(p.src)
	return err
}

// ports parses a list of ports, which may be names from /etc/services.
func (p *ruleParser) ports(list string) ([]PortRange, error) {
	if list == "" {
		return nil, nil
	}
	network := "tcp"
	if p.rule.Proto == wire.ProtoUDP {
		network = "udp"
	}
	return parsePorts(list, func(name string) (uint16, error) {
		n, err := net.LookupPort(network, name)
		return uint16(n), err
	})
}

// set stores the value of an option, by its one name in ruleOptions.
func (p *ruleParser) set(option, v string) (err error) {
	switch option {
	case "-t":
		p.table = v
	case "-A":
		p.chain = v
	case "-j":
		p.jump = v
	case "--dport":
		p.dst = v
	case "--sport":
		p.src = v
	case "-p":
		p.rule.Proto, err = ParseProto(v)
	case "-d":
		p.rule.Dst, err = ParseNet(v)
	case "-s":
		p.rule.Src, err = ParseNet(v)
	case "--set-mark":
		err = p.setMark(v)
	case "-i":
		if p.rule.Interface = v; strings.HasSuffix(v, "+") {
			err = fmt.Errorf("interface pattern %s is not supported; write one rule for each interface", v)
		}
	case "-m":
		if !slices.Contains([]string{"tcp", "udp", "sctp", "multiport", "comment"}, v) {
			err = fmt.Errorf("match %s is not supported", v)
		}
	}
	return err
}

func (p *ruleParser) setMark(v string) error {
	text, mask, masked := strings.Cut(v, "/")
	mark, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		return fmt.Errorf("%s is no mark", text)
	}
	if bits, err := strconv.ParseUint(mask, 0, 32); masked && (err != nil || bits != 1<<32-1) {
		return fmt.Errorf("mask %s of a mark is not supported", mask)
	}
	p.rule.Mark = uint32(mark)
	return nil
}

// ParseProto parses the name or number of a protocol; all is 0.
func ParseProto(s string) (uint8, error) {
	switch strings.ToLower(s) {
	case "tcp", "6":
		return wire.ProtoTCP, nil
	case "udp", "17":
		return wire.ProtoUDP, nil
	case "sctp", "132":
		return wire.ProtoSCTP, nil
	case "all", "0":
		return 0, nil
	}
	return 0, fmt.Errorf("nothing can match it: protocol %s has no services, only tcp, udp and sctp have", s)
}
