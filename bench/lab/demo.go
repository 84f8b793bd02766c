package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uvs/bench/realserver"
)

// sizes say how much traffic is sent.
type sizes struct {
	perServer int   // small requests that each service brings each server
	stream    int64 // bytes of a throughput measurement
	hashed    int64 // bytes of an upload that is hashed
}

// demoSizes are small enough for a laptop and large enough for a figure.
var demoSizes = sizes{perServer: 100, stream: 64 << 20, hashed: 8 << 20}

// firstPort is the clients' first local port, below what the kernel hands out.
const firstPort = 20000

// DemoPlan is the lab that Demo makes for a method.
func DemoPlan(m Method) Plan {
	return Plan{Name: "demo" + string(m), Method: m, Clients: 2, Servers: 3}
}

// Demo makes a lab for each method in turn, sends live traffic through it, and
// writes what happened to w. Everything it states it checks; the error names
// what did not hold. It removes the labs also when ctx ends early, and those
// that a demo killed earlier left behind.
func Demo(ctx context.Context, w io.Writer, uvs string, methods []Method) error {
	unlock, err := lockVerb("demo")
	if err != nil {
		return err
	}
	defer unlock()
	start := time.Now()
	for _, m := range Methods {
		if err := Remove(DemoPlan(m).Name); err != nil {
			return err
		}
	}
	var broken []error
	for _, m := range methods {
		d := &demo{out: w, uvs: uvs, sizes: demoSizes}
		err := d.show(ctx, DemoPlan(m))
		if ctx.Err() != nil {
			return errors.Join(errors.New("interrupted"), d.closed)
		}
		if err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", m, err))
		}
		for _, what := range d.broken {
			broken = append(broken, fmt.Errorf("%s: this did not hold: %s", m, what))
		}
	}
	if len(broken) > 0 {
		return errors.Join(broken...)
	}
	fmt.Fprintf(w, "every statement held; took %.1f s\n", time.Since(start).Seconds())
	return nil
}

// lockVerb makes sure that only one `uvs lab` of a verb runs whose labs have
// fixed names. A socket in the abstract namespace is a lock that cannot be left
// behind.
func lockVerb(verb string) (unlock func() error, err error) {
	l, err := net.Listen("unix", "@uvs-lab-"+verb)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another %s is running", verb)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", verb, err)
	}
	return l.Close, nil
}

// demo is the showing of one method.
type demo struct {
	*Lab
	sizes
	out    io.Writer
	uvs    string   // program
	asked  []asked  // in order
	broken []string // statements that did not hold
	closed error    // of removing the lab
}

// asked is the traffic of one service.
type asked struct {
	family  int
	proto   byte
	address string
	answers []Answer
}

var titles = map[Method]string{
	NAT:    "NAT: the director rewrites addresses and ports, both ways",
	DR:     "DIRECT ROUTING: servers hold the VIP and answer clients themselves",
	Tunnel: "TUNNEL: as direct routing, over IPIP to another network",
}

var drawings = map[Method]string{
	NAT:    "clients -- director -- servers",
	DR:     "clients -- director -- servers, all on one network",
	Tunnel: "clients, director -- router -- servers",
}

// show builds the lab, shows it, and removes it.
func (d *demo) show(ctx context.Context, p Plan) (err error) {
	fmt.Fprintf(d.out, "%s\n  %s\n", titles[p.Method], drawings[p.Method])
	if d.Lab, err = New(p); err != nil {
		return err
	}
	defer func() {
		d.closed = d.Close()
		err = errors.Join(err, d.closed)
		fmt.Fprintln(d.out)
	}()
	if err := d.StartServers(ctx, d.uvs); err != nil {
		return err
	}
	if _, err := d.StartDirector(ctx, d.uvs); err != nil {
		return err
	}
	d.heading("commands")
	err = d.Configure(ctx, d.uvs, func(command string) { fmt.Fprintf(d.out, "    %s\n", command) })
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{d.requests, d.listing, d.streams, d.verdicts} {
		if err := step(ctx); err != nil {
			log, _ := os.ReadFile(d.LogPath(DirectorNode))
			return fmt.Errorf("%w\ndirector's log ends:\n%s", err, lastLines(string(log), 10))
		}
	}
	return nil
}

func (d *demo) heading(text string) { fmt.Fprintf(d.out, "  %s\n", text) }

// state writes a statement and whether it held.
func (d *demo) state(holds bool, format string, args ...any) {
	mark, text := "ok  ", fmt.Sprintf(format, args...)
	if !holds {
		mark = "FAIL"
		d.broken = append(d.broken, text)
	}
	fmt.Fprintf(d.out, "    %s %s\n", mark, text)
}

// requests sends the small requests, with captures at every client and server,
// and judges who answered and what was on the wire.
func (d *demo) requests(ctx context.Context) error {
	var captures []*Capture
	stop := func() (err error) {
		for _, c := range captures {
			err = errors.Join(err, c.Stop())
		}
		return err
	}
	for _, node := range append(d.ClientNodes(), d.ServerNodes()...) {
		c, err := d.Capture(node)
		if err != nil {
			return errors.Join(err, stop())
		}
		captures = append(captures, c)
	}
	err := d.ask(ctx)
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	d.served()
	d.judge(captures[:d.Clients], captures[d.Clients:])
	return nil
}

// ask makes the requests, one after the other, client by client. Every request
// comes from a port of its own, so that every one is a new connection.
func (d *demo) ask(ctx context.Context) error {
	port := firstPort
	for _, family := range d.Families {
		for _, s := range []struct {
			proto byte
			port  uint16
			ask   func(ctx context.Context, node string, localPort int, address string) (Answer, error)
		}{
			{unix.IPPROTO_TCP, realserver.HTTPPort, d.AskHTTP},
			{unix.IPPROTO_UDP, realserver.InfoPort, d.AskUDP},
		} {
			a := asked{family: family, proto: s.proto, address: hostPort(d.VIP(family), s.port)}
			for i := range d.requestsPerService() {
				answer, err := s.ask(ctx, clientName(i%d.Clients), port, a.address)
				if err != nil {
					return fmt.Errorf("request %d of %s: %w", i+1, a.name(), err)
				}
				a.answers = append(a.answers, answer)
				port++
			}
			d.asked = append(d.asked, a)
		}
	}
	return nil
}

func (d *demo) requestsPerService() int { return d.perServer * d.Servers }

func (a asked) name() string {
	if a.proto == unix.IPPROTO_TCP {
		return "TCP " + a.address
	}
	return "UDP " + a.address
}

// served shows who served what, and how fast.
func (d *demo) served() {
	fmt.Fprintf(d.out, "  %-30s", "who served what")
	for _, s := range d.ServerNodes() {
		fmt.Fprintf(d.out, "%6s", s)
	}
	fmt.Fprintf(d.out, "%12s%12s\n", "median", "p99") // of TCP: connect, ask, close
	fair := true
	for _, a := range d.asked {
		count := map[string]int{}
		for _, answer := range a.answers {
			count[answer.Server]++
		}
		fmt.Fprintf(d.out, "    %-28s", a.name())
		for _, s := range d.ServerNodes() {
			fmt.Fprintf(d.out, "%6d", count[s])
			fair = fair && count[s] == d.perServer
		}
		fmt.Fprintf(d.out, "%9d µs%9d µs\n", percentile(a.answers, 0.5).Microseconds(), percentile(a.answers, 0.99).Microseconds())
	}
	d.heading("checked")
	d.state(fair, "%d requests to each service, %d at each server", d.requestsPerService(), d.perServer)
}

// judge compares what arrived at clients and servers with what was asked.
func (d *demo) judge(clients, servers []*Capture) {
	type end struct {
		proto byte
		addr  netip.AddrPort
	}
	want, atServers, atClients := map[end]bool{}, map[end]int{}, map[end]int{}
	for _, a := range d.asked {
		for _, answer := range a.answers {
			want[end{a.proto, answer.Client}] = true
		}
	}
	resets, icmp, first := 0, 0, ""
	for i, c := range slices.Concat(servers, clients) {
		for f, n := range c.opens {
			if i < len(servers) {
				atServers[end{f.proto, f.src}] += n
			} else {
				atClients[end{f.proto, f.dst}] += n
			}
		}
		resets += c.resets
		if icmp += c.icmp; first == "" && c.icmp > 0 {
			first = fmt.Sprintf(" (%s, at %s)", c.firstICMP, c.node)
		}
	}
	for _, side := range []struct {
		what string
		got  map[end]int
	}{
		{"every SYN and datagram of a client arrived once, at one server", atServers},
		{"every SYN-ACK and datagram of a server arrived once", atClients},
	} {
		missing, doubled := 0, 0
		for e := range want {
			switch n := side.got[e]; {
			case n == 0:
				missing++
			case n > 1:
				doubled++
			}
		}
		d.state(missing == 0 && doubled == 0, "%s: %d sent, %d missing, %d doubled", side.what, len(want), missing, doubled)
	}
	d.state(resets == 0 && icmp == 0, "nobody else spoke: %d RST, %d ICMP errors%s", resets, icmp, first)
}

// listing shows the director's own account and compares it.
func (d *demo) listing(ctx context.Context) error {
	text, err := d.Exec(ctx, DirectorNode, d.uvs, "ipvsadm", "-L", "-n", "--stats")
	if err != nil {
		return err
	}
	agrees, services := true, 0
	for line := range strings.Lines(text) {
		switch fields := strings.Fields(line); {
		case len(fields) < 3 || fields[1] == "RemoteAddress:Port":
		case fields[0] == "->":
			agrees = agrees && fields[2] == fmt.Sprint(d.perServer)
		case fields[0] == "TCP" || fields[0] == "UDP":
			services++
			agrees = agrees && fields[2] == fmt.Sprint(d.requestsPerService())
		}
	}
	d.state(agrees && services == len(d.asked), "the listing counts as many connections")
	d.heading("ipvsadm -L -n --stats")
	d.quote(text)
	return nil
}

// streams measures one TCP stream each way, and compares every byte.
func (d *demo) streams(ctx context.Context) error {
	d.heading("one TCP stream")
	for _, family := range d.Families {
		address := hostPort(d.VIP(family), realserver.HTTPPort)
		up, err := d.Upload(ctx, clientName(0), address, d.stream, false)
		if err != nil {
			return fmt.Errorf("stream to %s: %w", address, err)
		}
		down, err := d.Download(ctx, clientName(0), address, d.stream)
		if err != nil {
			return fmt.Errorf("stream from %s: %w", address, err)
		}
		if _, err := d.Upload(ctx, clientName(0), address, d.hashed, true); err != nil {
			return fmt.Errorf("stream to %s: %w", address, err)
		}
		past := ""
		if d.Method != NAT {
			past = ", past the director"
		}
		fmt.Fprintf(d.out, "    IPv%d  up %5.2f Gbit/s   down %5.2f Gbit/s%s\n", family, gigabits(d.stream, up), gigabits(d.stream, down), past)
	}
	d.state(true, "%d MB down compared byte by byte, %d MB up by SHA-256, intact", d.stream>>20, d.hashed>>20)
	return nil
}

func gigabits(bytes int64, took time.Duration) float64 {
	return float64(bytes) * 8 / 1e9 / took.Seconds()
}

// verdicts shows what became of the frames.
func (d *demo) verdicts(ctx context.Context) error {
	text, err := d.Exec(ctx, DirectorNode, d.uvs, "stats")
	if err != nil {
		return err
	}
	d.heading("uvs stats")
	d.quote(text)
	return nil
}

// quote writes what a program printed.
func (d *demo) quote(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprint(d.out, "    ", line)
	}
}
