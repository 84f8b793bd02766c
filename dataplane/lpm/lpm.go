// Package lpm finds the longest prefix that contains an address.
package lpm

import (
	"cmp"
	"encoding/binary"
	"iter"
	"math/bits"
	"net/netip"
	"slices"

	"uvs/dataplane/wire"
)

// Table maps prefixes to values. It is immutable, and a lookup does not allocate. The
// zero value has no prefixes.
//
// It is a Poptrie (Asai and Ohara, SIGCOMM 2015). Each node of the tree decides about
// the next six bits of the address, and has only the children and leaves that differ.
type Table[V any] struct {
	nodes  []node   // the roots of IPv4 and IPv6 are first
	leaves []uint32 // index into values, plus one; 0: none
	values []V
}

// node decides about six bits. children has a bit for each six-bit value that has a child
// node. The others end in a leaf; leaves has a bit for the first of each run with the
// same leaf.
type node struct {
	children, leaves      uint64
	firstChild, firstLeaf uint32
}

// key is an address as a number, with the bits of an IPv4 address at the top.
type key struct{ hi, lo uint64 }

func keyOf(a *wire.Addr) (k key, root int) {
	if a.Is4() {
		return key{hi: uint64(binary.BigEndian.Uint32(a[12:])) << 32}, 0
	}
	return key{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}, 1
}

// next returns k without its first six bits.
func (k key) next() key { return key{k.hi<<6 | k.lo>>58, k.lo << 6} }

func (k key) compare(o key) int { return cmp.Or(cmp.Compare(k.hi, o.hi), cmp.Compare(k.lo, o.lo)) }

// Lookup returns the value of the longest prefix that contains a; nil: there is none.
func (t *Table[V]) Lookup(a *wire.Addr) *V {
	if len(t.nodes) == 0 {
		return nil
	}
	k, at := keyOf(a)
	for {
		n, bit := &t.nodes[at], uint64(1)<<(k.hi>>58)
		if n.children&bit == 0 {
			i := t.leaves[int(n.firstLeaf)+bits.OnesCount64(n.leaves&(bit-1|bit))-1]
			if i == 0 {
				return nil
			}
			return &t.values[i-1]
		}
		at = int(n.firstChild) + bits.OnesCount64(n.children&(bit-1))
		k = k.next()
	}
}

// span is a prefix from its first to its last key. leaf is as in Table.leaves.
type span struct {
	first, last key
	leaf        uint32
}

// start is where another leaf begins.
type start struct {
	key
	leaf uint32
}

// New makes a table of the prefixes. Of equal prefixes the last counts.
func New[V any](prefixes iter.Seq2[netip.Prefix, V]) *Table[V] {
	t := &Table[V]{nodes: make([]node, 2)}
	all := span{last: key{^uint64(0), ^uint64(0)}}
	families := [2][]span{{all}, {all}}
	for p, v := range prefixes {
		t.values = append(t.values, v)
		a := wire.AddrFrom(p.Addr())
		k, root := keyOf(&a)
		hi, lo := ^uint64(0)>>min(p.Bits(), 64), ^uint64(0)>>max(p.Bits()-64, 0)
		families[root] = append(families[root],
			span{key{k.hi &^ hi, k.lo &^ lo}, key{k.hi | hi, k.lo | lo}, uint32(len(t.values))})
	}
	for root, spans := range families {
		t.build(root, starts(spans), 0)
	}
	return t
}

// starts divides the address space: each start has the leaf of the longest prefix there.
func starts(spans []span) (list []start) {
	begin := func(k key, leaf uint32) {
		if n := len(list); n > 0 && list[n-1].key == k {
			list = list[:n-1]
		}
		list = append(list, start{k, leaf})
	}
	// A span comes before those that it contains.
	slices.SortStableFunc(spans, func(a, b span) int {
		return cmp.Or(a.first.compare(b.first), b.last.compare(a.last))
	})
	var open []span // each contains the next
	closeBefore := func(k key) {
		for n := len(open) - 1; n > 0 && open[n].last.compare(k) < 0; n-- {
			lo, carry := bits.Add64(open[n].last.lo, 1, 0)
			begin(key{open[n].last.hi + carry, lo}, open[n-1].leaf)
			open = open[:n]
		}
	}
	for _, s := range spans {
		closeBefore(s.first)
		begin(s.first, s.leaf)
		open = append(open, s)
	}
	closeBefore(key{^uint64(0), ^uint64(0)})
	return list
}

// build fills the node at. The keys of the starts in it begin with the node's six bits.
// leaf applies before the first.
func (t *Table[V]) build(at int, list []start, leaf uint32) {
	type child struct {
		list []start
		leaf uint32
	}
	var children []child
	n := node{firstChild: uint32(len(t.nodes)), firstLeaf: uint32(len(t.leaves))}
	for v := range uint64(64) {
		in := 0
		for ; in < len(list) && list[in].hi>>58 == v; in++ {
			list[in].key = list[in].next()
		}
		c := child{list[:in], leaf}
		list = list[in:]
		if in > 0 {
			leaf = c.list[in-1].leaf
			if c.list[0].key == (key{}) {
				c = child{c.list[1:], c.list[0].leaf}
			}
		}
		if len(c.list) > 0 {
			n.children |= 1 << v
			children = append(children, c)
		} else if n.leaves == 0 || t.leaves[len(t.leaves)-1] != leaf {
			n.leaves |= 1 << v
			t.leaves = append(t.leaves, leaf)
		}
	}
	t.nodes[at] = n
	t.nodes = append(t.nodes, make([]node, len(children))...)
	for i, c := range children {
		t.build(int(n.firstChild)+i, c.list, c.leaf)
	}
}
