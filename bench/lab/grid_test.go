package lab

import (
	"context"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// cancelOnFirstRow cancels a context when the first row begins.
type cancelOnFirstRow struct {
	strings.Builder
	stop context.CancelFunc
}

func (s *cancelOnFirstRow) Write(b []byte) (int, error) {
	if slices.Contains(GridMethods, string(b[:min(len(b), 3)])) {
		s.stop()
	}
	return s.Builder.Write(b)
}

// The corners of the grid are ok, a cell that is not ok is reported, and an
// interrupted grid leaves nothing behind. `uvs lab grid` runs all cells.
func TestGrid(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some ten seconds")
	}
	needNamespaces(t)
	uvs := buildProgram(t)
	run := func(t *testing.T, ctx context.Context, g Grid, out io.Writer) error {
		t.Helper()
		err := g.Run(ctx, out, uvs)
		checkRemoved(t, &Lab{Plan{Name: gridName}})
		return err
	}

	// Every method and family, the longest packets and the shortest of each family,
	// offloads all on or all off.
	t.Run("corners", func(t *testing.T) {
		g := WholeGrid()
		g.MTUs = []int{9001, 1280, 512}
		g.Ends = []Offloads{{GSO: true, GRO: true}, {}}
		g.Director = g.Ends
		var out strings.Builder
		if err := run(t, t.Context(), g, &out); err != nil {
			t.Errorf("%v\n%s", err, out.String())
		}
		if !regexp.MustCompile(`in [1-9]\d* the director got GSO frames from the sender, in [1-9]\d* by its GRO`).
			MatchString(out.String()) {
			t.Errorf("without GSO frames the grid proves little:\n%s", out.String())
		}
	})

	// GSO frames of more than 64 KiB, whose length does not fit an IP header.
	t.Run("big", func(t *testing.T) {
		g := WholeGrid()
		g.Methods, g.MTUs, g.MaxGSO = []string{"nat", "ipip"}, []int{9000}, 190_000
		g.Ends, g.Director = AllOffloads[:1], AllOffloads[1:2]
		var out strings.Builder
		if err := run(t, t.Context(), g, &out); err != nil {
			t.Errorf("%v\n%s", err, out.String())
		}
	})

	t.Run("no time", func(t *testing.T) {
		g := Grid{
			Methods: []string{"nat"}, Families: []int{4}, MTUs: []int{1500},
			Ends: AllOffloads[:1], Director: AllOffloads[1:2], Timeout: time.Nanosecond,
		}
		var out strings.Builder
		if err := run(t, t.Context(), g, &out); err == nil ||
			!strings.Contains(err.Error(), "1 of 1 cells are not ok") {
			t.Errorf("it ends with %v, want 1 of 1 cells not ok", err)
		}
		want := regexp.MustCompile(`(?m)^nat   IPv4  1500    FAIL\n  nat IPv4 MTU 1500, ends gso\+gro, ` +
			`director gso: upload: .*; download: .*; datagrams: .*$`)
		if !want.MatchString(out.String()) {
			t.Errorf("the table is\n%s\nwant a match of %s", out.String(), want)
		}
	})

	t.Run("no reader", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		cmd := exec.Command(uvs, "lab", "grid", "--method", "nat", "--family", "4", "--mtu", "1500", "--ends", "gso")
		cmd.Stdout = w
		if err := cmd.Run(); err != nil {
			t.Error(err)
		}
		w.Close()
		checkRemoved(t, &Lab{Plan{Name: gridName}})
	})

	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := run(t, ctx, WholeGrid(), &cancelOnFirstRow{stop: cancel})
		if err == nil || err.Error() != "interrupted" {
			t.Errorf("it ends with %v", err)
		}
	})
}

func TestGridRefusesNonsense(t *testing.T) {
	for _, row := range []struct {
		want string
		Grid
	}{
		{`method is "fullnat"; want one of [nat`, Grid{Methods: []string{"fullnat"}}},
		{`family is 5; want 4 or 6`, Grid{Families: []int{5}}},
		{`mtu is 68; want 256 to 10000`, Grid{MTUs: []int{68}}},
		{`mtu is 65535; want 256 to 10000`, Grid{MTUs: []int{65535}}},
		{`tunnel over IPv5; want 4 or 6`, Grid{TunnelOver: 5}},
		{`no cell is left: IPv6 needs an mtu of 1280`, Grid{Families: []int{4}, MTUs: []int{512}, TunnelOver: 6}},
		{`no cell is left: IPv6 needs an mtu of 1280`, Grid{Families: []int{6}, MTUs: []int{1279, 512}}},
	} {
		if err := row.Check(); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%+v: %v; want %q", row.Grid, err, row.want)
		}
	}
	if err := WholeGrid().Check(); err != nil {
		t.Error(err)
	}
	for _, o := range AllOffloads {
		if got, err := ParseOffloads(o.String()); err != nil || got != o {
			t.Errorf("%s is read as %v, %v", o, got, err)
		}
	}
	if _, err := ParseOffloads("tso"); err == nil ||
		!strings.Contains(err.Error(), `offloads are "tso"; want one of [gso+gro gso gro none]`) {
		t.Errorf("offloads tso: %v", err)
	}
}

// Counters are reported with their difference, faults apart from the others.
func TestCountersDiff(t *testing.T) {
	before := counters{"director dropped_runt": 1, "rs1 TcpInCsumErrors": 7, "director forwarded_masq": 5}
	now := counters{
		"director dropped_runt": 3, "rs1 TcpInCsumErrors": 7, "client1 Udp6InCsumErrors": 1,
		"director forwarded_masq": 6, "director ring_eth0_drop_too_long": 1, "client1 TcpInSegs": 9,
	}
	if got := strings.Join(now.diff(before, faultCounters),
		", "); got != "client1 Udp6InCsumErrors +1, director dropped_runt +2, director ring_eth0_drop_too_long +1" {
		t.Errorf("faults are %q", got)
	}
	if got := strings.Join(now.diff(before, hintCounters), ", "); got != "director forwarded_masq +1" {
		t.Errorf("beside them %q", got)
	}
}
