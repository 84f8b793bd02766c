package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Programs on masqueraded servers connect to the outside through the director's
// host. The host's own nftables translate their source to the host's address
// or, if the host holds it, to the VIP, while clients use the VIP. They fetch
// pages, use a name server whose port is a virtual service too, and FTP, and
// call back from privileged ports. The guard does not interfere.
func TestOutboundMasquerade(t *testing.T) {
	needs(t, "nginx", "curl", "nft", "vsftpd")
	for _, onHost := range []bool{false, true} {
		t.Run(fmt.Sprintf("vip-on-director=%t", onHost), func(t *testing.T) {
			s := &topology{
				network: newNetwork(t), method: "nat", onHost: onHost,
			}
			s.build(t.TempDir())
			s.add("outside")
			s.link("outside", "eth0", "lan1", "outside")
			s.run("lan1", "ip link set outside master br0")
			s.assign("outside", "eth0", 1, 9)
			s.start("outside", uvsBinary, "rs", "--name", "outside", "--port", "80", "--info-port", "53")
			s.start("s1", uvsBinary, "rs", "--name", "s1", "--port", "0", "--info-port", "53")
			s.ipvsadm("director", `
				ipvsadm -A -u 10.1.0.100:53 -s rr
				ipvsadm -a -u 10.1.0.100:53 -r 10.2.0.11:53 -m`)
			s.run("director", "sysctl -qw net.ipv4.ip_forward=1")
			as, rule := "10.1.0.1", "masquerade"
			if onHost {
				as, rule = s.vip(), "snat to "+s.vip()
			}
			s.run("director", `nft -f - <<END
table ip callout {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		ip saddr 10.2.0.0/24 oifname eth0 `+rule+`
	}
}
END`)
			eventually(t, "the outside is reached", func() bool {
				out, err := s.tryRun("s1", "curl -s --max-time 2 http://10.1.0.9/")
				return err == nil && strings.Contains(out, "outside\nclient "+as+":")
			})

			var clients sync.WaitGroup
			clients.Go(func() { s.requests(200) })
			seen := map[string]bool{}
			for range 20 {
				for _, ns := range []string{"s1", "s2"} {
					seen[clientOf(s.run(ns, "curl -s -f --max-time 10 http://10.1.0.9/"))] = true
				}
			}
			if len(seen) != 1 || !seen[as] {
				t.Errorf("servers call out as %v, want %s", seen, as)
			}
			for ns, dst := range map[string]string{"s1": "10.1.0.9", "s2": "10.1.0.9", "client": s.vip()} {
				out := s.run(ns, "timeout 20 bash -c 'exec 3<>/dev/udp/"+dst+
					"/53; echo who >&3; dd bs=1000 count=1 status=none <&3'")
				if want := map[bool]string{true: "s1", false: "outside"}[ns == "client"]; !strings.Contains(out, want) {
					t.Errorf("the name server %s replies to %s with %q, want %s", dst, ns, out, want)
				}
			}
			// rsh: the daemon calls back from a privileged port, which must not
			// change.
			if out := s.run("s1", "curl -s -f --max-time 10 --local-port 1022 http://10.1.0.9/"); !strings.Contains(out,
				"client "+as+":1022\n") {
				t.Errorf("a call from port 1022 is seen as\n%s", out)
			}
			s.ftpOut()
			clients.Wait()

			// ident: neither a daemon that queries the client, nor a host that
			// queries the VIP, waits for a reply that never comes.
			for ns, dst := range map[string]string{"s1": "10.1.0.2", "client": s.vip()} {
				begin := time.Now()
				if _, err := s.tryRun(ns, "curl -s --max-time 60 telnet://"+dst+":113"); exitCode(err) != 7 ||
					time.Since(begin) > 30*time.Second {
					t.Errorf("ident of %s from %s: %v, want it refused at once", dst, ns, err)
				}
			}
			if out := s.run("director", uvsBinary+" stats"); strings.Contains(out, "\ndropped_") ||
				strings.Contains(out, "passed_unchanged") {
				t.Errorf("the director dropped or routed:\n%s", out)
			}
		})
	}
}

// clientOf returns the client's address in a page of `uvs rs`.
func clientOf(page string) string {
	_, rest, _ := strings.Cut(page, "client ")
	addr, _, _ := strings.Cut(rest, ":")
	return addr
}

// exitCode returns a program's exit code, or -1 if it did not run.
func exitCode(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return -1
}

// ftpOut fetches a file from an FTP server outside, in passive mode as NAT
// needs it.
func (s *topology) ftpOut() {
	s.t.Helper()
	dir := filepath.Join(s.dir, "ftp")
	for _, d := range []string{dir, filepath.Join(dir, "root"), filepath.Join(dir, "empty")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	conf := filepath.Join(dir, "conf")
	os.WriteFile(filepath.Join(dir, "root", "hello"), []byte("hello from outside\n"), 0o644)
	os.WriteFile(conf, []byte(fmt.Sprintf(`listen=YES
background=NO
anonymous_enable=YES
anon_root=%s/root
secure_chroot_dir=%s/empty
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
`, dir, dir)), 0o644)
	s.startFTP("outside", filepath.Join(dir, "root"), "vsftpd "+conf)
	eventually(s.t, "the FTP server answers", func() bool {
		_, err := s.tryRun("outside", "curl -s --max-time 2 ftp://127.0.0.1/")
		return err == nil
	})
	if out := s.run("s1", "curl -s -f --max-time 20 ftp://10.1.0.9/hello"); out != "hello from outside\n" {
		s.t.Errorf("FTP from outside brought %q", out)
	}
}
