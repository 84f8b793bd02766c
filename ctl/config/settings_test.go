package config

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"uvs/conntrack/frag"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// Every field is a setting with a name, a help and a default that it can have, and its
// bounds are those of the code that reads it.
func TestSettings(t *testing.T) {
	s := *defaults
	for _, k := range s.List() {
		if k.Name == "" || k.Help == "" || byName[k.Name] == nil || k.Value != k.Default {
			t.Errorf("%+v: a name, a help or the default is missing", k)
		}
		for _, v := range slices.Concat([]uint32{k.Min, k.Default, k.Max}, k.Also, k.Only) {
			if len(k.Only) > 0 && !slices.Contains(k.Only, v) && v != k.Max {
				t.Errorf("%s cannot be %d", k.Name, v)
			}
			if k.set(&s, v); k.get(&s) != v {
				t.Errorf("%s is %d after it was set to %d", k.Name, k.get(&s), v)
			}
		}
	}
	var sizes []uint32
	for _, n := range sched.TableSizes() {
		sizes = append(sizes, uint32(n))
	}
	if got := byName["mh_table"].Only; !slices.Equal(got[1:], sizes) {
		t.Errorf("mh_table can be %v, the scheduler's are %v", got, sizes)
	}
	for name, max := range map[string]uint32{
		"hash_fields": uint32(sched.AllFields), "mss_clamp": wire.MaxIPLen - 40, "fragment_hold": frag.MaxQueue >> 10,
		"fragment_hold_source": frag.MaxQueue >> 10, "timeout_udp": maxTimeout,
	} {
		if got := byName[name].Max; got != max {
			t.Errorf("%s can be up to %d, want %d", name, got, max)
		}
	}
	if got := byName["mss_clamp"].Min; got != wire.MinMSS {
		t.Errorf("mss_clamp can be %d, want %d", got, wire.MinMSS)
	}
}

// No setting is forgotten: the code reads every field.
func TestSettingsAreRead(t *testing.T) {
	var source strings.Builder
	for _, dir := range []string{".", "../compile", "../../dataplane/helper"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(name, "_test.go") {
				source.Write(text)
			}
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Settings]()) {
		i := slices.IndexFunc(settings, func(k Setting) bool { return slices.Equal(k.field, f.Index) })
		read := regexp.MustCompile(`[\w)]\.` + f.Name + `\b`).MatchString(source.String())
		if idle := i >= 0 && WithoutEffect(settings[i].Name) != ""; f.Name != "_" && read == idle {
			t.Errorf("setting %s is read %t, is without effect %t", f.Name, read, idle)
		}
	}
}

// Names and files are taken as sysctl takes them. What IPVS has and uvs has not is named.
func TestSysctls(t *testing.T) {
	for _, word := range []string{
		"conn_reuse_mode=2", "net.ipv4.vs.conn_reuse_mode=2", "net/ipv4/vs/conn_reuse_mode = 2",
	} {
		if name, v, err := ParseSetting(word); name != "conn_reuse_mode" || v != 2 || err != nil {
			t.Errorf("%s: %s %d %v", word, name, v, err)
		}
	}
	v := Values{}
	skipped, err := ParseSysctls(strings.NewReader(`# comment
; another
net.ipv4.ip_forward = 1
net.ipv4.vs.conn_reuse_mode=0
-net/ipv4/vs/lblc_expiration = 600
net.ipv4.vs.sync_threshold = 3 50

net.ipv4.vs.conntrack=1
net.ipv4.vs.conn_reuse_mode = 1
`), v)
	want := Values{"conn_reuse_mode": 1, "lblc_expiration": 600, "conntrack": 1}
	unknown := []string{"line 6: net.ipv4.vs.sync_threshold = 3 50"}
	if !maps.Equal(v, want) || !slices.Equal(skipped, unknown) || err != nil {
		t.Errorf("%v, skipped %q, %v", v, skipped, err)
	}
	_, err = ParseSysctls(strings.NewReader("net.ipv4.vs.conntrack=1\nnet.ipv4.vs.drop_entry=x\n"), v)
	if err == nil || !strings.HasPrefix(err.Error(), "line 2: ") {
		t.Errorf("a value that is no number: %v", err)
	}
	s := Values{"lblc_expiration": 5, "lblcr_expiration": 6}.Over(defaults)
	if s.SchedOptions("lblc").Expiration != 5*time.Second || s.SchedOptions("lblcr").Expiration != 6*time.Second {
		t.Error("the schedulers do not get their expiration")
	}
}

// Values of a service lie over the director's; a timeout that was set lies over the profile.
func TestSettingsOver(t *testing.T) {
	director := Values{"timeout_profile": ProfileNetfilter, "timeout_udp": 7, "slow_start": 5}.Over(defaults)
	service := Values{"slow_start": 0, "timeout_tcp_established": 60}.Over(director)
	if director.SlowStart != 5 || service.SlowStart != 0 {
		t.Errorf("slow_start %d and %d, want 5 and 0", director.SlowStart, service.SlowStart)
	}
	if got, want := director.IPVSTimeouts(), (Timeouts{TCP: 432000, TCPFin: 120, UDP: 7}); got != want {
		t.Errorf("the director's timeouts %+v, want %+v", got, want)
	}
	if got, want := service.IPVSTimeouts(), (Timeouts{TCP: 60, TCPFin: 120, UDP: 7}); got != want {
		t.Errorf("the service's timeouts %+v, want %+v", got, want)
	}
}

// IPVS's name of a setting sets the nearest of ours.
func TestKernelSettings(t *testing.T) {
	for value, want := range []uint32{RemovedDrop, RemovedEnd} {
		s, err := Change(State{}, Op{Kind: SetSettings, Settings: Values{"expire_nodest_conn": uint32(value)}})
		if got := s.Director().RemovedConns; err != nil || got != want {
			t.Errorf("expire_nodest_conn=%d: removed_conns %d, %v, want %d", value, got, err, want)
		}
	}
	for range 20 { // Go's maps have no order
		both := Values{"expire_nodest_conn": 0, "removed_conns": RemovedServe}
		s, err := Change(State{}, Op{Kind: SetSettings, Settings: both})
		if got := s.Director().RemovedConns; err != nil || got != RemovedServe {
			t.Fatalf("both names: removed_conns %d, %v, want %d", got, err, RemovedServe)
		}
	}
	_, err := Change(State{}, Op{Kind: SetSettings, Settings: Values{"expire_nodest_conn": 2}})
	if want := "setting expire_nodest_conn: 2 is not 0 to 1"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

// TestValuesWords: settings are words, truths and times in JSON, and come back as they were.
func TestValuesWords(t *testing.T) {
	v := Values{
		"removed_grace": 5, "removed_conns": RemovedServe, "nat_icmp_send": 1, "sloppy_tcp": 0, "secure_tcp": 2,
		"mss_clamp": 1400, "timeout_udp": 60, "expire_nodest_conn": 1, "ftp": helper.On,
	}
	text, err := json.Marshal(v)
	want := `{"expire_nodest_conn":1,"ftp":"on","mss_clamp":1400,"nat_icmp_send":true,"removed_conns":"serve",` +
		`"removed_grace":"5s","secure_tcp":2,"sloppy_tcp":false,"timeout_udp":"60s"}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
	for _, same := range []string{string(text), `{"expire_nodest_conn":1,"ftp":1,"mss_clamp":1400,"nat_icmp_send":1,` +
		`"removed_conns":"2","removed_grace":5,"secure_tcp":2,"sloppy_tcp":0,"timeout_udp":"1m"}`} {
		var back Values
		if err := json.Unmarshal([]byte(same), &back); err != nil || !maps.Equal(back, v) {
			t.Errorf("%s is %v, %v", same, back, err)
		}
	}
	for _, wrong := range []string{
		`{"removed_grace":"5"s}`, `{"removed_grace":"5h5"}`, `{"sloppy_tcp":"maybe"}`, `{"secure_tcp":true}`, `[]`,
		`{"ftp":-1}`, `{"mss_clamp":"1400s"}`, `{"none":"x"}`,
	} {
		var back Values
		if err := json.Unmarshal([]byte(wrong), &back); err == nil {
			t.Errorf("%s is %v", wrong, back)
		}
	}
}
