package config

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Values are the settings that were set, by name.
type Values map[string]uint32

// Over returns base with the values of v in place of its own.
func (v Values) Over(base *Settings) *Settings {
	if len(v) == 0 {
		return base
	}
	s := *base
	for name, value := range v {
		if k := byName[name]; !k.isTimeout {
			k.set(&s, value)
		}
	}
	if s.TimeoutProfile != base.TimeoutProfile {
		s.Timeouts = profile(s.TimeoutProfile)
	}
	for name, value := range v {
		if k := byName[name]; k.isTimeout {
			k.set(&s, value)
		}
	}
	return &s
}

// kernelSettings are IPVS's settings that have another name here, with the nearest of its
// values for each of theirs.
var kernelSettings = map[string]struct {
	name   string
	values []uint32
}{"expire_nodest_conn": {"removed_conns", []uint32{RemovedDrop, RemovedEnd}}}

// with returns v after the changes; service: they are a service's. It makes them in the
// order of their names, so that the result and the error are always the same.
func (v Values) with(changes Values, service bool) (Values, error) {
	if len(changes) == 0 {
		return v, nil
	}
	next := maps.Clone(v)
	if next == nil {
		next = Values{}
	}
	for _, given := range slices.Sorted(maps.Keys(changes)) {
		name, value := sysctlName(given), changes[given]
		if kernel, ok := kernelSettings[name]; ok {
			if int(value) >= len(kernel.values) {
				return v, fieldErrorf(given, syscall.EINVAL, "setting %s: %d is not 0 to %d", name, value,
					len(kernel.values)-1)
			}
			name, value = kernel.name, kernel.values[value]
		}
		k := byName[name]
		switch {
		case k == nil:
			return v, At(noSetting(name), given)
		case service && !k.PerService:
			return v, fieldErrorf(given, syscall.EINVAL, "setting %s is the director's; a service cannot have its own",
				name)
		case len(k.Only) > 0 && !slices.Contains(k.Only, value):
			return v, fieldErrorf(given, syscall.EINVAL, "setting %s: %d is not one of %s", name, value, k.Range())
		case len(k.Only) == 0 && (value < k.Min || value > k.Max) && !slices.Contains(k.Also, value):
			return v, fieldErrorf(given, syscall.EINVAL, "setting %s: %d is not %s", name, value, k.Range())
		}
		next[name] = value
	}
	return next, nil
}

func noSetting(name string) error {
	return Errorf(syscall.EINVAL, "there is no setting %q; `uvs get` lists them", name)
}

// sysctls is where the kernel has IPVS's settings.
const sysctls = "net.ipv4.vs."

// SettingName returns the setting of a name as sysctl takes it: conn_reuse_mode,
// net.ipv4.vs.conn_reuse_mode or net/ipv4/vs/conn_reuse_mode.
func SettingName(s string) string {
	name := sysctlName(s)
	return cmp.Or(kernelSettings[name].name, name)
}

// sysctlName is SettingName with IPVS's name of a setting that has another here.
func sysctlName(s string) string {
	return strings.TrimPrefix(strings.ReplaceAll(strings.TrimSpace(s), "/", "."), sysctls)
}

// ParseSetting reads NAME=VALUE.
func ParseSetting(s string) (name string, value uint32, err error) {
	name, text, _ := strings.Cut(s, "=")
	name, text = sysctlName(name), strings.TrimSpace(text)
	k := byName[name]
	if k == nil {
		k = &Setting{}
	}
	value, ok := k.parse(text)
	if !ok {
		return name, 0, Errorf(syscall.EINVAL,
			"%q is not NAME=VALUE with a number, a time such as 5m, or a word that `uvs get` shows for it", s)
	}
	return name, value, nil
}

// parse reads a value: a number or one of the setting's words. For a setting in seconds it
// also reads a time such as 5m; for one that is 0 or 1, false or true.
func (k *Setting) parse(text string) (value uint32, ok bool) {
	if i := slices.Index(k.Words, text); i >= 0 {
		return uint32(i), true
	}
	n, err := strconv.ParseUint(text, 10, 32)
	var seconds Seconds
	switch {
	case err == nil:
		return uint32(n), true
	case k.isBool && (text == "false" || text == "true"):
		return map[string]uint32{"true": 1}[text], true
	case k.Unit == "s":
		err = seconds.UnmarshalText([]byte(text))
	}
	return uint32(seconds), err == nil
}

// MarshalJSON writes an object with the values as people read them: words, true, 300s.
func (v Values) MarshalJSON() ([]byte, error) {
	object := make(map[string]any, len(v))
	for name, value := range v {
		object[name] = value
		switch k := byName[name]; {
		case k == nil:
		case int(value) < len(k.Words):
			object[name] = k.Words[value]
		case k.isBool && value <= 1:
			object[name] = value == 1
		case k.Unit == "s":
			object[name] = Seconds(value)
		}
	}
	return json.Marshal(object)
}

// UnmarshalJSON reads what MarshalJSON writes, and plain numbers.
func (v *Values) UnmarshalJSON(text []byte) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return Errorf(syscall.EINVAL, "settings are NAME: VALUE")
	}
	*v = Values{}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		raw := string(object[name])
		k := byName[SettingName(name)]
		if k == nil {
			return At(noSetting(name), name)
		}
		value, ok := k.parse(strings.Trim(raw, `"`))
		if !ok {
			return fieldErrorf(name, syscall.EINVAL, "setting %s: %s is not %s", name, raw, k.Range())
		}
		(*v)[name] = value
	}
	return nil
}

// ParseSysctls adds the settings in a file of sysctl.d(5) to v. skipped are the lines of
// IPVS that have no counterpart. Sysctls that are not IPVS's are the host's.
func ParseSysctls(r io.Reader, v Values) (skipped []string, err error) {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimPrefix(strings.TrimSpace(lines.Text()), "-") // its errors do not matter
		key, _, _ := strings.Cut(strings.ReplaceAll(line, "/", "."), "=")
		name := sysctlName(key)
		if !strings.HasPrefix(key, sysctls) {
			continue
		}
		if byName[SettingName(name)] == nil {
			skipped = append(skipped, fmt.Sprintf("line %d: %s", n, line))
			continue
		}
		if _, v[name], err = ParseSetting(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return skipped, lines.Err()
}
