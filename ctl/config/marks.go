package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"uvs/dataplane/wire"
)

// MarkRule gives a firewall mark to packets that match all its fields, as the rule
// `iptables -t mangle ... -j MARK --set-mark` does. All rules are tried in order, and the
// last that matches decides.
type MarkRule struct {
	Dst       netip.Prefix `json:"destination,omitzero"`        // any if not given
	Src       netip.Prefix `json:"source,omitzero"`             // any if not given
	IPv6      bool         `json:"ipv6,omitzero"`               // the family, if no address shows it
	Proto     Proto        `json:"protocol,omitzero"`           // any of tcp, udp and sctp if not given
	DstPorts  Ports        `json:"destination_ports,omitempty"` // sorted; any if not given
	SrcPorts  Ports        `json:"source_ports,omitempty"`      // sorted; any if not given
	Interface string       `json:"interface,omitzero"`          // that packets come in by; any if not given
	Mark      uint32       `json:"mark"`                        // of the packets, from 1
}

// PortRange is a range of ports that includes both ends.
type PortRange = wire.PortRange

// String returns the rule as the options of `uvs mark add`.
func (r MarkRule) String() string {
	var b strings.Builder
	term := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "--%s %s ", name, value)
		}
	}
	switch {
	case r.Dst.IsValid() || r.Src.IsValid():
		term("dst", prefixText(r.Dst))
		term("src", prefixText(r.Src))
	case r.IPv6:
		b.WriteString("--ipv6 ")
	}
	if r.Proto != 0 {
		term("proto", r.Proto.Word())
	}
	term("dport", portsText(r.DstPorts))
	term("sport", portsText(r.SrcPorts))
	term("in-interface", r.Interface)
	fmt.Fprintf(&b, "--mark %d", r.Mark)
	return b.String()
}

// prefixText omits the length of a single address.
func prefixText(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return ""
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}

func portsText(list []PortRange) string {
	var words []string
	for _, p := range list {
		words = append(words, p.String())
	}
	return strings.Join(words, ",")
}

func (r MarkRule) equal(o MarkRule) bool {
	return r.Dst == o.Dst && r.Src == o.Src && r.IPv6 == o.IPv6 && r.Proto == o.Proto && r.Interface == o.Interface &&
		r.Mark == o.Mark && slices.Equal(r.DstPorts, o.DstPorts) && slices.Equal(r.SrcPorts, o.SrcPorts)
}

// family returns the prefix of all addresses of the rule's family.
func (r MarkRule) family() netip.Prefix {
	if r.IPv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// DstNet returns the destination addresses that the rule matches; never invalid.
func (r MarkRule) DstNet() netip.Prefix { return cmp.Or(r.Dst, r.family()) }

// SrcNet returns the source addresses that the rule matches; never invalid.
func (r MarkRule) SrcNet() netip.Prefix { return cmp.Or(r.Src, r.family()) }

// Protos returns the protocols that the rule matches.
func (r MarkRule) Protos() []uint8 {
	if r.Proto != 0 {
		return []uint8{uint8(r.Proto)}
	}
	return []uint8{wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP}
}

// AllDstPorts returns the destination ports that the rule matches; never empty.
func (r MarkRule) AllDstPorts() []PortRange { return orAllPorts(r.DstPorts) }

// AllSrcPorts returns the source ports that the rule matches; never empty.
func (r MarkRule) AllSrcPorts() []PortRange { return orAllPorts(r.SrcPorts) }

var allPorts = []PortRange{{First: 0, Last: 65535}}

func orAllPorts(list []PortRange) []PortRange {
	if list == nil {
		return allPorts
	}
	return list
}

// checked returns the rule in normal form, or the reason why no packet can match it.
func (r MarkRule) checked() (MarkRule, error) {
	if err := r.checkNets(); err != nil {
		return r, err
	}
	switch {
	case r.Mark == 0:
		return r, Errorf(syscall.EINVAL, "mark rule %s: mark 0 is no mark; give 1 to 4294967295", r)
	case r.Proto != 0 && !r.Proto.Served():
		return r, Errorf(syscall.EINVAL, "mark rule %s: nothing can match it, services are of TCP, UDP and SCTP", r)
	case r.Proto == 0 && (len(r.DstPorts) > 0 || len(r.SrcPorts) > 0):
		return r, Errorf(syscall.EINVAL, "mark rule %s: ports need a protocol: --proto tcp, udp or sctp", r)
	}
	var err error
	if r.DstPorts, err = checkedPorts(r, r.DstPorts); err != nil {
		return r, err
	}
	r.SrcPorts, err = checkedPorts(r, r.SrcPorts)
	return r, err
}

// checkNets brings the rule's nets into normal form; a net of all addresses becomes invalid.
func (r *MarkRule) checkNets() error {
	given := *r
	for i, p := range []*netip.Prefix{&r.Dst, &r.Src} {
		if !p.IsValid() {
			continue
		}
		if *p != p.Masked() {
			return Errorf(syscall.EINVAL, "mark rule %s: %s has bits outside its mask; that net is %s",
				given, *p, p.Masked())
		}
		v6 := p.Addr().Is6()
		if i == 0 && p.Bits() > 0 && !Unicast(p.Addr()) && p.IsSingleIP() || p.Addr().IsMulticast() {
			return Errorf(syscall.EINVAL, "mark rule %s: nothing can match it, %s is not unicast", given, *p)
		}
		if v6 != r.IPv6 && (r.IPv6 || i == 1 && given.Dst.IsValid()) {
			return Errorf(syscall.EINVAL, "mark rule %s: nothing can match it, %s is of another family", given, *p)
		}
		r.IPv6 = v6
	}
	for _, p := range []*netip.Prefix{&r.Dst, &r.Src} {
		if p.IsValid() && p.Bits() == 0 {
			*p = netip.Prefix{}
		}
	}
	return nil
}

// checkedPorts sorts ranges, and refuses empty and overlapping ones.
func checkedPorts(r MarkRule, list []PortRange) ([]PortRange, error) {
	list = slices.SortedFunc(slices.Values(list), func(a, b PortRange) int { return cmp.Compare(a.First, b.First) })
	for i, p := range list {
		switch {
		case p.First > p.Last:
			return nil, Errorf(syscall.EINVAL,
				"mark rule %s: nothing can match it, port range %s ends before it begins", r, p)
		case i > 0 && list[i-1].Last >= p.First:
			return nil, Errorf(syscall.EINVAL, "mark rule %s: ports %s and %s overlap", r, list[i-1], p)
		}
	}
	return list, nil
}

// changeMarks appends, deletes or replaces rules, all or none.
func (s *State) changeMarks(op Op) error {
	marks := slices.Clone(s.Marks)
	switch {
	case op.Kind == PutMarks:
		marks = nil
	case len(op.Marks) == 0:
		return Errorf(syscall.EINVAL, "%s carries no rules", op.Kind)
	}
	for n, r := range op.Marks {
		r, err := r.checked()
		if err != nil {
			return At(err, "marks", n)
		}
		i := slices.IndexFunc(marks, r.equal)
		switch {
		case op.Kind != DeleteMarks && i >= 0:
			return At(Errorf(syscall.EEXIST, "mark rule %s exists already", r), "marks", n)
		case op.Kind != DeleteMarks:
			marks = append(marks, r)
		case i < 0:
			return Errorf(syscall.ENOENT, "no mark rule %s", r)
		default:
			marks = slices.Delete(marks, i, i+1)
		}
	}
	s.Marks = marks
	return nil
}

// ParsePorts parses a list of ports and ranges: 80,443,8000:8100. As in iptables, an end of
// a range may be missing.
func ParsePorts(s string) (Ports, error) {
	return parsePorts(s, func(name string) (uint16, error) {
		n, err := strconv.ParseUint(name, 10, 16)
		return uint16(n), err
	})
}

func parsePorts(s string, port func(string) (uint16, error)) (Ports, error) {
	var list Ports
	for word := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(word, ":")
		p := PortRange{First: 0, Last: 65535}
		var err error
		if first != "" || !isRange {
			p.First, err = port(first)
		}
		switch {
		case err != nil:
		case !isRange:
			p.Last = p.First
		case last != "":
			p.Last, err = port(last)
		}
		if err != nil {
			return nil, Errorf(syscall.EINVAL, "%q is not a port or a range such as 8000:8100", word)
		}
		list = append(list, p)
	}
	return list, nil
}

// ParseNet parses an address or a net: 192.0.2.1, 192.0.2.0/24, 192.0.2.0/255.255.255.0,
// 2001:db8::/32.
func ParseNet(s string) (netip.Prefix, error) {
	text, mask, ok := strings.Cut(s, "/")
	a, err := netip.ParseAddr(text)
	a = a.Unmap()
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, Errorf(syscall.EINVAL, "%q is not an address or a net such as 192.0.2.0/24", s)
	}
	if !ok {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	bits, err := strconv.Atoi(mask)
	if m, isAddr := netip.ParseAddr(mask); isAddr == nil && m.Zone() == "" && m.BitLen() == a.BitLen() {
		var length int
		if bits, length = net.IPMask(m.AsSlice()).Size(); length > 0 { // without gaps
			err = nil
		}
	}
	if p := netip.PrefixFrom(a, bits); err == nil && p.IsValid() {
		return p, nil
	}
	return netip.Prefix{}, Errorf(syscall.EINVAL,
		"netmask %q of %s is not a length of 0 to %d or a mask of that family", mask, text, a.BitLen())
}

// Service returns the service of the rule's mark.
func (r MarkRule) Service() ServiceKey { return ServiceKey{FWMark: r.Mark, IPv6: r.IPv6} }
