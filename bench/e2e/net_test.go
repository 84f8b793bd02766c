package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// uvsBinary is built once for all tests.
var uvsBinary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "uvs-e2e")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		uvsBinary = filepath.Join(dir, "uvs")
		build := exec.Command("go", "build", "-o", uvsBinary, "uvs/cmd/uvs")
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build uvs: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// network is a set of namespaces, whose names have a prefix of this process,
// and everything that runs in them. All of it ends with the test.
type network struct {
	t      testing.TB
	prefix string
	dir    string
}

// standardPrograms are of packages that every Debian has.
var standardPrograms = strings.Fields("awk bash cat chmod cmp cp cut date dd diff env expr find getent grep head id " +
	"install kill ln ls mkdir mktemp mount mv rm sed seq setpriv sh sha256sum sleep sort stat tail tee timeout touch " +
	"tr umount uname uniq unshare wc xargs")

// declared has, by test, the programs that it drives.
var declared = map[string][]string{}

// needs skips a test, with all of its subtests, without root or without a
// program. What runs in the test's namespaces finds only the programs that were
// declared so, and standardPrograms. A test with subtests begins with it.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	test, sub, _ := strings.Cut(t.Name(), "/")
	if _, ok := declared[test]; sub != "" && !ok {
		t.Fatalf("%s must call needs before its subtests, so that it skips with them", test)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN) to make network namespaces")
	}
	programs = append(programs, "ip", "sysctl")
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs the program %s", p)
		}
	}
	declared[test] = append(declared[test], programs...)
}

// newNetwork skips the test without root or without the programs.
func newNetwork(t testing.TB, programs ...string) *network {
	t.Helper()
	needs(t, programs...)
	n := &network{t: t, prefix: fmt.Sprintf("uvse2e%d-", os.Getpid()), dir: t.TempDir()}
	must(t, os.Mkdir(n.bin(), 0o755))
	test, _, _ := strings.Cut(t.Name(), "/")
	for _, p := range declared[test] { // each finds its own programs by the test's PATH
		path, err := exec.LookPath(p)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(n.bin(), p), fmt.Appendf(nil, "#!/bin/sh\nPATH='%s' exec '%s' \"$@\"\n",
			os.Getenv("PATH"), path), 0o755))
	}
	for _, p := range standardPrograms {
		if path, err := exec.LookPath(p); err == nil {
			must(t, os.Symlink(path, filepath.Join(n.bin(), p)))
		}
	}
	return n
}

// bin is the directory of the programs that are found in the namespaces.
func (n *network) bin() string { return filepath.Join(n.dir, "bin") }

// environ returns the environment of programs in the namespaces.
func (n *network) environ() []string {
	return append(os.Environ(), "UVS_SOCKET="+n.socket(), "PATH="+n.bin())
}

// add makes namespaces with their loopback up.
func (n *network) add(names ...string) {
	n.t.Helper()
	for _, name := range names {
		n.host("ip", "netns", "add", n.prefix+name)
		n.t.Cleanup(func() { n.remove(name) })
		n.run(name, "ip link set lo up")
		n.run(name, "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 "+
			"net.ipv6.conf.default.router_solicitations=0")
	}
}

// remove removes a namespace and the processes that ended programs left in it
// (an FTP server's processes for its clients).
func (n *network) remove(name string) {
	left, _ := exec.Command("ip", "netns", "pids", n.prefix+name).Output()
	for _, word := range strings.Fields(string(left)) {
		if pid, err := strconv.Atoi(word); err == nil {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	exec.Command("ip", "netns", "del", n.prefix+name).Run()
}

// host runs a program in the test's own namespace.
func (n *network) host(args ...string) string {
	n.t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// run runs a shell line in a namespace and returns its output.
func (n *network) run(ns, line string) string {
	n.t.Helper()
	out, err := n.tryRun(ns, line)
	if err != nil {
		n.t.Fatalf("%s: %s: %v\n%s", ns, line, err, out)
	}
	return out
}

func (n *network) tryRun(ns, line string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", n.prefix+ns, "sh", "-c", line)
	cmd.Env = n.environ()
	out, err := cmd.CombinedOutput()
	if exitCode(err) == 127 { // of a shell
		n.t.Errorf("%s: the test must declare this program by needs: %s", line, out)
	}
	return string(out), err
}

// link joins two namespaces by a veth pair.
func (n *network) link(a, ifa, b, ifb string) {
	n.t.Helper()
	n.host("ip", "link", "add", ifa, "netns", n.prefix+a, "type", "veth", "peer", "name", ifb, "netns", n.prefix+b)
	n.run(a, "ip link set "+ifa+" up")
	n.run(b, "ip link set "+ifb+" up")
}

// bridge joins interfaces eth0 of namespaces, or those given as ns:if, by a
// bridge in its own namespace.
func (n *network) bridge(name string, members ...string) {
	n.t.Helper()
	n.add(name)
	n.run(name, "ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up")
	for i, m := range members {
		ns, dev, ok := strings.Cut(m, ":")
		if !ok {
			dev = "eth0"
		}
		port := fmt.Sprintf("p%d", i)
		n.link(ns, dev, name, port)
		n.run(name, "ip link set "+port+" master br0")
	}
}

func (n *network) socket() string { return filepath.Join(n.dir, "uvs.sock") }

// start runs a program in a namespace until the test ends.
func (n *network) start(ns string, args ...string) *exec.Cmd {
	n.t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", n.prefix + ns}, args...)...)
	cmd.Env = n.environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(n.dir, fmt.Sprintf("%s-%s-%d.log", ns, filepath.Base(args[0]),
		time.Now().UnixNano())))
	if err != nil {
		n.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		done := make(chan struct{})
		go func() { cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			n.t.Errorf("%s: %v did not end on SIGTERM", ns, args)
			cmd.Process.Kill()
			<-done
		}
		if b, _ := os.ReadFile(log.Name()); n.t.Failed() && len(b) > 0 {
			n.t.Logf("%s: %v printed:\n%s", ns, args, b)
		}
		log.Close()
	})
	return cmd
}

// director starts `uvs run` and waits until it is ready.
func (n *network) director(ns string, interfaces ...string) *exec.Cmd {
	n.t.Helper()
	return n.directorWith(ns, nil, interfaces...)
}

// directorWith is director with further options.
func (n *network) directorWith(ns string, options []string, interfaces ...string) *exec.Cmd {
	n.t.Helper()
	return n.directorOf(ns, uvsBinary, options, interfaces...)
}

// directorOf is directorWith of another binary.
func (n *network) directorOf(ns, binary string, options []string, interfaces ...string) *exec.Cmd {
	n.t.Helper()
	notify := filepath.Join(n.dir, "notify")
	os.Remove(notify)
	l, err := listenUnixgram(notify)
	if err != nil {
		n.t.Fatal(err)
	}
	defer l.Close()
	args := []string{"env", "NOTIFY_SOCKET=" + notify, binary, "run", "--log-level", "debug"}
	args = append(args, options...)
	for _, i := range interfaces {
		args = append(args, "--interface", i)
	}
	cmd := n.start(ns, args...)
	l.SetReadDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 512)
	m, err := l.Read(buf)
	if err != nil || !bytes.Contains(buf[:m], []byte("READY=1")) {
		n.t.Fatalf("director is not ready: %v %q", err, buf[:m])
	}
	return cmd
}

// ipvsadm runs lines of ipvsadm arguments in the director's namespace.
func (n *network) ipvsadm(ns, lines string) {
	n.t.Helper()
	sc := bufio.NewScanner(strings.NewReader(lines))
	for sc.Scan() {
		if line := strings.TrimSpace(sc.Text()); line != "" {
			n.run(ns, uvsBinary+" "+line)
		}
	}
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// nginx serves its namespace's name at / and files under /files/, and accepts
// files at /upload.
func (n *network) nginx(ns, files string) {
	n.t.Helper()
	dir := filepath.Join(n.dir, "nginx-"+ns)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	conf := fmt.Sprintf(`
daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 1024; }
http {
  access_log off; sendfile on; keepalive_requests 100000;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fcgi;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  server {
    listen 80; listen [::]:80; listen 8080; listen [::]:8080;
    location / { default_type text/plain; return 200 "%[2]s\n"; }
    location /files/ { alias %[3]s/; }
    location /upload { # kept whole in a file below body; the answer is that of /
      client_max_body_size 0; client_body_in_file_only on; client_body_buffer_size 1m;
      proxy_pass_request_body off; proxy_set_header Content-Length ""; proxy_method GET;
      proxy_pass http://127.0.0.1:8080/;
    }
  }
}`, dir, ns, files)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		n.t.Fatal(err)
	}
	n.start(ns, "nginx", "-e", filepath.Join(dir, "error.log"), "-c", path)
	eventually(n.t, "nginx answers in "+ns, func() bool {
		out, err := n.tryRun(ns, "curl -s --max-time 2 http://127.0.0.1/")
		return err == nil && strings.TrimSpace(out) == ns
	})
}
