package sched

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/maglev.md again")

// maglevDoc is the page with the tables of TestMaglevTables.
const maglevDoc = "../docs/maglev.md"

// maglevServers returns n servers of equal weight, from 10.2.0.0 on, port 80.
func maglevServers(n int) []Server {
	list := make([]Server, n)
	for i := range list {
		list[i] = Server{ID: uint32(i), Addr: vip(0x20000 + uint32(i)), Port: 80, Weight: 1}
	}
	return list
}

func mustTable(t testing.TB, servers []Server, size int) []uint16 {
	table, err := maglevTable(servers, size)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// balance returns the smallest and the largest number of slots of a server, relative
// to the mean.
func balance(table []uint16, servers []Server) (lowest, highest float64) {
	total := 0
	for i := range servers {
		total += int(servers[i].Weight)
	}
	slots := make([]int, len(servers))
	for _, i := range table {
		slots[i]++
	}
	lowest = 1e9
	for i := range servers {
		part := float64(slots[i]) * float64(total) / float64(int(servers[i].Weight)*len(table))
		lowest, highest = min(lowest, part), max(highest, part)
	}
	return lowest, highest
}

// disruption removes one server at a time, for probes servers. It returns the
// percentage of the other servers' slots that changed, mean and maximum.
func disruption(t testing.TB, servers []Server, size, probes int) (mean, worst float64) {
	before := mustTable(t, servers, size)
	for n := range probes {
		gone := n * len(servers) / probes
		rest := append(append([]Server(nil), servers[:gone]...), servers[gone+1:]...)
		after := mustTable(t, rest, size)
		moved, others := 0, 0
		for slot := range before {
			if int(before[slot]) == gone {
				continue
			}
			others++
			if servers[before[slot]].ID != rest[after[slot]].ID {
				moved++
			}
		}
		share := 100 * float64(moved) / float64(others)
		mean, worst = mean+share/float64(probes), max(worst, share)
	}
	return mean, worst
}

// maglevTables returns the tables of docs/maglev.md.
func maglevTables(t testing.TB) string {
	var b strings.Builder
	fmt.Fprintln(&b, "| slots | servers | smallest share | largest share | moved of others, mean | worst |")
	fmt.Fprintln(&b, "|--:|--:|--:|--:|--:|--:|")
	for _, size := range []int{4093, 65521, 65537} {
		for _, n := range []int{3, 10, 100, 1000} {
			servers := maglevServers(n)
			lowest, highest := balance(mustTable(t, servers, size), servers)
			mean, worst := disruption(t, servers, size, min(n, 10))
			fmt.Fprintf(&b, "| %d | %d | %.3f | %.3f | %.2f %% | %.2f %% |\n", size, n, lowest, highest, mean, worst)
		}
	}
	fmt.Fprintln(&b, "\n| slots | servers | weights | smallest share for its weight | largest |")
	fmt.Fprintln(&b, "|--:|--:|--|--:|--:|")
	for _, size := range []int{4093, 65521} {
		for _, n := range []int{10, 100} {
			servers := maglevServers(n)
			for i := range servers {
				servers[i].Weight = int32(1 + i%5)
			}
			lowest, highest := balance(mustTable(t, servers, size), servers)
			fmt.Fprintf(&b, "| %d | %d | 1 to 5 | %.3f | %.3f |\n", size, n, lowest, highest)
		}
	}
	return b.String()
}

// TestMaglevTables measures balance and disruption as section 5.3 of the Maglev paper
// does. It checks the promises of the design, and the figures in the page.
func TestMaglevTables(t *testing.T) {
	tables := maglevTables(t)
	t.Log("\n" + tables)

	for _, n := range []int{3, 10, 100} {
		servers := maglevServers(n)
		if lowest, highest := balance(mustTable(t, servers, 65521), servers); highest/lowest > 1.01 {
			t.Errorf("%d servers, 65521 slots: shares from %.3f to %.3f, want within 1 %%", n, lowest, highest)
		}
	}
	if mean, _ := disruption(t, maglevServers(100), 65521, 10); mean > 5 {
		t.Errorf("100 servers, 65521 slots: %.2f %% of the others' slots moved, want under 5 %%", mean)
	}

	page, err := os.ReadFile(maglevDoc)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- tables: go test ./sched -run MaglevTables -update -->\n", "<!-- end of tables -->"
	head, rest, _ := strings.Cut(string(page), begin)
	old, tail, found := strings.Cut(rest, end)
	if !found {
		t.Fatalf("%s: no place for the tables between %q and %q", maglevDoc, begin, end)
	}
	if *update {
		if err := os.WriteFile(maglevDoc, []byte(head+begin+tables+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if old != tables {
		t.Errorf("%s has other tables; run this test with -update and read the difference", maglevDoc)
	}
}

// TestMaglevSizes: every server has slots in a table of every size, even if the
// weights are very different.
func TestMaglevSizes(t *testing.T) {
	for _, size := range TableSizes() {
		servers := maglevServers(100)
		for i := range servers {
			servers[i].Weight = 1 << (i % 16)
		}
		slots := make([]int, len(servers))
		for _, i := range mustTable(t, servers, size) {
			slots[i]++
		}
		for i, n := range slots {
			if n == 0 {
				t.Errorf("%d slots: server %d of weight %d has none", size, i, servers[i].Weight)
			}
		}
	}
}

// TestSipHash: mh's hash is SipHash-1-3. The vectors are for a message of the four
// bytes 00 01 02 03, computed with the general form below.
func TestSipHash(t *testing.T) {
	for _, key := range []sipKey{slotKey, skipKey, 0, 1 << 63} {
		for _, v := range []uint32{0, 1, 0x03020100, 0x0a640001, 0xffffffff} {
			var message [4]byte
			binary.LittleEndian.PutUint32(message[:], v)
			want := uint32(sipHash(1, 3, uint64(key), uint64(key), message[:]))
			if got := key.hash(v); got != want {
				t.Errorf("key %#x, %#x: got %#x, want %#x", uint64(key), v, got, want)
			}
		}
	}
	// The reference vector of SipHash-2-4 (Aumasson and Bernstein 2012,
	// appendix A) shows that the general form is right.
	key := [2]uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	message := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}
	if got, want := sipHash(2, 4, key[0], key[1], message), uint64(0xa129ca6149be45e5); got != want {
		t.Errorf("SipHash-2-4 of 00..0e: got %#x, want %#x", got, want)
	}
}

// sipHash is SipHash-c-d with its 64-bit result.
func sipHash(c, d int, k0, k1 uint64, message []byte) uint64 {
	s := sipState{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	padded := append([]byte(nil), message...)
	for len(padded)%8 != 7 {
		padded = append(padded, 0)
	}
	padded = append(padded, byte(len(message)))
	for ; len(padded) > 0; padded = padded[8:] {
		word := binary.LittleEndian.Uint64(padded)
		s.v3 ^= word
		for range c {
			s = s.round()
		}
		s.v0 ^= word
	}
	s.v2 ^= 0xff
	for range d {
		s = s.round()
	}
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
}

// BenchmarkMaglevTable measures building mh's table, which the control plane does.
func BenchmarkMaglevTable(b *testing.B) {
	for _, size := range []int{4093, 65521} {
		b.Run(fmt.Sprintf("1000/%d", size), func(b *testing.B) {
			servers := maglevServers(1000)
			for b.Loop() {
				mustTable(b, servers, size)
			}
		})
	}
}
