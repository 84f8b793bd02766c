package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ftpSize is the size of the FTP tests' files.
var ftpSize = flag.Int("ftp-size", 1, "MiB of each file that TestFTP transfers; if not 1, every client in every scene")

// ftpPrograms are the servers and clients of the FTP tests.
var ftpPrograms = []string{"vsftpd", "pure-ftpd", "curl", "lftp", "tnftp", "python3"}

// ftpTopology has two FTP servers behind NAT: one at VIP:21, and one at
// VIP:2021 whose own port is 21. The director's host routes, so it would
// interfere with a packet that the guard lets pass.
type ftpTopology struct {
	*topology
	sum string // of the file "big"
}

func newFTPTopology(t testing.TB, v6, onHost bool, at21, at2021 string) *ftpTopology {
	t.Helper()
	f := &ftpTopology{topology: &topology{
		network: newNetwork(t, ftpPrograms...), method: "nat", v6: v6, onHost: onHost,
	}}
	f.connect("client", "s1", "s2")
	for i, server := range []string{at21, at2021} {
		ns := fmt.Sprintf("s%d", i+1)
		map[string]func(string){"vsftpd": f.vsftpd, "pure-ftpd": f.pureFTPd}[server](ns)
	}
	f.director("director", "eth0", "eth1")
	f.ipvsadm("director", fmt.Sprintf(`
		ipvsadm -A -t %[1]s:21 -s rr
		ipvsadm -a -t %[1]s:21 -r %[2]s:21 -m
		ipvsadm -A -t %[1]s:2021 -s rr
		ipvsadm -a -t %[1]s:2021 -r %[3]s:21 -m`, f.url(f.vip()), f.url(f.addr(2, 11)), f.url(f.addr(2, 12))))
	f.run("director", fmt.Sprintf("%s set --service tcp:%s:2021 ftp=on", uvsBinary, f.url(f.vip())))
	eventually(t, "all servers are reached", func() bool {
		return !strings.Contains(f.run("director", uvsBinary+" services"), "unresolved")
	})
	return f
}

// connect makes clients and servers on both sides of a director that routes.
func (f *ftpTopology) connect(names ...string) {
	f.add(append([]string{"director"}, names...)...)
	var clients, servers []string
	for _, name := range names {
		if strings.HasPrefix(name, "s") {
			servers = append(servers, name)
		} else {
			clients = append(clients, name)
		}
	}
	f.bridge("lan1", append([]string{"director:eth0"}, clients...)...)
	f.bridge("lan2", append([]string{"director:eth1"}, servers...)...)
	f.assign("director", "eth0", 1, 1)
	f.assign("director", "eth1", 2, 1)
	for i, name := range clients {
		f.assign(name, "eth0", 1, 2+i)
		f.run(name, "ip route add default via "+f.addr(1, 1))
	}
	for i, name := range servers {
		f.assign(name, "eth0", 2, 11+i)
		f.prepareServer(name)
	}
	f.run("director", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	if f.onHost {
		f.run("director", "ip addr add "+f.vip()+f.prefixLen()+" dev lo")
	}
}

// site makes the files of a server: "big", and the directory "in" for uploads.
func (f *ftpTopology) site(ns string) string {
	f.t.Helper()
	for dir := f.dir; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755) // the server runs as another user
	}
	root := filepath.Join(f.dir, "ftp-"+ns)
	must(f.t, os.MkdirAll(filepath.Join(root, "in"), 0o777))
	must(f.t, os.Chmod(filepath.Join(root, "in"), 0o777))
	if f.sum == "" {
		b := make([]byte, *ftpSize<<20)
		rand.Read(b)
		f.sum = fmt.Sprintf("%x", sha256.Sum256(b))
		must(f.t, os.WriteFile(filepath.Join(f.dir, "big"), b, 0o644))
	}
	must(f.t, os.Link(filepath.Join(f.dir, "big"), filepath.Join(root, "big")))
	return root
}

// vsftpd opens data connections from any port, which is its default; pure-ftpd
// does so from port 20. vsftpd's sessions stay in the namespace, so they end
// with it.
func (f *ftpTopology) vsftpd(ns string) {
	f.t.Helper()
	root := f.site(ns)
	empty := filepath.Join(f.dir, "empty-"+ns)
	must(f.t, os.Mkdir(empty, 0o555))
	conf := filepath.Join(f.dir, ns+"-vsftpd.conf")
	must(f.t, os.WriteFile(conf, fmt.Appendf(nil, `
listen=NO
listen_ipv6=YES
background=NO
seccomp_sandbox=NO
secure_chroot_dir=%s
anonymous_enable=YES
no_anon_password=YES
anon_root=%s
anon_world_readable_only=NO
write_enable=YES
anon_upload_enable=YES
anon_other_write_enable=YES
anon_umask=022
connect_from_port_20=NO
max_per_ip=0
isolate=NO
isolate_network=NO
`, empty, root), 0o644))
	f.startFTP(ns, root, "vsftpd "+conf)
	f.waitListening(ns, 21)
}

func (f *ftpTopology) pureFTPd(ns string) {
	f.t.Helper()
	// Its backlog is 15. When that is full, SYN cookies would let clients
	// believe in connections that the server does not have, and wait for its
	// greeting.
	f.run(ns, "sysctl -qw net.ipv4.tcp_syncookies=0")
	f.startFTP(ns, f.site(ns), fmt.Sprintf("pure-ftpd -e -H -K -C 100 -c 100 -g %s/%s.pid", f.dir, ns))
	f.waitListening(ns, 21)
}

// startFTP starts an FTP server. Its anonymous users are the user ftp, which the
// host need not have: `ip netns exec` makes a new mount namespace.
func (n *network) startFTP(ns, home, command string) {
	n.t.Helper()
	n.start(ns, "sh", "-c", fmt.Sprintf(`(echo "ftp:x:65534:65534::%s:/bin/false"; grep -v ^ftp: /etc/passwd) >%s &&
		mount --bind %[2]s /etc/passwd && exec %s`, home, filepath.Join(n.dir, ns+"-passwd"), command))
}

// waitListening waits until a TCP port has a listener.
func (f *ftpTopology) waitListening(ns string, port int) {
	f.t.Helper()
	eventually(f.t, fmt.Sprintf("something listens on port %d of %s", port, ns), func() bool {
		out, _ := f.tryRun(ns, fmt.Sprintf("cat /proc/net/tcp /proc/net/tcp6 | grep -c ':%04X 0[0-9:]* 0A'", port))
		return strings.TrimSpace(out) != "0"
	})
}

// transfer is a client's commands. They must leave the file "big" in the file
// got, an upload at in/NAME, and a listing in list.
type transfer struct{ name, script string }

// transfers are the clients in each of their modes. $H is the server in URLs,
// $A its address, $P its port, $N a name for uploads.
var transfers = []transfer{
	{"curl EPSV", `o=; ` + curlScript},
	{"curl PASV", `o=--disable-epsv; ` + curlScript},
	{"curl EPRT", `o="--ftp-port -"; ` + curlScript},
	{"curl PORT", `o="--ftp-port - --disable-eprt"; ` + curlScript},
	{"lftp passive", `o="set ftp:passive-mode on; set ftp:prefer-epsv off"; ` + lftpScript},
	{"lftp EPSV", `o="set ftp:passive-mode on; set ftp:prefer-epsv on"; ` + lftpScript},
	{"lftp active", `o="set ftp:passive-mode off"; ` + lftpScript},
	{"tnftp passive", `o=passive; ` + tnftpScript},
	{"tnftp active", `o=active; ` + tnftpScript},
	{"ftplib passive", `o=True; ` + pythonScript},
	{"ftplib active", `o=False; ` + pythonScript},
}

const (
	curlScript = `c="curl -g -sS --max-time 90 $o"; $c ftp://$H/ >list && $c -o got ftp://$H/big &&
$c -T big ftp://$H/in/$N &&
head -c 100000 big >part && $c -C - -o part ftp://$H/big && cmp part big`
	lftpScript = `lftp -e "$o; set net:timeout 20; set net:max-retries 1; set cmd:fail-exit yes;
set xfer:clobber on; open ftp://$H; cls -l >list; get big -o got; put big -o in/$N; bye" &&
head -c 100000 big >part && lftp -e "$o; set net:timeout 20; set net:max-retries 1; set cmd:fail-exit yes;
open ftp://$H; get -c big -o part; bye" && cmp part big`
	tnftpScript = `if [ $o = active ]; then a=-A; else a=-p; fi; head -c 100000 big >part
printf 'user anonymous x\nbinary\nls . list\nget big got\nput big in/'$N'\nreget big part\nquit\n' |
tnftp -i -n -v $a $A $P && cmp part big`
	pythonScript = `python3 - <<END
import ftplib
f = ftplib.FTP(timeout=60)
f.connect("$A", $P)
f.login()
f.set_pasv($o)
lines = []
f.retrlines("LIST", lines.append)
open("list", "w").write("\n".join(lines))
with open("got", "wb") as w: f.retrbinary("RETR big", w.write)
with open("big", "rb") as r: f.storbinary("STOR in/$N", r)
with open("part", "wb") as w: w.write(open("big", "rb").read(100000))
with open("part", "ab") as w: f.retrbinary("RETR big", w.write, rest=100000)
f.quit()
END
cmp part big`
)

// Real clients and servers list, download, upload and resume downloads, in
// every mode of the clients, at port 21 and at another port that is mapped to
// 21.
func TestFTP(t *testing.T) {
	needs(t, ftpPrograms...)
	for n, row := range []struct {
		v6, onHost   bool
		at21, at2021 string
	}{
		{false, false, "vsftpd", "pure-ftpd"},
		{false, true, "pure-ftpd", "vsftpd"},
		{true, false, "vsftpd", "pure-ftpd"},
		{true, true, "pure-ftpd", "vsftpd"},
	} {
		t.Run(fmt.Sprintf("v6=%t/vip-on-director=%t", row.v6, row.onHost), func(t *testing.T) {
			f := newFTPTopology(t, row.v6, row.onHost, row.at21, row.at2021)
			for i, x := range transfers {
				if *ftpSize == 1 && (i+n)%2 != 0 {
					continue // every second client in every second topology
				}
				for ns, port := range map[string]int{"s1": 21, "s2": 2021} {
					f.transfer(ns, port, x, fmt.Sprintf("up%d", i))
				}
			}
			f.checkNoErrors()
		})
	}
}

// transfer runs a client's commands, and checks what arrived.
func (f *ftpTopology) transfer(ns string, port int, x transfer, name string) {
	f.t.Helper()
	dir, err := os.MkdirTemp(f.dir, "client")
	must(f.t, err)
	must(f.t, os.Link(filepath.Join(f.dir, "big"), filepath.Join(dir, "big")))
	out, err := f.tryRun("client", fmt.Sprintf("cd %s && H='%s:%d' A='%s' P=%d N=%s; %s", dir, f.url(f.vip()), port,
		f.vip(), port, name, x.script))
	what := fmt.Sprintf("%s at port %d", x.name, port)
	if err != nil {
		f.t.Errorf("%s: %v\n%s\n%s\n%s", what, err, out, f.run("director", uvsBinary+" stats"),
			f.run("director", uvsBinary+" conns"))
		return
	}
	list, _ := os.ReadFile(filepath.Join(dir, "list"))
	if !strings.Contains(string(list), "big") {
		f.t.Errorf("%s: the listing is %q", what, list)
	}
	for _, file := range []string{filepath.Join(dir, "got"), filepath.Join(f.dir, "ftp-"+ns, "in", name)} {
		b, err := os.ReadFile(file)
		if sum := fmt.Sprintf("%x", sha256.Sum256(b)); err != nil || sum != f.sum {
			f.t.Errorf("%s: %s has %d bytes of checksum %s (%v), want %s", what, file, len(b), sum, err, f.sum)
		}
	}
}
