package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"uvs/dataplane/wire"
)

// ruleParser parses the words of one rule.
type ruleParser struct {
	words      []string
	rule       MarkRule
	src, dst   string // port lists, whose names depend on the protocol
	srcs, dsts []netip.Prefix
	mark       markCondition
	not        bool // the option is negated
}

// markCondition is what a rule wants of the mark that a packet has already.
type markCondition uint8

const (
	anyMark markCondition = iota
	onlyUnmarked
	onlyMarked
)

// ruleOptions are the options of iptables: all their names, and one name for each.
var ruleOptions = map[string]string{
	"-j": "-", "--jump": "-", "--comment": "-", "--save-mark": "-", "--restore-mark": "-",
	"-p": "-p", "--protocol": "-p", "--proto": "-p", "-i": "-i", "--in-interface": "-i", "-m": "-m", "--match": "-m",
	"-d": "-d", "--destination": "-d", "--dst": "-d", "-s": "-s", "--source": "-s", "--src": "-s",
	"--dport": "--dport", "--dports": "--dport", "--destination-port": "--dport", "--destination-ports": "--dport",
	"--sport": "--sport", "--sports": "--sport", "--source-port": "--sport", "--source-ports": "--sport",
	"--set-mark": "--set-mark", "--set-xmark": "--set-mark", "--mark": "--mark",
	"--nfmask": "--mask", "--ctmask": "--mask",
	"--state": "--state", "--ctstate": "--state", "--src-range": "--src-range", "--dst-range": "--dst-range",
}

func (p *ruleParser) parse() error {
	seen := map[string]bool{}
	for len(p.words) > 0 {
		name := p.words[0]
		p.words = p.words[1:]
		p.not = name == "!" && len(p.words) > 0 && p.words[0] == "--mark"
		if p.not {
			name, p.words = p.words[0], p.words[1:]
		}
		if name == "!" || len(p.words) > 0 && p.words[0] == "!" {
			return fmt.Errorf("negation is not supported")
		}
		value, known := "", ruleOptions[name]
		switch {
		case known == "":
			return fmt.Errorf("option %s is not supported", name)
		case seen[name] && known != "-m":
			return fmt.Errorf("option %s is given twice", name)
		case name == "--save-mark" || name == "--restore-mark": // without a value
		case len(p.words) == 0:
			return fmt.Errorf("option %s needs a value", name)
		default:
			value, p.words = p.words[0], p.words[1:]
		}
		seen[name] = true
		if strings.ContainsAny(value, "$`\\") && name != "--comment" {
			return fmt.Errorf("shell variables and escapes are not supported: %s", value)
		}
		if err := p.set(known, value); err != nil {
			return err
		}
	}
	return p.finish()
}

// finish does what depends on several options.
func (p *ruleParser) finish() (err error) {
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

// rules returns the rule, or one for each net of its ranges of addresses.
func (p *ruleParser) rules() (list []MarkRule) {
	for _, dst := range append(p.dsts, p.rule.Dst)[:max(1, len(p.dsts))] {
		for _, src := range append(p.srcs, p.rule.Src)[:max(1, len(p.srcs))] {
			r := p.rule
			r.Dst, r.Src = dst, src
			list = append(list, r)
		}
	}
	return list
}

// parseAddrRange parses a range of addresses (192.0.2.1-192.0.2.9) into nets.
func parseAddrRange(v string) (list []netip.Prefix, err error) {
	from, to, _ := strings.Cut(v, "-")
	first, err := netip.ParseAddr(from)
	last, wrong := netip.ParseAddr(to)
	if err != nil || wrong != nil || first.BitLen() != last.BitLen() || last.Less(first) {
		return nil, fmt.Errorf("%s is no range of addresses", v)
	}
	for first.IsValid() && !last.Less(first) {
		p := netip.PrefixFrom(first, first.BitLen())
		for p.Bits() > 0 {
			wider := netip.PrefixFrom(first, p.Bits()-1)
			if wider.Masked().Addr() != first || last.Less(lastOf(wider)) {
				break
			}
			p = wider
		}
		list = append(list, p)
		first = lastOf(p).Next()
	}
	return list, nil
}

// lastOf returns the last address of a net.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// fullMask refuses a mask of a mark that leaves bits out.
func fullMask(v string) error {
	if bits, err := strconv.ParseUint(v, 0, 32); err != nil || bits != 1<<32-1 {
		return fmt.Errorf("mask %s of a mark is not supported", v)
	}
	return nil
}

// setCondition takes --mark 0 and ! --mark 0.
func (p *ruleParser) setCondition(v string) error {
	text, mask, masked := strings.Cut(v, "/")
	if mark, err := strconv.ParseUint(text, 0, 32); err != nil || mark != 0 {
		return fmt.Errorf("a condition on mark %s is not supported, only on 0", text)
	}
	p.mark = onlyUnmarked
	if p.not {
		p.mark = onlyMarked
	}
	if masked {
		return fullMask(mask)
	}
	return nil
}

// set stores the value of an option, by its one name in ruleOptions.
func (p *ruleParser) set(option, v string) (err error) {
	switch option {
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
	case "--dst-range":
		p.dsts, err = parseAddrRange(v)
	case "--src-range":
		p.srcs, err = parseAddrRange(v)
	case "--set-mark":
		err = p.setMark(v)
	case "--mark":
		err = p.setCondition(v)
	case "--mask":
		err = fullMask(v)
	case "--state": // later packets have a conn
		if !slices.Contains(strings.Split(v, ","), "NEW") {
			err = fmt.Errorf("states %s without NEW are not supported", v)
		}
	case "-i":
		if p.rule.Interface = v; strings.HasSuffix(v, "+") {
			err = fmt.Errorf("interface pattern %s is not supported; write one rule for each interface", v)
		}
	case "-m":
		known := []string{"tcp", "udp", "sctp", "multiport", "comment", "mark", "state", "conntrack", "iprange"}
		if !slices.Contains(known, v) {
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
	p.rule.Mark = uint32(mark)
	if masked {
		return fullMask(mask)
	}
	return nil
}
