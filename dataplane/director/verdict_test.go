package director

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/counters.md instead of comparing it")

// initialisms are the words of counters whose camel case is not their first letter's
// capital.
var initialisms = map[string]string{
	"arp": "ARP", "icmp": "ICMP", "id": "ID", "ip": "IP", "ipsec": "IPsec", "mac": "MAC", "nd": "ND", "sctp": "SCTP",
	"ttl": "TTL", "udp6": "UDP6", "vip": "VIP", "vlan": "VLAN",
}

func camelCase(counter string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(counter, "_") {
		if i, ok := initialisms[word]; ok {
			b.WriteString(i)
		} else {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// verdictConstants returns the constants of type Verdict in the order of their values.
func verdictConstants(t *testing.T) (names []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "verdict.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		if g, ok := decl.(*ast.GenDecl); ok && g.Tok == token.CONST {
			for _, spec := range g.Specs {
				names = append(names, spec.(*ast.ValueSpec).Names[0].Name)
			}
		}
	}
	return names
}

// A constant has the name of its counter, so that a report of `uvs stats` can be
// found in the code.
func TestVerdictsHaveTheNamesOfTheirCounters(t *testing.T) {
	names := verdictConstants(t)
	if len(names) != int(NumVerdict)+1 {
		t.Fatalf("%d constants for %d verdicts", len(names), NumVerdict)
	}
	for v := range NumVerdict {
		if want := camelCase(v.String()); names[v] != want {
			t.Errorf("the constant of %s is %s, want %s", v, names[v], want)
		}
	}
}

// verdictGroups are the sections of docs/counters.md: the first verdict of each, its
// title, and what to do about the verdicts that have nothing of their own.
var verdictGroups = []struct {
	first         Verdict
	title, remedy string
}{
	{NotOurs, "Left to the host", "To do: nothing. This is the host's own traffic."},
	{ForwardedMasq, "Forwarded", "To do: nothing. This is the director's work."},
	{AnsweredARP, "Answered", "To do: nothing, unless it rises fast. Then see who asks (`tcpdump`)."},
	{DroppedNoNeighbour, "Dropped: no way on", "To do: find the cause that the row names."},
	{
		DroppedSourceVIP, "Dropped: a source that can be no client",
		"Addresses are forged, or a router is misconfigured. To do: find the sender with `tcpdump -e`.",
	},
	{DroppedBadDestination, "Dropped: not to be forwarded or answered", "To do: nothing, unless it rises fast."},
	{
		DroppedRunt, "Dropped: malformed, whoever it is for",
		"A sender, an offload or a cable is broken. To do: find the sender with `tcpdump -e`.",
	},
	{
		DroppedFragment, "Dropped fragments",
		"To do: avoid fragments. Set `mss_clamp` for TCP, and shorter datagrams for UDP.",
	},
	{
		DroppedHelperBusy, "Dropped by a helper",
		"To do: nothing, unless it rises fast. TCP sends most of these segments again.",
	},
}

// countersTables returns the verdicts' part of docs/counters.md.
func countersTables() string {
	var b strings.Builder
	for i, g := range verdictGroups {
		end := NumVerdict
		if i+1 < len(verdictGroups) {
			end = verdictGroups[i+1].first
		}
		fmt.Fprintf(
			&b, "\n## %s\n\n%s\n\n| counter | what it counts | when it rises |\n|---|---|---|\n", g.title, g.remedy,
		)
		for v := g.first; v < end; v++ {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v, verdicts[v][1], verdicts[v][2])
		}
	}
	return b.String()
}

// docs/counters.md has the tables that verdict.go makes, between two marks. This
// writes them: go test ./dataplane/director -run TestCountersPage -update .
func TestCountersPage(t *testing.T) {
	const page = "../../docs/counters.md"
	const begin, end = "<!-- verdicts: see verdict.go -->\n", "\n<!-- end of verdicts -->"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(text), begin)
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatalf("%s lacks the marks around the verdicts", page)
	}
	want := head + begin + countersTables() + end + tail
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Error("docs/counters.md is stale: run this test with -update")
	}
}
