package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"uvs/bench/realserver"
	"uvs/ctl/api"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// Grid is a set of conditions under which bytes must arrive as they were sent.
// A cell is one method, address family, MTU and mix of offloads. It consists of
// an upload, a download, a burst of datagrams and one datagram in fragments.
type Grid struct {
	Methods    []string // see GridMethods
	Families   []int
	MTUs       []int
	Ends       []Offloads // of clients and servers
	Director   []Offloads
	TunnelOver int           // family of tunnels' outer headers; 0: that of the VIP
	MaxGSO     int           // longest GSO frame in bytes; 0: the kernel's default, 64 KiB
	Timeout    time.Duration // of one transfer
}

// GridMethods are the methods of a Grid, in the order it tries them.
var GridMethods = append([]string{string(NAT), string(DR)}, tunnel.Names(tunnel.Every)...)

// gridPlan is the lab of a method, before runMethod fills it in.
func gridPlan(name string) Plan {
	if _, err := tunnel.ParseType(name); err == nil {
		return Plan{Method: Tunnel, Encap: name}
	}
	return Plan{Method: Method(name)}
}

// GridMTUs are the MTUs of the whole grid. Most are those with which other
// AF_PACKET inputs are tested: jumbo frames, half a page and one byte more,
// Ethernet, the minimum of IPv4 hosts and less. The other is the minimum of
// IPv6.
var GridMTUs = []int{9001, 9000, 2049, 2048, 1500, 1280, 576, 512}

// WholeGrid returns the grid with all cells.
func WholeGrid() Grid {
	return Grid{
		Methods: GridMethods, Families: []int{4, 6}, MTUs: GridMTUs,
		Ends: AllOffloads, Director: AllOffloads, Timeout: 10 * time.Second,
	}
}

// Check returns what is wrong with the first wrong condition.
func (g Grid) Check() error {
	for _, m := range g.Methods {
		if !slices.Contains(GridMethods, m) {
			return fmt.Errorf("method is %q; want one of %v", m, GridMethods)
		}
	}
	for _, f := range g.Families {
		if f != 4 && f != 6 {
			return fmt.Errorf("family is %d; want 4 or 6", f)
		}
	}
	for _, mtu := range g.MTUs {
		if mtu < minGridMTU || mtu > maxGridMTU {
			return fmt.Errorf("mtu is %d; want %d to %d", mtu, minGridMTU, maxGridMTU)
		}
	}
	if g.TunnelOver != 0 && g.TunnelOver != 4 && g.TunnelOver != 6 {
		return fmt.Errorf("tunnel over IPv%d; want 4 or 6", g.TunnelOver)
	}
	if len(g.MTUs) > 0 && (!slices.Contains(g.Families, 4) || g.TunnelOver == 6) && slices.Max(g.MTUs) < minMTU6 {
		return fmt.Errorf("no cell is left: IPv6 needs an mtu of %d", minMTU6)
	}
	return nil
}

// Bounds of a grid's MTU. The minimum holds the longest headers of a TCP
// segment in a tunnel. At the maximum, gridBurst datagrams still fit one GSO
// frame.
const (
	minGridMTU = 256
	maxGridMTU = 10_000
)

// gridName is the lab's name.
const gridName = "grid"

// Run tries every cell and writes a table to w, with a line for each cell that
// is not ok. The error says how many those are. Run removes the lab, also if
// ctx ends early, and one that a killed grid left behind.
func (g Grid) Run(ctx context.Context, w io.Writer, uvs string) error {
	unlock, err := lockVerb("grid")
	if err != nil {
		return err
	}
	defer unlock()
	r := &gridRun{Grid: g, out: w, uvs: uvs, start: time.Now()}
	// Below IPv6's minimum MTU the kernel takes IPv6 off the links for good, so
	// go down.
	r.MTUs = slices.Clone(g.MTUs)
	slices.Sort(r.MTUs)
	slices.Reverse(r.MTUs)
	r.printHeader()
	for _, method := range g.Methods {
		if err := Remove(gridName); err != nil {
			return err
		}
		err := r.runMethod(ctx, method)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
	}
	return r.printSummary()
}

// gridRun is the state of a run.
type gridRun struct {
	Grid
	out   io.Writer
	uvs   string // path of the program
	start time.Time

	name     string // of the current method
	lab      *Lab
	director *api.Client

	cells, failed     int
	byGRO, fromSender int // cells whose uploads reached the director as GSO frames, by its GRO or from the sender
}

// cell is the conditions of one cell.
type cell struct {
	family, mtu    int
	ends, director Offloads
}

// Columns of the table: the row's name, then a group for each mix at the ends,
// which has a cell for each mix at the director.
const (
	rowWidth  = 20
	cellWidth = 5
)

// printHeader prints the two lines above the table.
func (r *gridRun) printHeader() {
	fmt.Fprint(r.out, "offloads: ends")
	at := len("offloads: ends")
	for i, e := range r.Ends {
		at = r.writeAt(at, r.column(i, 0), e.String())
	}
	fmt.Fprint(r.out, "\n          director")
	at = len("          director")
	for i := range r.Ends {
		for j, d := range r.Director {
			at = r.writeAt(at, r.column(i, j), strings.Replace(d.String(), "gso+gro", "both", 1))
		}
	}
	fmt.Fprintln(r.out)
}

// column returns where the cell of two mixes begins.
func (r *gridRun) column(ends, director int) int {
	return rowWidth + ends*(len(r.Director)*cellWidth+2) + director*cellWidth
}

// writeAt writes text at a column of a line that is written up to from. It
// returns up to where the line is written then.
func (r *gridRun) writeAt(from, column int, text string) int {
	gap := max(1, column-from)
	fmt.Fprint(r.out, strings.Repeat(" ", gap), text)
	return from + gap + len(text)
}

// printSummary prints the last line.
func (r *gridRun) printSummary() error {
	took := time.Since(r.start).Seconds()
	if r.failed > 0 {
		return fmt.Errorf("%d of %d cells are not ok; took %.0f s", r.failed, r.cells, took)
	}
	fmt.Fprintf(r.out, "all %d cells are ok; in %d the director got GSO frames from the sender, "+
		"in %d by its GRO; took %.0f s\n",
		r.cells, r.fromSender, r.byGRO, took)
	return nil
}

// runMethod builds a lab and runs a method's cells in it.
func (r *gridRun) runMethod(ctx context.Context, name string) (err error) {
	p := gridPlan(name)
	p.Name, p.Clients, p.Servers, p.Families, p.TunnelOver, p.LossFree = gridName, 1, 1, r.Families, r.TunnelOver, true
	r.name = name
	if r.lab, err = New(p); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.lab.Close()) }()
	if err := r.lab.Start(ctx, r.uvs, func(string) {}); err != nil {
		return err
	}
	if r.director, err = api.Dial(r.lab.Socket()); err != nil {
		return err
	}
	if r.MaxGSO > 0 {
		if err := r.lab.SetMaxGSO(r.MaxGSO); err != nil {
			return err
		}
	}
	for _, mtu := range r.MTUs {
		if err := r.lab.SetMTU(mtu); err != nil {
			return err
		}
		for _, family := range r.Families {
			if mtu < minMTU6 && (family == 6 || p.Method == Tunnel && r.TunnelOver == 6) {
				continue
			}
			if err := r.runRow(ctx, family, mtu); err != nil {
				return err
			}
		}
	}
	return nil
}

// minMTU6 is the minimum MTU of IPv6, RFC 8200 section 5.
const minMTU6 = 1280

// runRow runs all mixes of offloads for one family and MTU.
func (r *gridRun) runRow(ctx context.Context, family, mtu int) error {
	if err := r.waitReady(ctx, family, mtu); err != nil {
		return fmt.Errorf("IPv%d, MTU %d: %w\ndirector's log ends:\n%s", family, mtu, err,
			r.lab.lastLog(DirectorNode, 10))
	}
	title := fmt.Sprintf("%-5s IPv%d %5d", r.name, family, mtu)
	fmt.Fprint(r.out, title)
	at := len(title)
	var lines []string
	defer func() {
		fmt.Fprintln(r.out)
		for _, line := range lines {
			fmt.Fprintln(r.out, line)
		}
	}()
	for i, ends := range r.Ends {
		for j, director := range r.Director {
			wrong, err := r.runCell(ctx, cell{family, mtu, ends, director})
			if err != nil {
				return err
			}
			r.cells++
			mark := "ok"
			if len(wrong) > 0 {
				r.failed++
				mark = "FAIL"
				lines = append(lines, fmt.Sprintf("  %s IPv%d MTU %d, ends %s, director %s: %s",
					r.name, family, mtu, ends, director, strings.Join(wrong, "; ")))
			}
			at = r.writeAt(at, r.column(i, j), mark)
		}
	}
	return nil
}

// explainedMTU finds the MTU in the director's description of a next hop.
var explainedMTU = regexp.MustCompile(`MTU (\d+)`)

// waitReady waits until the director has the MTU and a request gets a reply.
func (r *gridRun) waitReady(ctx context.Context, family, mtu int) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	probe := api.Probe{
		Proto:   unix.IPPROTO_TCP,
		Client:  netip.AddrPortFrom(r.lab.CIP(family, 0), firstPort),
		Virtual: netip.AddrPortFrom(r.lab.VIP(family), realserver.HTTPPort),
	}
	for {
		explanation, err := r.director.Explain(probe)
		if err == nil {
			if m := explainedMTU.FindStringSubmatch(explanation.NextHop); m == nil || m[1] != strconv.Itoa(mtu) {
				err = fmt.Errorf("the director's next hop to the server is %q", explanation.NextHop)
			} else {
				_, err = r.lab.RequestHTTP(ctx, clientName(0), 0, hostPort(r.lab.VIP(family), realserver.HTTPPort))
			}
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// runCell runs one cell and returns what was wrong; err means that it could not
// run.
func (r *gridRun) runCell(ctx context.Context, c cell) (wrong []string, err error) {
	if err := r.lab.SetOffloads(c.ends, c.director); err != nil {
		return nil, err
	}
	if err := r.lab.flushPathMTU(c.family); err != nil {
		return nil, err
	}
	before, err := r.lab.readCounters(r.director)
	if err != nil {
		return nil, err
	}
	at := before
	for _, step := range []struct {
		name string
		do   func(context.Context, cell) error
	}{{"upload", r.upload}, {"download", r.download}, {"datagrams", r.datagrams}} {
		stepCtx, cancel := context.WithTimeout(ctx, r.Timeout)
		err := step.do(stepCtx, c)
		cancel()
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", step.name, err))
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		after, err := r.lab.readCounters(r.director)
		if err != nil {
			return nil, err
		}
		moved := after.diff(at, faultCounters)
		if r.lab.Method != Tunnel {
			moved = append(moved, after.diff(at, tooBigCounter)...)
		}
		if moved != nil {
			wrong = append(wrong, fmt.Sprintf("%s moved %s", step.name, strings.Join(moved, ", ")))
		}
		at = after
	}
	if wrong != nil {
		wrong = append(wrong, "beside that "+strings.Join(at.diff(before, hintCounters), ", "))
	}
	return wrong, nil
}

// transferSize returns how many bytes go over one connection: some thousand
// packets, at most 3 MB, and a multiple of no MTU.
func transferSize(mtu int) int64 { return min(int64(mtu)*2000, 3_000_000) + 1013 }

func (r *gridRun) upload(ctx context.Context, c cell) error {
	before, err := r.received()
	if err != nil {
		return err
	}
	address := hostPort(r.lab.VIP(c.family), realserver.HTTPPort)
	if _, err := r.lab.Upload(ctx, clientName(0), address, transferSize(c.mtu), true); err != nil {
		return err
	}
	after, err := r.received()
	if err != nil {
		return err
	}
	packets := after.InPkts - before.InPkts
	if packets == 0 {
		return errors.New("went past the director")
	}
	return r.checkSizes(c, (after.InBytes-before.InBytes)/packets)
}

// checkSizes checks that the packets reached the director as GSO frames exactly
// where they should. Otherwise the cell would prove nothing.
func (r *gridRun) checkSizes(c cell, mean uint64) error {
	gso := mean > uint64(c.mtu)
	switch {
	case c.director.GRO && gso:
		r.byGRO++
	case gso && c.ends.GSO:
		r.fromSender++
	case gso:
		return fmt.Errorf("packets reached the director with %d bytes on average, without GSO at the sender", mean)
	case c.ends.GSO && !c.director.GRO:
		return fmt.Errorf("packets reached the director with %d bytes on average, so not as GSO frames", mean)
	}
	return nil
}

// received returns what the director has received from clients.
func (r *gridRun) received() (sum api.Stats, err error) {
	services, err := r.director.Services()
	for _, s := range services {
		sum.InPkts += s.Stats.InPkts
		sum.InBytes += s.Stats.InBytes
	}
	return sum, err
}

func (r *gridRun) download(ctx context.Context, c cell) error {
	_, err := r.lab.Download(ctx, clientName(0), hostPort(r.lab.VIP(c.family), realserver.HTTPPort),
		transferSize(c.mtu))
	return err
}

// gridBurst is how many datagrams are sent at once. Six of 9001 bytes fit into
// one GSO frame.
const gridBurst = 6

// headerLen returns the bytes of IP and tunnel headers before a datagram on its
// way to the server.
func (r *gridRun) headerLen(family int) int {
	ip := map[int]int{4: wire.IPv4Len, 6: wire.IPv6Len}
	if r.lab.Method != Tunnel {
		return ip[family]
	}
	t, _ := r.lab.encap()
	return ip[family] + ip[cmp.Or(r.TunnelOver, family)] + t.Encapsulation().Len(true)
}

// datagrams sends datagrams that just reach the server, and return with its
// name in front, without being fragmented. Then it sends one that is longer
// than any MTU.
func (r *gridRun) datagrams(ctx context.Context, c cell) error {
	const name = len("rs1 ")
	address := hostPort(r.lab.VIP(c.family), realserver.InfoPort)
	size := c.mtu - r.headerLen(c.family) - wire.UDPLen - name
	if err := r.lab.Burst(ctx, clientName(0), address, size, gridBurst); err != nil {
		return err
	}
	if err := r.lab.Burst(ctx, clientName(0), address, longDatagram, 1); err != nil {
		return fmt.Errorf("in fragments: %w", err)
	}
	return nil
}

// longDatagram is a size that has fragments with every MTU, with a last one
// that is shorter than the others.
const longDatagram = 20_011

// flushPathMTU makes the client forget the path MTU to the VIP.
func (l *Lab) flushPathMTU(family int) error {
	return l.doLink(clientName(0), "eth0", func(link netlink.Link) error {
		vip := l.VIP(family)
		route := &netlink.Route{
			LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK,
			Dst: &net.IPNet{IP: vip.AsSlice(), Mask: net.CIDRMask(vip.BitLen(), vip.BitLen())},
		}
		if err := netlink.RouteDel(route); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("forget path MTU to %s: %w", vip, err)
		}
		return netlink.RouteAdd(route)
	})
}
