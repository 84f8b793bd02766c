package sched

import (
	"cmp"
	"encoding/binary"

	"uvs/dataplane/wire"
)

// Fields are the fields of a flow that dh, sh and mh hash.
type Fields uint8

const (
	FieldClient     Fields = 1 << iota // source address
	FieldClientPort                    // source port
	FieldVIP                           // destination address
	FieldPort                          // destination port

	AllFields = FieldClient | FieldClientPort | FieldVIP | FieldPort
)

// key returns the sum of the fields, as IPVS adds an address and a port.
func (s Fields) key(f *Flow) uint32 {
	var key uint32
	if s&FieldClient != 0 {
		key = fold(&f.Client)
	}
	if s&FieldClientPort != 0 {
		key += uint32(f.ClientPort)
	}
	if s&FieldVIP != 0 {
		key += fold(&f.VIP)
	}
	if s&FieldPort != 0 {
		key += uint32(f.Port)
	}
	return key
}

// fold returns an address as one number: an IPv4 address itself, or the XOR of the
// four words of an IPv6 address.
func fold(a *wire.Addr) uint32 {
	last := binary.BigEndian.Uint32(a[12:])
	if a.Is4() {
		return last
	}
	return binary.BigEndian.Uint32(a[0:]) ^ binary.BigEndian.Uint32(a[4:]) ^ binary.BigEndian.Uint32(a[8:]) ^ last
}

// hashed looks up the server of a flow in a table: dh, sh and mh.
type hashed struct {
	pool
	down     []bool
	fields   Fields
	maglev   bool     // use mh's hash function, not that of dh and sh
	fallback bool     // try other slots if the server is not eligible
	table    []uint16 // list indexes; empty: there is no server
}

// tableSH is the number of slots of dh and sh (IP_VS_DH_TAB_BITS and
// IP_VS_SH_TAB_BITS, 8).
const tableSH = 1 << 8

func newDH(_ Flags, servers []Server, o Options) (Picker, error) {
	h := newHashed(servers, o, FieldVIP)
	h.table = fillTable(servers, func(*Server) int32 { return 1 })
	return h, nil
}

func newSH(f Flags, servers []Server, o Options) (Picker, error) {
	h := newHashed(servers, o, sourceFields(f))
	h.table = fillTable(servers, func(s *Server) int32 { return max(s.Weight, 1) })
	h.fallback = f&Flag1 != 0
	return h, nil
}

func newMH(f Flags, servers []Server, o Options) (Picker, error) {
	h := newHashed(servers, o, sourceFields(f))
	h.maglev = true
	h.fallback = f&Flag1 != 0
	var err error
	h.table, err = maglevTable(servers, o.Table)
	return h, err
}

// sourceFields returns the fields of sh and mh. Flag2 is their port flag.
func sourceFields(f Flags) Fields {
	if f&Flag2 != 0 {
		return FieldClient | FieldClientPort
	}
	return FieldClient
}

func newHashed(servers []Server, o Options, fields Fields) *hashed {
	h := &hashed{pool: newPool(servers), down: make([]bool, len(servers)), fields: cmp.Or(o.Fields, fields)}
	for i := range servers {
		h.down[i] = servers[i].Down
	}
	return h
}

// fillTable fills a table of dh or sh. Each server gets share consecutive slots, in
// list order, again and again until the table is full.
func fillTable(servers []Server, share func(*Server) int32) []uint16 {
	if len(servers) == 0 {
		return nil
	}
	table := make([]uint16, 0, tableSH)
	for {
		for i := range servers {
			for range share(&servers[i]) {
				if len(table) == tableSH {
					return table
				}
				table = append(table, uint16(i))
			}
		}
	}
}

// slot returns the slot of a key. offset is 0, or another number for each attempt of
// the fallback. dh and sh add it to the hash, which is the kernel's hash_32; mh
// adds it to the key.
func (h *hashed) slot(key, offset uint32) uint32 {
	if h.maglev {
		return slotKey.hash(key+offset) % uint32(len(h.table))
	}
	return (key*0x61C88647>>24 + offset) % tableSH
}

// Pick does not use the Cursor.
func (h *hashed) Pick(_ *Cursor, f Flow) int {
	if len(h.table) == 0 {
		return -1
	}
	key := h.fields.key(&f)
	first := h.slot(key, 0)
	i := int(h.table[first])
	if h.eligible(i) {
		return i
	}
	if !h.fallback && !h.down[i] {
		return -1
	}
	return h.pickFallback(key, first)
}

// pickFallback tries as many offsets as the table has slots. The first offset is the
// number of the slot whose server was not eligible.
func (h *hashed) pickFallback(key, first uint32) int {
	if !h.anyEligible() {
		return -1
	}
	size := uint32(len(h.table))
	for n := range size {
		i := int(h.table[h.slot(key, (first+n)%size)])
		if h.eligible(i) {
			return i
		}
	}
	return -1
}
