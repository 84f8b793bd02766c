package ipvsadm

import (
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"uvs/ctl/config"
)

// TestRestore: whether the lines after one that fails are run, and the exit code.
func TestRestore(t *testing.T) {
	const again = "Service already exists\n"
	for _, tt := range []struct {
		why, in string
		want    outcome
		left    int // services in the end; one is there before
	}{
		{"nothing to do", "", ok, 1},
		{"only blanks", "\n \t\n", ok, 1},
		{"lines, the last without an end", "-A -f 1\n-A -f 2", ok, 3},
		{
			"blanks, CR and the command's name are dropped",
			" ipvsadm\t-A  -f 1 ipvsadm\r\nipvsadm\nipvsadm ipvsadm -A -f 2\n", ok, 3,
		},
		{
			"the name as part of a word is not", "-A -f 1 my-ipvsadm\n-A -f 2",
			usage("unexpected argument my-ipvsadm"), 1,
		},
		{
			"a refused line does not stop the rest, and the last line decides", "-A -f 9\n-A -f 1\n",
			outcome{0, "", again},
			2,
		},
		{"so it can fail", "-A -f 1\n-A -f 9\n", outcome{255, "", again}, 2},
		{"whatever empty lines follow", "-A -f 9\n\n\n", outcome{255, "", again}, 1},
		{
			"a wrong value stops it", "-A -f 1\n-A -t bad\n-A -f 2\n",
			usage("illegal virtual server address[:port] specified"), 2,
		},
		{
			"and keeps what was said before", "-A -f 9\n-A -f 0\n",
			usage(again + "invalid fwmark value `0' specified"), 1,
		},
		{
			"an unknown option does not stop it", "-A -f 1 --bogus\n-A -f 2\n",
			outcome{0, "", "--bogus: unknown option\n"},
			2,
		},
		{"but no command does", "-n -L\n-A -f 2\n", hint, 1},
		{"so a comment does", "# rules\n-A -f 2\n", hint, 1},
		{"and so does one behind a command", "-A -f 1 # one\n-A -f 2\n", usage("unexpected argument #"), 1},
		{"a restore within a restore", "-R\n-A -f 2\n", hint, 1},
		{"listing what is not there stops it", "-L -f 3\n-A -f 2\n", outcome{1, "", "No such service\n"}, 1},
		{
			"listings come between", "-S -n\n-C\n-S -n\n-A -f 3\n-S",
			outcome{0, "-A -f 9 -s wlc\n-A -f 3 -s wlc\n", ""},
			1,
		},
		{"there are no quotes", "-A -t \"10.0.0.1:80\"\n", usage("illegal virtual server address[:port] specified"), 1},
	} {
		m := newMemory()
		m.must(t, "-A -f 9")
		if got := m.restore(tt.in); got != tt.want || len(m.services) != tt.left {
			t.Errorf("%s: ipvsadm -R with %q\n got exit %d %q %q, %d services\nwant exit %d %q %q, %d services",
				tt.why, tt.in,
				got.exit, got.out, got.err, len(m.services), tt.want.exit, tt.want.out, tt.want.err, tt.left)
		}
	}
	if got := newMemory().restore(strings.Repeat("x", 1<<20)); got.exit != exitUsage ||
		!strings.HasPrefix(got.err, "read rules: ") {
		t.Errorf("endless line: %+v", got)
	}
}

// TestSaveAndRestoreCommands: ipvsadm-restore clears the table and, unlike -R, accepts
// comments; ipvsadm-save takes -n.
func TestSaveAndRestoreCommands(t *testing.T) {
	m := newMemory()
	m.must(t, "-A -f 9")
	connect := func() (Director, error) { return m, nil }
	var out, errs strings.Builder
	std := Stdio{strings.NewReader("# rules\n-A -f 1\n#-A -f 2\n-A -f 3\n"), &out, &errs}
	if exit := RestoreMain(nil, std, connect); exit != exitOK {
		t.Errorf("ipvsadm-restore: exit %d, %s", exit, errs.String())
	}
	if exit := SaveMain([]string{"-n"}, std, connect); exit != exitOK {
		t.Errorf("ipvsadm-save: exit %d, %s", exit, errs.String())
	}
	if want := "-A -f 1 -s wlc\n-A -f 3 -s wlc\n"; out.String() != want {
		t.Errorf("saved %q, want %q", out.String(), want)
	}
	if exit := SaveMain([]string{"-x"}, std, connect); exit != exitMissing {
		t.Errorf("ipvsadm-save -x: exit %d", exit)
	}
	if exit := RestoreMain([]string{"rules"}, std, connect); exit != exitUsage || len(m.services) != 2 {
		t.Errorf("ipvsadm-restore rules: exit %d, %d services left", exit, len(m.services))
	}
	m.err = errno(1)
	if exit := RestoreMain(nil, std, connect); exit != exitRefused {
		t.Errorf("ipvsadm-restore without permission: exit %d", exit)
	}
}

// TestRoundTrip saves random tables, restores them in another director and compares the
// tables. The order of lines may differ (see sort.go).
func TestRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		m := newMemory()
		for range r.IntN(8) {
			service := randomService(r)
			if m.do("-A "+service+randomServiceOptions(r, service)).exit != 0 {
				continue // the same one again
			}
			for range r.IntN(5) {
				m.do("-a " + service + randomServer(r))
			}
		}
		for _, save := range []string{"-S -n", "-S"} {
			saved, copied := m.do(save), newMemory()
			if got := copied.restore(saved.out); got != ok {
				t.Fatalf("restore: %+v\n%s", got, saved.out)
			}
			if want, got := table(m), table(copied); !reflect.DeepEqual(want, got) {
				t.Fatalf("table\n%+v\nand after a restore\n%+v\nby\n%s", want, got, saved.out)
			}
		}
	}
}

// table is m's table, sorted.
func table(m *memory) map[config.ServiceKey]config.Service {
	services := make(map[config.ServiceKey]config.Service)
	for _, s := range m.services {
		for _, real := range s.ServerStatuses {
			s.Servers = append(s.Servers, real.Server)
		}
		slices.SortFunc(s.Servers, func(a, b config.Server) int { return strings.Compare(a.String(), b.String()) })
		services[s.ServiceKey] = s.Service
	}
	return services
}

func pick(r *rand.Rand, from ...string) string { return from[r.IntN(len(from))] }

func randomAddr(r *rand.Rand) string {
	return fmt.Sprintf("%d.%d.0.%d", 1+r.IntN(200), r.IntN(3), r.IntN(4))
}

func randomService(r *rand.Rand) string {
	port := 1 + r.IntN(600)
	return pick(r,
		fmt.Sprintf("-t %s:%d", randomAddr(r), port),
		fmt.Sprintf("-u %s:%d", randomAddr(r), port),
		fmt.Sprintf("-t [2001:db8::%x]:%d", r.IntN(9), port),
		fmt.Sprintf("--sctp-service 10.9.0.1:%d", port),
		fmt.Sprintf("-f %d", 1|r.Uint32()>>r.IntN(31)),
		fmt.Sprintf("-f %d -6", 1+r.IntN(9)))
}

func randomServiceOptions(r *rand.Rand, service string) string {
	options := pick(r, "", " -s rr", " -s sh -b sh-port", " -s sh -b flag-1,flag-3", " -s mh -b mh-fallback",
		" -s rr -b flag-2", " -s none")
	if r.IntN(2) == 0 {
		options += fmt.Sprintf(" -p %d", 1+r.IntN(2678400))
		if strings.ContainsAny(service, "6[") {
			options += pick(r, "", " -M 64", " -M 1")
		} else {
			options += pick(r, "", " -M 255.255.255.0", " -M 0.0.0.0")
		}
	}
	if strings.HasPrefix(service, "-u") {
		options += pick(r, "", " -o", " --pe sip")
	}
	return options
}

func randomServer(r *rand.Rand) string {
	upper := r.IntN(3) * r.IntN(1000)
	return fmt.Sprintf(" -r %s:%d -w %d -x %d -y %d ", randomAddr(r), r.IntN(600), r.IntN(1<<20), upper,
		r.IntN(upper+1)) +
		pick(r, "-g", "-m", "-i", "-i --tun-type gre --tun-csum", "-i --tun-type gre",
			"-i --tun-type gue --tun-port 6080", "-i --tun-type gue --tun-port 9 --tun-csum",
			"-i --tun-type gue --tun-port 9 --tun-remcsum")
}

// TestRestoreTogether: the changes read so far are applied together. Those of ipvsadm-restore
// include the clearing, so that what stays the same is never absent. Changes are applied
// before a line that lists, before a wrong line, and when no further input is there.
func TestRestoreTogether(t *testing.T) {
	rules := "-A -t 10.9.0.1:80 -s rr\n-a -t 10.9.0.1:80 -r 10.2.0.11:80 -m\n"
	m := newMemory()
	std := Stdio{In: strings.NewReader("# ours\n" + rules), Out: io.Discard, Err: io.Discard}
	if exit := RestoreMain(nil, std, func() (Director, error) { return m, nil }); exit != exitOK || m.batches != 1 {
		t.Errorf("ipvsadm-restore: exit %d, made in %d parts", exit, m.batches)
	}
	m = newMemory()
	if got := m.restore(rules + "-L -n -t 10.9.0.1:80\n-D -t 10.9.0.1:80\n"); !strings.Contains(got.out,
		"10.2.0.11:80") || m.batches != 2 || len(m.services) != 0 {
		t.Errorf("listing in between: %+v in %d parts", got, m.batches)
	}
	m = newMemory()
	if m.restore(rules + "-A -t 10.9.0.1\n" + rules); m.batches != 1 || len(m.services) != 1 {
		t.Errorf("a wrong line: %d services in %d parts", len(m.services), m.batches)
	}

	m = newMemory()
	in, out := io.Pipe()
	done := make(chan int)
	go func() {
		done <- Main([]string{"-R"}, Stdio{In: in, Out: io.Discard, Err: io.Discard},
			func() (Director, error) { return m, nil })
	}()
	for i, line := range strings.SplitAfter(rules, "\n") {
		io.WriteString(out, line) // returns when it was read
		io.WriteString(out, "\n") // … and the line before was done
		if m.batches != min(i+1, 2) {
			t.Errorf("after line %d: done in %d parts", i+1, m.batches)
		}
	}
	out.Close()
	if exit := <-done; exit != exitOK {
		t.Errorf("exit %d", exit)
	}
}
