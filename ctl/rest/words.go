package rest

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"uvs/ctl/config"
	"uvs/fwd/tunnel"
)

// The schemas of values that are words in JSON, as ctl/config reads and writes them.

// choice is a schema of which a value must fit one part.
type choice []*huma.Schema

// words are a choice of words.
func words(list ...string) choice {
	s := &huma.Schema{Type: huma.TypeString}
	for _, word := range list {
		s.Enum = append(s.Enum, word)
	}
	return choice{s}
}

// anyCase are words in upper or lower case.
func anyCase(list ...string) choice {
	var patterns []string
	for _, word := range list {
		pattern := ""
		for _, letter := range word {
			pattern += fmt.Sprintf("[%s%s]", strings.ToUpper(string(letter)), strings.ToLower(string(letter)))
		}
		patterns = append(patterns, pattern)
	}
	return append(words(list...), textOf("^("+strings.Join(patterns, "|")+")$")...)
}

// textOf is a text of a pattern.
func textOf(pattern string) choice { return choice{{Type: huma.TypeString, Pattern: pattern}} }

// number is a whole number.
func number(least, most float64) choice {
	return choice{{Type: huma.TypeInteger, Minimum: &least, Maximum: &most}}
}

func (c choice) or(other choice) choice { return append(c, other...) }

// schema returns the choice with the description of a schema that it replaces.
func (c choice) schema(old *huma.Schema) *huma.Schema {
	s := &huma.Schema{AnyOf: c}
	if len(c) == 1 {
		s = c[0]
	}
	if old != nil {
		s.Description = old.Description
	}
	return s
}

// duration is a time of whole seconds, as time.ParseDuration reads it.
const duration = `^[-+]?(0|([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`

// digits is a number as text.
const digits = `^[0-9]+$`

// Patterns of addresses. They do not tell all wrong ones.
const (
	addr         = `^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-fA-F]*:[0-9a-fA-F:.]*(%.+)?)$`
	prefix       = `^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-fA-F]*:[0-9a-fA-F:.]*)(/[0-9]{1,3})?$`
	portsPattern = `^[0-9:,]+$`
	addrPort     = `^([0-9.]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$`
)

// schemaOfWords returns the schema of a type that ctl/config writes as words, or whose
// numbers have bounds that the type does not show; nil: it is none.
func schemaOfWords(t reflect.Type) *huma.Schema {
	if c := scalar(t); c != nil {
		return c.schema(nil)
	}
	switch t {
	case reflect.TypeFor[config.SchedFlags]():
		flags := words("fallback", "port", "flag-3", "flag-1", "flag-2",
			"sh-fallback", "sh-port", "mh-fallback", "mh-port")
		return &huma.Schema{Type: huma.TypeArray, Items: flags.schema(nil)}
	case reflect.TypeFor[config.Ports]():
		port := number(0, math.MaxUint16).or(textOf(portsPattern))
		list := &huma.Schema{Type: huma.TypeArray, Items: port.schema(nil)}
		return append(choice{list}, port...).schema(nil)
	case reflect.TypeFor[config.Values]():
		return settingsSchema(false)
	case reflect.TypeFor[serviceValues]():
		return settingsSchema(true)
	case reflect.TypeFor[time.Time]():
		return &huma.Schema{Type: huma.TypeString, Format: "date-time"}
	}
	return nil
}

// serviceValues are the settings of a service.
type serviceValues config.Values

func scalar(t reflect.Type) choice {
	switch t {
	case reflect.TypeFor[netip.Addr]():
		return textOf(addr)
	case reflect.TypeFor[netip.Prefix]():
		return textOf(prefix)
	case reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[serverID]():
		return textOf(addrPort)
	case reflect.TypeFor[serviceID]():
		return choice{{Type: huma.TypeString}}
	case reflect.TypeFor[config.Proto](), reflect.TypeFor[protocol]():
		return anyCase("tcp", "udp", "sctp", "all", "ip", "esp", "ah").or(textOf(`^[0-9]{1,3}$`))
	case reflect.TypeFor[config.Method]():
		return words("nat", "dr", "tunnel").or(anyCase("masq", "route", "tunnel")[1:])
	case reflect.TypeFor[config.Seconds](), reflect.TypeFor[seconds]():
		return append(textOf(duration), &huma.Schema{Type: huma.TypeInteger, Enum: []any{0}})
	case reflect.TypeFor[config.Netmask]():
		return number(1, 128).or(textOf(addr)).or(textOf(digits))
	case reflect.TypeFor[config.Checksum]():
		return words(config.ChecksumNames...)
	case reflect.TypeFor[config.Admin]():
		return words(config.AdminNames...)
	case reflect.TypeFor[tunnel.Type]():
		return words(tunnel.Names(tunnel.Every)...)
	case reflect.TypeFor[config.StartFrom]():
		return words(config.StartFromNames...)
	case reflect.TypeFor[config.Duration]():
		return textOf(duration)
	case reflect.TypeFor[config.LogLevel]():
		return words(config.LogLevels...)
	case reflect.TypeFor[config.LogFormat]():
		return words(config.LogFormats...)
	case reflect.TypeFor[uint16]():
		return number(0, math.MaxUint16)
	case reflect.TypeFor[uint32]():
		return number(0, math.MaxUint32)
	case reflect.TypeFor[int32]():
		return number(0, math.MaxInt32)
	case reflect.TypeFor[syscall.Errno]():
		return number(0, 4095)
	}
	return nil
}

// settingsSchema returns the schema of settings: those that services can have, or all.
func settingsSchema(ofService bool) *huma.Schema {
	s := &huma.Schema{
		Type: huma.TypeObject, Description: "settings by name; those that are missing have their defaults",
		Properties: map[string]*huma.Schema{}, AdditionalProperties: false,
		Extensions: map[string]any{"patternProperties": map[string]any{`^net[./]ipv4[./]vs[./]`: map[string]any{}}},
	}
	for _, k := range new(config.State).Director().List() {
		if ofService && !k.PerService {
			continue
		}
		p := settingValues(&k).schema(nil)
		p.Description = fmt.Sprintf("%s (%s; default %s)",
			k.Help, strings.TrimSpace(k.Range()+" "+k.Unit), k.Shown(k.Default))
		s.Properties[k.Name] = p
	}
	if !ofService {
		s.Properties["expire_nodest_conn"] = number(0, 1).schema(nil)
		s.Properties["expire_nodest_conn"].Description = "IPVS's name of removed_conns drop and end"
	}
	return s
}

// settingValues are the values that a setting can have.
func settingValues(k *config.Setting) (c choice) {
	if len(k.Words) > 0 {
		c = c.or(words(k.Words...))
	}
	if k.IsBool() {
		c = append(c, &huma.Schema{Type: huma.TypeBoolean}).or(words("true", "false"))
	}
	if k.Unit == "s" {
		c = c.or(textOf(duration))
	}
	numbers := &huma.Schema{Type: huma.TypeInteger}
	for _, n := range append(k.Only, k.Also...) {
		numbers.Enum = append(numbers.Enum, n)
	}
	if numbers.Enum != nil {
		c = append(c, numbers)
	}
	if len(k.Only) == 0 {
		c = c.or(number(float64(k.Min), float64(k.Max)))
	}
	return c.or(textOf(digits))
}
