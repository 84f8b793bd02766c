package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"uvs/conntrack"
	"uvs/sched"
)

// Setting is the description of a setting (see Settings) with its value.
type Setting struct {
	Name       string   `json:"name"`
	Value      uint32   `json:"value"`
	Default    uint32   `json:"default"`
	Min        uint32   `json:"min"`
	Max        uint32   `json:"max"`
	Also       []uint32 `json:"also,omitempty"`
	Only       []uint32 `json:"only,omitempty"`
	Words      []string `json:"words,omitempty"`
	Unit       string   `json:"unit,omitzero"`
	Help       string   `json:"help"`
	PerService bool     `json:"per_service,omitzero"`
	Applies    string   `json:"-"`

	field     []int // of Settings, a path through embedded structs
	isBool    bool
	isTimeout bool            // of state
	state     conntrack.State // of its connections
}

// The settings in the order of `uvs get` and by name, and the values they have by default.
var (
	settings         = readTags(reflect.TypeFor[Settings]())
	byName, defaults = index(settings)
)

// readTags reads the descriptions of a struct's fields. It panics if a tag is wrong.
func readTags(t reflect.Type) (list []Setting) {
	for i := 0; i < t.NumField(); {
		if f := t.Field(i); f.Anonymous {
			for _, k := range readTags(f.Type) {
				k.field = append([]int{i}, k.field...)
				list = append(list, k)
			}
			i++
			continue
		}
		field, tags := i, map[string]string{}
		addTags(tags, t.Field(i).Tag)
		for i++; i < t.NumField() && t.Field(i).Name == "_"; i++ {
			addTags(tags, t.Field(i).Tag)
		}
		k := Setting{
			Name: tags["name"], Min: number(tags["min"]), Max: number(tags["max"]), Default: number(tags["default"]),
			Also: numbers(tags["also"]), Only: numbers(tags["only"]), Words: strings.Fields(tags["words"]),
			Unit: tags["unit"], Help: tags["help"], Applies: tags["applies"], field: []int{field},
			PerService: tags["scope"] == "service",
		}
		switch t.Field(field).Type.Kind() {
		case reflect.Array:
			list = append(list, timeouts(k)...)
			continue
		case reflect.Bool:
			k.isBool, k.Max = true, 1
		}
		list = append(list, k)
	}
	return list
}

// addTags adds the words of a field's tags to those that the setting has. It parses all tags
// at once, because every command does it when it starts.
func addTags(tags map[string]string, tag reflect.StructTag) {
	for rest := string(tag); rest != ""; {
		key, text, _ := strings.Cut(strings.TrimSpace(rest), `:"`)
		text, rest, _ = strings.Cut(text, `"`)
		tags[key] = strings.TrimSpace(tags[key] + " " + text)
	}
}

// timeouts returns the settings of all states that have a timeout.
func timeouts(k Setting) (list []Setting) {
	for s := range conntrack.TemplateNone {
		k.state, k.isTimeout, k.Applies = s, true, "sctp"
		switch {
		case s <= conntrack.TCPSynAck:
			k.Applies = "tcp"
		case s == conntrack.UDPNormal:
			k.Applies = "udp"
		}
		k.Name = strings.ReplaceAll(strings.ToLower("timeout_"+k.Applies+"_"+s.String()), "-", "_")
		k.Name = strings.TrimSuffix(k.Name, "_udp")
		list = append(list, k)
	}
	return list
}

func number(text string) uint32 { return append(numbers(text), 0)[0] }

func numbers(text string) (list []uint32) {
	for word := range strings.FieldsSeq(text) {
		n, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			panic(err)
		}
		list = append(list, uint32(n))
	}
	return list
}

func index(list []Setting) (map[string]*Setting, *Settings) {
	index, s := map[string]*Setting{}, &Settings{Timeouts: conntrack.IPVSTimeouts()}
	for i := range list {
		k := &list[i]
		index[k.Name] = k
		if !k.isTimeout {
			k.set(s, k.Default)
		}
	}
	return index, s
}

// in returns where the setting's value stands in s.
func (k *Setting) in(s *Settings) reflect.Value {
	v := reflect.ValueOf(s).Elem().FieldByIndex(k.field)
	if k.isTimeout {
		v = v.Index(int(k.state))
	}
	return v
}

func (k *Setting) set(s *Settings, value uint32) {
	switch v := k.in(s); v.Kind() {
	case reflect.Bool:
		v.SetBool(value != 0)
	case reflect.Int64:
		v.SetInt(int64(conntrack.Tick(value) * conntrack.Second))
	default:
		v.SetUint(uint64(value))
	}
}

func (k *Setting) get(s *Settings) uint32 {
	switch v := k.in(s); v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return 1
		}
		return 0
	case reflect.Int64:
		return uint32(conntrack.Tick(v.Int()) / conntrack.Second)
	default:
		return uint32(v.Uint())
	}
}

// List lists all settings with the values of s; the default is that of the timeout profile.
func (s *Settings) List() []Setting {
	base := *defaults
	base.Timeouts = profile(s.TimeoutProfile)
	return s.list(&base)
}

// list lists all settings with the values of s, and those of base as the defaults.
func (s *Settings) list(base *Settings) []Setting {
	list := slices.Clone(settings)
	for i := range list {
		list[i].Value, list[i].Default = list[i].get(s), list[i].get(base)
	}
	return list
}

func profile(n uint32) conntrack.Timeouts {
	if n == ProfileNetfilter {
		return conntrack.NetfilterTimeouts()
	}
	return conntrack.IPVSTimeouts()
}

// IsBool reports whether the setting is on or off.
func (k *Setting) IsBool() bool { return k.isBool }

// Range returns the values that the setting can have, in words.
func (k *Setting) Range() string {
	switch {
	case len(k.Words) > 0:
		return strings.Join(k.Words, ", ")
	case len(k.Only) > 0:
		return strings.ReplaceAll(strings.Trim(fmt.Sprint(k.Only), "[]"), " ", ", ")
	case len(k.Also) > 0:
		also := strings.ReplaceAll(strings.Trim(fmt.Sprint(k.Also), "[]"), " ", ", ")
		return fmt.Sprintf("%s, or %d to %d", also, k.Min, k.Max)
	}
	return fmt.Sprintf("%d to %d", k.Min, k.Max)
}

// WithoutEffect returns why a setting means nothing here; "": it means something.
func WithoutEffect(name string) string {
	if k := byName[name]; k != nil {
		_, why, _ := strings.Cut(k.Help, "without effect: ")
		return why
	}
	return ""
}

// Shown returns a value as people read it.
func (k Setting) Shown(v uint32) string {
	if int(v) < len(k.Words) {
		return k.Words[v]
	}
	return strconv.FormatUint(uint64(v), 10)
}

// IPVSTimeouts returns the three timeouts of `ipvsadm -L --timeout`.
func (s *Settings) IPVSTimeouts() Timeouts {
	seconds := func(state conntrack.State) uint32 { return uint32(s.Timeouts[state] / conntrack.Second) }
	return Timeouts{
		TCP: seconds(conntrack.TCPEstablished), TCPFin: seconds(conntrack.TCPFinWait),
		UDP: seconds(conntrack.UDPNormal),
	}
}

// SchedOptions returns what a scheduler takes of the settings.
func (s *Settings) SchedOptions(scheduler string) sched.Options {
	seconds := map[string]uint32{"lblc": s.LBLCExpiration, "lblcr": s.LBLCRExpiration}[scheduler]
	return sched.Options{
		Table: int(s.MHTable), Fields: sched.Fields(s.HashFields), Expiration: time.Duration(seconds) * time.Second,
	}
}
