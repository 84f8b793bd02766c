package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// slowDownload starts curl of a file that never ends in the test's time, at each server, and
// waits until that is the only connection at the first.
func (s *topology) slowDownload() (end func()) {
	s.t.Helper()
	established := func(want int) {
		s.t.Helper()
		eventually(s.t, fmt.Sprint("established at the first server: ", want), func() bool {
			return strings.Count(s.atFirst(), "ESTABLISHED") == want
		})
	}
	established(0)
	var downloads []*exec.Cmd
	for range 2 {
		downloads = append(downloads, s.start("client", "curl", "-sg", "--limit-rate", "1k", "-o", "/dev/null",
			"http://"+s.url(s.vip())+"/files/big"))
	}
	established(1)
	return func() {
		for _, curl := range downloads {
			curl.Process.Signal(syscall.SIGKILL)
		}
	}
}

// atFirst lists the connections at the first server.
func (s *topology) atFirst() string {
	return s.run("director", uvsBinary+" conns --server "+s.rip(0))
}

// `uvs drain` waits for a download and not for the connections that clients have closed. It
// then removes the server, which stays drained when it is added again.
func TestDrain(t *testing.T) {
	needs(t, "nginx", "curl")
	for _, r := range []struct {
		method string
		v6     bool
	}{{"nat", false}, {"dr", true}} {
		t.Run(r.method, func(t *testing.T) {
			s := &topology{network: newNetwork(t), method: r.method, v6: r.v6}
			must(t, os.WriteFile(filepath.Join(s.dir, "big"), make([]byte, 8<<20), 0o644))
			s.build(s.dir)
			get := func() string { return s.run("client", "curl -sg --max-time 5 http://"+s.url(s.vip())+"/") }
			for range 20 {
				get()
			}
			endDownload := s.slowDownload()
			type result struct {
				out string
				err error
			}
			drained := make(chan result, 1)
			go func() {
				out, err := s.tryRun("director", uvsBinary+" drain --remove "+s.rip(0))
				drained <- result{out, err}
			}()
			eventually(t, "the server is drained", func() bool {
				return strings.Contains(s.run("director", uvsBinary+" services"), " drain ")
			})
			for range 4 {
				if got := get(); got != "s2\n" {
					t.Errorf("drained, %q answers", got)
				}
			}
			select {
			case r := <-drained:
				t.Fatalf("the drain ended before the download: %v\n%s", r.err, r.out)
			default:
			}
			endDownload()
			select {
			case r := <-drained:
				for _, want := range []string{
					"1 live connections of 1 clients, the oldest for ", "no live connection is left", "removed from",
				} {
					if r.err != nil || !strings.Contains(r.out, want) {
						t.Errorf("drain ended with %v and not with %q:\n%s", r.err, want, r.out)
					}
				}
			case <-time.After(time.Minute):
				t.Fatal("the drain waits for nobody:\n" + s.atFirst())
			}
			if list := s.run("director", uvsBinary+" ipvsadm -Ln"); strings.Contains(list, s.rip(0)) {
				t.Errorf("not removed:\n%s", list)
			}
			port := map[string]string{"nat": "8080", "dr": "80"}[r.method]
			s.ipvsadm("director", fmt.Sprintf("ipvsadm -a -t %s:80 -r %s:%s %s -w 3",
				s.url(s.vip()), s.url(s.rip(0)), port, s.flag()))
			if got := get() + get(); got != "s2\ns2\n" {
				t.Errorf("added again while drained, %q answer", got)
			}
			if list := s.run("director", uvsBinary+" down --list"); list != "drain "+s.rip(0)+"\n" {
				t.Errorf("down --list: %s", list)
			}
			s.run("director", uvsBinary+" up "+s.rip(0))
			eventually(t, "up again it answers", func() bool { return get() == "s1\n" })
		})
	}
}

// ldirectord deletes and adds a server whose check fails and succeeds, or sets its weight.
// Meanwhile the server stays down or drained.
func TestLdirectordKeepsAdminStates(t *testing.T) {
	needs(t, "nginx", "curl", "ldirectord")
	for _, r := range []struct{ admin, quiescent, failed string }{
		{"down", "no", ""},
		{"down", "yes", "nat 0 down"},
		{"drain", "no", ""},
		{"drain", "yes", "nat 7 drain"}, // it sees the weight 0 that it wants
	} {
		t.Run(r.admin+"/quiescent="+r.quiescent, func(t *testing.T) {
			s := &topology{network: newNetwork(t), method: "nat"}
			alive := filepath.Join(s.dir, "alive")
			must(t, os.WriteFile(alive, []byte("yes"), 0o644))
			s.build(s.dir)
			conf := filepath.Join(s.dir, s.prefix+"ldirectord.cf")
			must(t, os.WriteFile(conf, fmt.Appendf(nil, `checktimeout=5
checkinterval=1
quiescent=%s
virtual=%s:80
	real=%s:8080 masq
	real=%s:8080 masq
	protocol=tcp
	scheduler=rr
	service=http
	checkport=8080
	request="/files/alive"
	receive="yes"
`, r.quiescent, s.vip(), s.rip(0), s.rip(1)), 0o644))
			must(t, os.Symlink(uvsBinary, filepath.Join(s.dir, "ipvsadm"))) // what it calls with -d
			ldirectord := s.start("director", "sh", "-c", "cd "+s.dir+" && exec ldirectord -d "+conf+" start")
			expect := func(server int, want string) {
				t.Helper()
				eventually(t, fmt.Sprintf("%s is listed as %q", s.rip(server), want), func() bool {
					line, _ := s.tryRun("director", uvsBinary+" services | grep -F "+s.rip(server)+":")
					words := strings.Fields(line)
					if len(words) == 0 {
						return want == ""
					}
					return want == fmt.Sprintf("%s %s %s", words[3], words[4], words[8])
				})
			}
			get := func() string { return s.run("client", "curl -sg --max-time 5 http://"+s.vip()+"/") }

			s.ipvsadm("director", fmt.Sprintf("ipvsadm -e -t %s:80 -r %s:8080 -m -w 7", s.vip(), s.rip(1)))
			expect(1, "nat 1 up") // ldirectord is at work
			s.ipvsadm("director", fmt.Sprintf("ipvsadm -e -t %s:80 -r %s:8080 -m -w 7", s.vip(), s.rip(0)))
			s.run("director", uvsBinary+" "+r.admin+" "+s.rip(0))
			must(t, os.Remove(alive))
			expect(0, r.failed)
			expect(1, map[string]string{"no": "", "yes": "nat 0 quiesced"}[r.quiescent])
			eventually(t, "ldirectord sees the first server fail, which no listing may show", func() bool {
				printed, err := os.ReadFile(ldirectord.Stdout.(*os.File).Name())
				must(t, err)
				return strings.Contains(string(printed), "http://"+s.rip(0)+":8080/files/alive is down")
			})
			must(t, os.WriteFile(alive, []byte("yes"), 0o644))
			expect(0, "nat 1 "+r.admin)
			expect(1, "nat 1 up")
			for range 4 {
				if got := get(); got != "s2\n" {
					t.Errorf("%s, but %q answers", r.admin, got)
				}
			}
			s.run("director", uvsBinary+" up "+s.rip(0))
			expect(0, "nat 1 up")
			eventually(t, "up again it answers", func() bool { return get() == "s1\n" })
		})
	}
}
