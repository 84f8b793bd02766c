package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uvs/bench/realserver"
)

// trafficSizes are the amounts of traffic.
type trafficSizes struct {
	perServer int   // small requests of each service to each server
	stream    int64 // bytes of a throughput measurement
	hashed    int64 // bytes of an upload that the server hashes
}

// demoSizes are small enough for a laptop and large enough for a measurement.
var demoSizes = trafficSizes{perServer: 100, stream: 64 << 20, hashed: 8 << 20}

// firstPort is the clients' first local port, below the kernel's ephemeral
// ports.
const firstPort = 20000

// DemoPlan returns the plan of the lab that Demo makes for a method.
func DemoPlan(m Method) Plan {
	return Plan{Name: "demo" + string(m), Method: m, Clients: 2, Servers: 3}
}

// Demo makes a lab for each method, sends live traffic through it, and writes
// the results to w. It checks every statement that it writes; the error names
// those that did not hold. It removes the labs, also if ctx ends early, and
// those that a killed demo left behind.
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
	var failures []error
	for _, m := range methods {
		d := &demo{out: w, uvs: uvs, trafficSizes: demoSizes}
		err := d.run(ctx, DemoPlan(m))
		if ctx.Err() != nil {
			return errors.Join(errors.New("interrupted"), d.closeErr)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", m, err))
		}
		for _, what := range d.failures {
			failures = append(failures, fmt.Errorf("%s: this did not hold: %s", m, what))
		}
	}
	if len(failures) > 0 {
		return errors.Join(failures...)
	}
	fmt.Fprintf(w, "every statement held; took %.1f s\n", time.Since(start).Seconds())
	return nil
}

// lockVerb prevents a second run of a verb of `uvs lab` whose labs have fixed
// names. The lock is a socket in the abstract namespace, which goes with the
// process.
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

// demo is the demonstration of one method.
type demo struct {
	*Lab
	trafficSizes
	out      io.Writer
	uvs      string           // path of the program
	traffic  []serviceTraffic // in order
	failures []string         // statements that did not hold
	closeErr error            // of removing the lab
}

// serviceTraffic is the traffic of one service.
type serviceTraffic struct {
	family  int
	proto   byte
	address string
	replies []Reply
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

// run builds the lab, sends traffic, checks it, and removes the lab.
func (d *demo) run(ctx context.Context, p Plan) (err error) {
	fmt.Fprintf(d.out, "%s\n  %s\n", titles[p.Method], drawings[p.Method])
	if d.Lab, err = New(p); err != nil {
		return err
	}
	defer func() {
		d.closeErr = d.Close()
		err = errors.Join(err, d.closeErr)
		fmt.Fprintln(d.out)
	}()
	d.heading("commands")
	err = d.Start(ctx, d.uvs, func(command string) { fmt.Fprintf(d.out, "    %s\n", command) })
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		d.runRequests, d.checkListing, d.measureStreams, d.printCounters,
	} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("%w\ndirector's log ends:\n%s", err, d.lastLog(DirectorNode, 10))
		}
	}
	return nil
}

func (d *demo) heading(text string) { fmt.Fprintf(d.out, "  %s\n", text) }

// check writes a statement and whether it held.
func (d *demo) check(holds bool, format string, args ...any) {
	mark, text := "ok  ", fmt.Sprintf(format, args...)
	if !holds {
		mark = "FAIL"
		d.failures = append(d.failures, text)
	}
	fmt.Fprintf(d.out, "    %s %s\n", mark, text)
}

// runRequests sends the small requests and captures at every client and server.
// It checks who replied, and what was on the wire.
func (d *demo) runRequests(ctx context.Context) error {
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
	err := d.sendRequests(ctx)
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	d.printShares()
	d.checkCaptures(captures[:d.Clients], captures[d.Clients:])
	return nil
}

// sendRequests sends the requests one after the other, client by client. Every
// request has a new local port, so every one is a new connection.
func (d *demo) sendRequests(ctx context.Context) error {
	port := firstPort
	for _, family := range d.Families {
		for _, s := range []struct {
			proto byte
			port  uint16
			send  func(ctx context.Context, node string, localPort int, address string) (Reply, error)
		}{
			{unix.IPPROTO_TCP, realserver.HTTPPort, d.RequestHTTP},
			{unix.IPPROTO_UDP, realserver.InfoPort, d.RequestUDP},
		} {
			a := serviceTraffic{family: family, proto: s.proto, address: hostPort(d.VIP(family), s.port)}
			for i := range d.requestsPerService() {
				reply, err := s.send(ctx, clientName(i%d.Clients), port, a.address)
				if err != nil {
					return fmt.Errorf("request %d of %s: %w", i+1, a.name(), err)
				}
				a.replies = append(a.replies, reply)
				port++
			}
			d.traffic = append(d.traffic, a)
		}
	}
	return nil
}

func (d *demo) requestsPerService() int { return d.perServer * d.Servers }

func (a serviceTraffic) name() string {
	if a.proto == unix.IPPROTO_TCP {
		return "TCP " + a.address
	}
	return "UDP " + a.address
}

// printShares prints how many requests each server served, and how fast.
func (d *demo) printShares() {
	fmt.Fprintf(d.out, "  %-30s", "who served what")
	for _, s := range d.ServerNodes() {
		fmt.Fprintf(d.out, "%6s", s)
	}
	fmt.Fprintf(d.out, "%12s%12s\n", "median", "p99") // of TCP: connect, request, close
	fair := true
	for _, a := range d.traffic {
		count := map[string]int{}
		for _, reply := range a.replies {
			count[reply.Server]++
		}
		fmt.Fprintf(d.out, "    %-28s", a.name())
		for _, s := range d.ServerNodes() {
			fmt.Fprintf(d.out, "%6d", count[s])
			fair = fair && count[s] == d.perServer
		}
		fmt.Fprintf(d.out, "%9d µs%9d µs\n", percentile(a.replies, 0.5).Microseconds(),
			percentile(a.replies, 0.99).Microseconds())
	}
	d.heading("checked")
	d.check(fair, "%d requests to each service, %d at each server", d.requestsPerService(), d.perServer)
}

// checkCaptures compares what arrived at clients and servers with what was
// sent.
func (d *demo) checkCaptures(clients, servers []*Capture) {
	type endpoint struct {
		proto byte
		addr  netip.AddrPort
	}
	want, atServers, atClients := map[endpoint]bool{}, map[endpoint]int{}, map[endpoint]int{}
	for _, a := range d.traffic {
		for _, reply := range a.replies {
			want[endpoint{a.proto, reply.Client}] = true
		}
	}
	resets, icmp, first := 0, 0, ""
	for i, c := range slices.Concat(servers, clients) {
		for f, n := range c.opens {
			if i < len(servers) {
				atServers[endpoint{f.proto, f.src}] += n
			} else {
				atClients[endpoint{f.proto, f.dst}] += n
			}
		}
		resets += c.resets
		if icmp += c.icmp; first == "" && c.icmp > 0 {
			first = fmt.Sprintf(" (%s, at %s)", c.firstICMP, c.node)
		}
	}
	for _, side := range []struct {
		what string
		got  map[endpoint]int
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
		d.check(missing == 0 && doubled == 0, "%s: %d sent, %d missing, %d doubled", side.what, len(want),
			missing, doubled)
	}
	d.check(resets == 0 && icmp == 0, "no other stack replied: %d RST, %d ICMP errors%s", resets, icmp, first)
}

// checkListing prints the director's listing and compares it with the requests.
func (d *demo) checkListing(ctx context.Context) error {
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
	d.check(agrees && services == len(d.traffic), "the listing counts as many connections")
	d.heading("ipvsadm -L -n --stats")
	d.printIndented(text)
	return nil
}

// measureStreams measures one TCP stream in each direction, and compares every
// byte.
func (d *demo) measureStreams(ctx context.Context) error {
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
		fmt.Fprintf(d.out, "    IPv%d  up %5.2f Gbit/s   down %5.2f Gbit/s%s\n", family, gigabits(d.stream, up),
			gigabits(d.stream, down), past)
	}
	d.check(true, "%d MB down compared byte by byte, %d MB up by SHA-256, intact", d.stream>>20, d.hashed>>20)
	return nil
}

func gigabits(bytes int64, took time.Duration) float64 {
	return float64(bytes) * 8 / 1e9 / took.Seconds()
}

// printCounters prints the director's counters.
func (d *demo) printCounters(ctx context.Context) error {
	text, err := d.Exec(ctx, DirectorNode, d.uvs, "stats")
	if err != nil {
		return err
	}
	d.heading("uvs stats")
	d.printIndented(text)
	return nil
}

// printIndented prints the output of a program.
func (d *demo) printIndented(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprint(d.out, "    ", line)
	}
}
