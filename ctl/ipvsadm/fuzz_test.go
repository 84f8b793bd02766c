package ipvsadm

import (
	"slices"
	"strings"
	"testing"

	"uvs/ctl/config"
)

// FuzzArgs runs any words, one a line, with a director that accepts everything. There is no
// panic, the exit code is one of four, a failure says why, and the director gets valid
// operations.
func FuzzArgs(f *testing.F) {
	for _, line := range []string{
		"", "-Ln", "-A -t 10.9.0.1:80 -s rr -p 300 -M 255.255.255.0", "-At[2001:db8::1]:80 -swlc",
		"-A -f 5 -6 -M 64 -b sh-port",
		"-a -u 10.9.0.1:domain -r 0xa.1 -m -w -5", "-a -f 1 -r [::1]:0 -i --tun-type gue --tun-port 6080 --tun-csum",
		"--set 1 2 3",
		"--start-daemon=master --mcast-group ff02::1 --syncid 3", "-L --stats -X -t [six.example]:80",
		"-d -t 1:1 -r 1.2.3:80 --", "-lc --persistent-conn", "-R",
	} {
		f.Add(strings.ReplaceAll(line, " ", "\n"), "-A -f 3\nipvsadm -C\n")
	}
	f.Fuzz(func(t *testing.T, line, input string) {
		var out, errs strings.Builder
		d := &checkingDirector{memory: newMemory(), t: t}
		run := newTool(Stdio{strings.NewReader(input), &out, &errs}, func() (Director, error) { return d, nil })
		run.names = testNames
		exit := run.main(strings.Split(line, "\n"))
		if !slices.Contains([]int{exitOK, exitMissing, exitUsage, exitRefused}, exit) {
			t.Errorf("exit %d", exit)
		}
		if exit != exitOK && errs.Len() == 0 {
			t.Errorf("exit %d without a word", exit)
		}
	})
}

// checkingDirector is a director that checks its operations.
type checkingDirector struct {
	*memory
	t *testing.T
}

func (w *checkingDirector) Apply(op config.Op) error {
	if s := op.Service; s != nil {
		switch {
		case s.FWMark == 0 && (!s.Addr.IsValid() || s.Addr.Is4In6() || s.IPv6 || s.Proto == 0):
			w.t.Errorf("service %+v", s)
		case s.FWMark != 0 && (s.Addr.IsValid() || s.Port != 0):
			w.t.Errorf("mark %+v", s)
		case op.Kind == config.AddService &&
			(s.Scheduler == "" || s.Persist > maxTimeout):
			w.t.Errorf("settings %+v", s)
		}
	}
	if s := op.Server; s != nil && (!s.Addr.IsValid() || s.Weight < 0 || s.Method != config.MethodTunnel &&
		s.Tunnel != config.Tunnel{}) {
		w.t.Errorf("server %+v", s)
	}
	return w.memory.Apply(op)
}
