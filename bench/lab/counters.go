package lab

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"uvs/ctl/api"
)

// counters are the counters of the hosts and the director, by names such as
// "client1 TcpRetransSegs" and "director dropped_runt".
type counters map[string]uint64

// tooBigCounter is a counter that may move only where a tunnel makes packets
// longer.
var tooBigCounter = regexp.MustCompile(`^director answered_too_big$`)

// faultCounters are counters that move only if a frame was made or handled
// wrongly.
var faultCounters = regexp.MustCompile(`^director (dropped|refused)_` +
	`|^director ring_.*_(snapped|malformed|drop_too_long|drop_down|drop_other)$` +
	`|InHdrErrors$|InTruncatedPkts$|InCsumErrors$|InErrs$|ReasmFails$`)

// hintCounters are counters that help to explain a fault.
var hintCounters = regexp.MustCompile(`^director (forwarded|returned|answered|icmp|passed)` +
	`|^director ring_.*_(ring_full|split|drop_busy|drop_queue)` +
	`|RetransSegs$|InErrors$|RcvbufErrors$|FragFails$|FragCreates$|InTooBigErrors$|NoPorts$`)

// readCounters reads the counters of the director and of every host.
func (l *Lab) readCounters(director *api.Client) (counters, error) {
	t := counters{}
	counters, err := director.Counters()
	if err != nil {
		return nil, err
	}
	for _, c := range counters {
		t["director "+c.Name] = c.Value
	}
	for _, node := range l.Nodes() {
		if node == switchNode || node == DirectorNode {
			continue
		}
		if err := l.Do(node, func() error { return t.addSNMP(node) }); err != nil {
			return nil, fmt.Errorf("read counters of %s: %w", node, err)
		}
	}
	return t, nil
}

// addSNMP adds the protocol counters of the calling thread's namespace. IPv4
// has pairs of lines "Tcp: NAME …" and "Tcp: VALUE …", IPv6 has lines "NAME
// VALUE".
func (t counters) addSNMP(node string) error {
	v4, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		return err
	}
	lines := strings.Split(string(v4), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for j := 1; j < min(len(names), len(values)); j++ {
			t.add(node+" "+strings.TrimSuffix(names[0], ":")+names[j], values[j])
		}
	}
	v6, err := os.ReadFile("/proc/thread-self/net/snmp6")
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for line := range strings.Lines(string(v6)) {
		if f := strings.Fields(line); len(f) == 2 {
			t.add(node+" "+f[0], f[1])
		}
	}
	return nil
}

// add adds a counter. It skips values of -1, which are settings.
func (t counters) add(name, value string) {
	if n, err := strconv.ParseUint(value, 10, 64); err == nil {
		t[name] = n
	}
}

// diff returns the counters of a kind that moved since before, as "NAME +N".
func (t counters) diff(before counters, kind *regexp.Regexp) (moved []string) {
	for name, n := range t {
		if d := n - before[name]; d != 0 && kind.MatchString(name) {
			moved = append(moved, fmt.Sprintf("%s +%d", name, d))
		}
	}
	slices.Sort(moved)
	return moved
}
