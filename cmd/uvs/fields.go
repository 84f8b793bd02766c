package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"uvs/ctl/config"
	"uvs/ctl/ipvsadm"
	"uvs/fwd/tunnel"
)

// field is an option for a member of a service or server. The values are those of JSON, and
// config.Decode checks them, as in a file.
type field struct {
	member string // its name in JSON; tunnel.type is one of an object
	help   string // with the placeholder of the value in back quotes
	kind   kind
	option string // its name; "": from member
}

// kind is how the value of an option becomes one of JSON.
type kind int

const (
	asValue  kind = iota // a number, true or false as such, else a text
	asText               // a text, also if it looks like a number
	asTrue               // true, without a value
	asList               // a list of texts, with commas
	repeated             // a list of texts, from options that are repeated
)

// The options of services and servers.
var (
	serviceFields = []field{
		{member: "scheduler", help: "how servers are chosen: a `SCHEDULER`, such as wlc"},
		{member: "scheduler_flags", kind: asList, help: "`FLAGS` of it, with commas: fallback, port, flag-3"},
		{member: "persistent", help: "keep a client on its server for this `TIME`, such as 300s; 0s: no"},
		{member: "netmask", help: "clients in the same net share a server: a `MASK`, or for IPv6 a prefix length"},
		{member: "persistence_engine", help: "`ENGINE` that tells clients apart: sip"},
		{member: "one_packet", help: "schedule every UDP packet on its own", kind: asTrue},
	}
	serverFields = []field{
		{member: "method", help: "forwarding `METHOD`: nat, dr or tunnel"},
		{member: "weight", help: "`SHARE` of new connections; 0: none"},
		{member: "upper_threshold", help: "no new connections from this `NUMBER` on; 0: always"},
		{member: "lower_threshold", help: "until there are fewer than this `NUMBER` again"},
	}
	tunnelFields = []field{
		{member: "tunnel.type", help: "`TYPE` of the tunnel: " + tunnel.OneOf()},
		{member: "tunnel.port", help: "UDP destination `PORT` of the tunnel, if it is in UDP"},
		{member: "tunnel.checksum", help: "`CHECKSUM` of the tunnel: none, csum or remcsum"},
	}
)

func (f *field) optionName() string {
	return cmp.Or(f.option, strings.NewReplacer("_", "-", ".", "-").Replace(f.member))
}

// members are the members of a JSON object, by their names in field.
type members map[string]json.RawMessage

// options adds the options of fields to a verb. Those that are given come to be members.
func (m members) options(cmd *cobra.Command, lists ...[]field) {
	for _, fields := range lists {
		for _, f := range fields {
			name := f.optionName()
			if f.kind == asTrue {
				cmd.Flags().BoolFunc(name, f.help, func(v string) error { return m.set(f, v) })
				continue
			}
			cmd.Flags().Func(name, f.help, func(v string) error { return m.set(f, v) })
		}
	}
}

func (m members) set(f field, text string) (err error) {
	var value any = text
	switch {
	case f.kind == asList:
		value = strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
	case f.kind == repeated:
		var texts []string
		if m[f.member] != nil {
			err = json.Unmarshal(m[f.member], &texts)
		}
		value = append(texts, text)
	case f.kind != asText && json.Valid([]byte(text)): // a number, true, false
		value = json.RawMessage(text)
	}
	if err == nil {
		m[f.member], err = json.Marshal(value)
	}
	return err
}

// over decodes into result what a value has, with the members in place of its own. An error
// names the option that is wrong.
func (m members) over(value, result any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return err
	}
	for path, text := range m {
		name, inner, nested := strings.Cut(path, ".")
		if nested {
			part := map[string]json.RawMessage{}
			if old := object[name]; old != nil {
				if err := json.Unmarshal(old, &part); err != nil {
					return err
				}
			}
			part[inner] = text
			if text, err = json.Marshal(part); err != nil {
				return err
			}
		}
		object[name] = text
	}
	if text, err = json.Marshal(object); err != nil {
		return err
	}
	err = config.Decode(text, result)
	if wrong, ok := errors.AsType[*config.DecodeError](err); ok {
		member := config.Path(wrong.Pointer)
		for _, f := range slices.Concat(runFields, serviceFields, serverFields, tunnelFields) {
			if f.member == member && m[member] != nil {
				return fmt.Errorf("--%s: %s", f.optionName(), wrong.Message)
			}
		}
	}
	return err
}

// parseService parses a service as options and operands name it. A name of /etc/services may
// stand for the port: tcp:192.0.2.1:http.
func parseService(s string) (config.ServiceKey, error) {
	if key, err := config.ParseServiceKey(s); err == nil {
		return key, nil
	}
	proto, _, _ := strings.Cut(s, ":")
	return config.ParseServiceKey(numberPort(s, proto))
}

// numberPort replaces the name of a port at the end of an endpoint by its number.
func numberPort(s, proto string) string {
	colon := strings.LastIndexByte(s, ':')
	if _, err := netip.ParseAddr(s); err == nil || colon < 0 {
		return s
	}
	if p, err := config.ParseProto(proto); err == nil {
		if port, ok := ipvsadm.Port(s[colon+1:], p); ok {
			return fmt.Sprintf("%s:%d", s[:colon], port)
		}
	}
	return s
}
