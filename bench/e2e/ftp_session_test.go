package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ftpSession is a control connection of this process, which can send any
// command.
type ftpSession struct {
	t testing.TB
	f *ftpTopology
	net.Conn
	in       *bufio.Reader
	greeting string
}

// login logs in at a port of the VIP.
func (f *ftpTopology) login(port int) *ftpSession {
	f.t.Helper()
	c := &ftpSession{t: f.t, f: f}
	must(f.t, f.inNetns("client", func() (err error) {
		c.Conn, err = net.DialTimeout("tcp", net.JoinHostPort(f.vip(), strconv.Itoa(port)), 10*time.Second)
		return err
	}))
	f.t.Cleanup(func() { c.Close() })
	c.in = bufio.NewReader(c.Conn)
	c.greeting = c.reply()
	c.command("USER anonymous")
	c.command("PASS x")
	return c
}

// reply reads one reply and returns its last line.
func (c *ftpSession) reply() string {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("no reply: %v", err)
		}
		if len(line) > 3 && line[3] == ' ' && line[0] >= '1' && line[0] <= '5' {
			return strings.TrimSpace(line)
		}
	}
}

// command sends a command and returns the reply.
func (c *ftpSession) command(command string) string {
	c.t.Helper()
	_, err := io.WriteString(c, command+"\r\n")
	must(c.t, err)
	return c.reply()
}

// epsv opens a data connection by EPSV.
func (c *ftpSession) epsv() net.Conn {
	c.t.Helper()
	text := c.command("EPSV")
	parts := strings.Split(text, "|")
	if len(parts) != 5 {
		c.t.Fatalf("EPSV: %s", text)
	}
	return c.f.dialVIP(c.t, parts[3])
}

func (f *ftpTopology) dialVIP(t testing.TB, port string) (c net.Conn) {
	t.Helper()
	must(t, f.inNetns("client", func() (err error) {
		c, err = net.DialTimeout("tcp", net.JoinHostPort(f.vip(), port), 10*time.Second)
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

// A transfer outlives the timeout of its control connection, which is usable
// after it.
func TestFTPControlOutlivesItsTimeout(t *testing.T) {
	f := newFTPTopology(t, false, false, "vsftpd", "pure-ftpd")
	f.run("director", uvsBinary+" set reset_forgotten=0 timeout_tcp_established=1")
	c := f.login(21)
	data := c.epsv()
	if got := c.command("STOR in/slow"); !strings.HasPrefix(got, "150") {
		t.Fatal(got)
	}
	sent := 0
	// three times the timeout
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		n, err := data.Write(make([]byte, 1000))
		must(t, err)
		sent += n
	}
	data.Close()
	if got := c.reply(); !strings.HasPrefix(got, "226") {
		t.Error(got)
	}
	if got := c.command("PWD"); !strings.HasPrefix(got, "257") {
		t.Error(got)
	}
	info, err := os.Stat(filepath.Join(f.dir, "ftp-s1", "in", "slow"))
	if err != nil || info.Size() != int64(sent) {
		t.Errorf("%d bytes arrived of %d (%v)", info.Size(), sent, err)
	}
}

// An expectation is listed as IPVS lists it. Another host gets none: its PORT
// reaches no server, and it cannot use the endpoint that a client announced.
func TestFTPBounceIsRefused(t *testing.T) {
	f := newFTPTopology(t, false, false, "vsftpd", "pure-ftpd")
	for _, port := range []int{21, 2021} {
		c := f.login(port)
		for _, command := range []string{"PORT 10,1,0,77,19,137", "EPRT |1|10.1.0.77|5001|"} {
			if got := c.command(command); got[0] != '5' {
				t.Errorf("at port %d %s is answered %q", port, command, got)
			}
		}
		if got := c.command("EPSV"); !strings.HasPrefix(got, "229") {
			t.Error(got)
		}
	}
	if list := f.run("director", uvsBinary+" ipvsadm -Lnc"); strings.Count(list, "LISTEN") != 2 ||
		!strings.Contains(list, "10.1.0.2:0 ") || strings.Contains(list, "10.1.0.77") {
		t.Errorf("listed:\n%s", list)
	}
	if stats := f.run("director", uvsBinary+" stats"); !strings.Contains(stats, "ftp_bounce 4") ||
		!strings.Contains(stats, "ftp_passive 2") {
		t.Errorf("counted:\n%s", stats)
	}
}

// Fifty clients at once use two servers of one service. One server is replaced
// meanwhile, and later clients reach the remaining ones.
func TestFTPManyClients(t *testing.T) {
	f := newFTPTopology(t, false, false, "vsftpd", "pure-ftpd")
	f.ipvsadm("director", fmt.Sprintf("ipvsadm -a -t %s:21 -r %s:21 -m", f.vip(), f.addr(2, 12)))
	many := func(n, rounds int) string {
		return fmt.Sprintf(`cat > many.py <<'END'
import ftplib, hashlib, threading, traceback
bad = []
def session(i):
    try:
        for _ in range(%d):
            f = ftplib.FTP(timeout=60)
            f.connect("%s", 21)
            f.login()
            f.set_pasv(i %% 2 == 0)
            lines = []
            f.retrlines("LIST", lines.append)
            if not any("big" in l for l in lines): bad.append("listing %%r" %% lines)
            h = hashlib.sha256()
            f.retrbinary("RETR big", h.update)
            if h.hexdigest() != "%s": bad.append("checksum")
            f.quit()
    except Exception as e:
        bad.append(traceback.format_exc())
all = [threading.Thread(target=session, args=(i,)) for i in range(%d)]
for t in all: t.start()
for t in all: t.join()
print(len(bad), bad[:5])
END
python3 many.py`, rounds, f.vip(), f.sum, n)
	}
	run := func(line string) {
		t.Helper()
		if out, err := f.tryRun("client", "cd "+f.dir+" && "+line); err != nil || !strings.HasPrefix(out, "0 ") {
			t.Errorf("%v: %s\n%s", err, out, f.run("director", uvsBinary+" stats; "+uvsBinary+" ipvsadm -Lnc"))
		}
	}
	run(many(50, 1))
	// The sessions of a removed server end, and those of the other go on.
	staying := map[string]*ftpSession{}
	for len(staying) < 2 {
		c := f.login(21)
		staying[map[bool]string{true: "vsftpd", false: "pure-ftpd"}[strings.Contains(c.greeting, "vsFTPd")]] = c
	}
	f.ipvsadm("director", fmt.Sprintf("ipvsadm -d -t %s:21 -r %s:21", f.vip(), f.addr(2, 12)))
	run(many(10, 1))
	f.ipvsadm("director", fmt.Sprintf("ipvsadm -a -t %s:21 -r %s:21 -m", f.vip(), f.addr(2, 12)))
	run(many(10, 1))
	data := staying["vsftpd"].epsv()
	if got := staying["vsftpd"].command("RETR big"); !strings.HasPrefix(got, "150") {
		t.Error(got)
	}
	if n, _ := io.Copy(io.Discard, data); n != int64(*ftpSize)<<20 {
		t.Errorf("%d bytes", n)
	}
}

// The control connection is cut at every byte into two segments, and the data
// connections are still announced and reached.
func TestFTPInSegments(t *testing.T) {
	f := newFTPTopology(t, false, true, "vsftpd", "pure-ftpd")
	c := f.login(21)
	must(t, c.Conn.(*net.TCPConn).SetNoDelay(true))
	const command = "EPSV\r\n"
	for cut := 1; cut < len(command); cut++ {
		for _, part := range []string{command[:cut], command[cut:]} {
			_, err := io.WriteString(c, part)
			must(t, err)
			// The first segment is acknowledged before the second is sent, by the
			// server or the director.
			eventually(t, "the segment is acknowledged",
				func() bool { return unacknowledged(c.Conn.(*net.TCPConn)) == 0 })
		}
		text := c.reply()
		parts := strings.Split(text, "|")
		if len(parts) != 5 {
			t.Fatalf("cut at %d: %s", cut, text)
		}
		data := f.dialVIP(t, parts[3])
		if got := c.command("NLST"); !strings.HasPrefix(got, "150") {
			t.Errorf("cut at %d: %s", cut, got)
		}
		if b, _ := io.ReadAll(data); !strings.Contains(string(b), "big") {
			t.Errorf("cut at %d: listed %q", cut, b)
		}
		if got := c.reply(); !strings.HasPrefix(got, "226") {
			t.Errorf("cut at %d: %s", cut, got)
		}
	}
	if stats := f.run("director", uvsBinary+" stats"); !strings.Contains(stats, "answered_helper") {
		t.Errorf("no segment was kept back:\n%s", stats)
	}
}

// A server writes blanks into its 227, and answers PASV with 229, as some do. No program of
// Debian does; this one says nothing else.
func TestFTPOddReplies(t *testing.T) {
	f := newFTPTopology(t, false, true, "vsftpd", "pure-ftpd")
	f.ipvsadm("director", fmt.Sprintf("ipvsadm -A -t %[1]s:2100 -s rr\nipvsadm -a -t %[1]s:2100 -r %[2]s:2100 -m",
		f.vip(), f.addr(2, 11)))
	f.run("director", fmt.Sprintf("%s set --service tcp:%s:2100 ftp=on", uvsBinary, f.vip()))
	var control, data net.Listener
	must(t, f.inNetns("s1", func() (err error) {
		if control, err = net.Listen("tcp4", ":2100"); err == nil {
			data, err = net.Listen("tcp4", ":0")
		}
		return err
	}))
	defer control.Close()
	defer data.Close()
	port := data.Addr().(*net.TCPAddr).Port
	replies := []string{
		fmt.Sprintf("227 Entering Passive Mode ( %s, %d, %d )", strings.ReplaceAll(f.addr(2, 11), ".", ", "),
			port>>8, port&255),
		fmt.Sprintf("229 Entering Extended Passive Mode (|||%d|)", port),
	}
	go serveOddFTP(control, data, replies)
	c := f.login(2100)
	host := strings.ReplaceAll(f.vip(), ".", ",")
	for _, reply := range replies {
		got := c.command("PASV")
		numbers := strings.FieldsFunc(got[strings.Index(got, "(")+1:],
			func(r rune) bool { return strings.ContainsRune("(), |", r) })
		if len(numbers) == 6 {
			if shown := strings.Join(numbers[:4], ","); shown != host {
				t.Errorf("%q: the server's address is %s, want %s", got, shown, host)
			}
			high, _ := strconv.Atoi(numbers[4])
			low, _ := strconv.Atoi(numbers[5])
			numbers = []string{strconv.Itoa(high<<8 | low)}
		}
		if len(numbers) != 1 {
			t.Fatalf("%q instead of %q", got, reply)
		}
		if text, err := io.ReadAll(f.dialVIP(t, numbers[0])); err != nil || string(text) != "data" {
			t.Errorf("%q: %q, %v", got, text, err)
		}
	}
}

// serveOddFTP serves one client, with the next of some replies to each PASV.
func serveOddFTP(control, data net.Listener, replies []string) {
	c, err := control.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprint(c, "220 ready\r\n")
	for in := bufio.NewScanner(c); in.Scan(); {
		if in.Text() != "PASV" {
			fmt.Fprint(c, "230 yes\r\n")
			continue
		}
		fmt.Fprint(c, replies[0]+"\r\n")
		replies = replies[1:]
		if d, err := data.Accept(); err == nil {
			fmt.Fprint(d, "data")
			d.Close()
		}
	}
}

// unacknowledged returns how many segments of a connection are not acknowledged
// yet.
func unacknowledged(c *net.TCPConn) (n uint32) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = info.Unacked
		}
	})
	return n
}

// A service of a mark has FTP at two of its ports, both mapped to 21.
func TestFTPByMark(t *testing.T) {
	f := newFTPTopology(t, false, true, "vsftpd", "pure-ftpd")
	f.ipvsadm("director", "ipvsadm -C")
	f.run("director", fmt.Sprintf("%s mark add --dst %s --proto tcp --dport 21,2021 --mark 8", uvsBinary, f.vip()))
	f.ipvsadm("director", fmt.Sprintf("ipvsadm -A -f 8 -s rr\nipvsadm -a -f 8 -r %s:21 -m", f.addr(2, 11)))
	f.run("director", uvsBinary+" set --service fwm:8 ftp=on")
	for i, x := range transfers[:4] { // those of curl
		for _, port := range []int{21, 2021} {
			f.transfer("s1", port, x, fmt.Sprintf("up%d-%d", i, port))
		}
	}
	f.checkNoErrors()
}

// A real TFTP server replies from new ports. A real client gets and puts files
// through the VIP, whether the director's host holds it or not.
func TestTFTP(t *testing.T) {
	needs(t, "in.tftpd", "tftp")
	for _, onHost := range []bool{false, true} {
		t.Run(fmt.Sprintf("vip-on-director=%t", onHost), func(t *testing.T) {
			f := &ftpTopology{topology: &topology{
				network: newNetwork(t), method: "nat", onHost: onHost,
			}}
			f.connect("client", "s1", "s2")
			for _, ns := range []string{"s1", "s2"} {
				f.start(ns, "in.tftpd", "-L", "-c", "-p", "-u", "nobody", "-U", "022", "-s", "-a", ":69", f.site(ns))
				eventually(t, "tftpd listens in "+ns, func() bool {
					out, _ := f.tryRun(ns, "cat /proc/net/udp /proc/net/udp6 | grep -c ':0045 '")
					return strings.TrimSpace(out) != "0"
				})
			}
			f.director("director", "eth0", "eth1")
			f.ipvsadm("director", fmt.Sprintf("ipvsadm -A -u %[1]s:69 -s rr\n"+
				"ipvsadm -a -u %[1]s:69 -r %[2]s -m\nipvsadm -a -u %[1]s:69 -r %[3]s -m",
				f.vip(), f.addr(2, 11), f.addr(2, 12)))
			eventually(t, "all servers are reached", func() bool {
				return !strings.Contains(f.run("director", uvsBinary+" services"), "unresolved")
			})
			for i := range 4 {
				// Three requests, so that rr begins every round with the other
				// server.
				f.run("client", fmt.Sprintf("cd %[1]s && head -c 50000 big >ftp-s1/small && cp ftp-s1/small "+
					"ftp-s2/small && t='tftp %[2]s -m binary -c' && $t get small got%[3]d && cmp ftp-s1/small "+
					"got%[3]d && $t put got%[3]d in/up%[3]d && $t get small again", f.dir, f.vip(), i))
			}
			for _, ns := range []string{"s1", "s2"} {
				if ups, _ := filepath.Glob(filepath.Join(f.dir, "ftp-"+ns, "in", "up*")); len(ups) != 2 {
					t.Errorf("%s has %v, want two of four", ns, ups)
				}
			}
			f.checkNoErrors()
		})
	}
}
