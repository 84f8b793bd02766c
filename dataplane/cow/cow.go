// Package cow has a map of which a copy costs next to nothing, because it shares its entries
// until one of the two changes (copy on write).
package cow

import (
	"iter"
	"maps"
	"reflect"
)

// Shards is the number of parts of a Map. A change of a clone copies one of them.
const Shards = 256

// Key is a key that knows its shard. The keys of a map should spread over all shards.
type Key interface {
	comparable
	Shard() uint8
}

// Map is a map in shards. The zero value is empty. Copy it with Clone only. It may be read
// by many goroutines, but not while it is changed; changes of its clones do not matter.
type Map[K Key, V any] struct {
	shards [Shards]map[K]V // nil: empty
	own    [Shards]bool    // no other map has this shard
	n      int
}

// Len is the number of entries.
func (m *Map[K, V]) Len() int { return m.n }

// Get returns the value of a key; ok is false without one.
func (m *Map[K, V]) Get(key K) (value V, ok bool) {
	value, ok = m.shards[key.Shard()][key]
	return value, ok
}

// Has reports whether a key has an entry.
func (m *Map[K, V]) Has(key K) bool {
	_, ok := m.Get(key)
	return ok
}

// Shard returns the entries of one shard, which must not be changed. Code in a hurry looks a
// key up in the shard of key.Shard(), which the compiler can inline if it knows the key's
// type.
func (m *Map[K, V]) Shard(i uint8) map[K]V { return m.shards[i] }

// Set adds an entry, or replaces its value.
func (m *Map[K, V]) Set(key K, value V) {
	shard := m.writable(key)
	m.n -= len(shard)
	shard[key] = value
	m.n += len(shard)
}

// Delete removes the entry of a key, if there is one.
func (m *Map[K, V]) Delete(key K) {
	if !m.Has(key) {
		return
	}
	shard := m.writable(key)
	m.n--
	if delete(shard, key); len(shard) == 0 {
		m.shards[key.Shard()] = nil
	}
}

// writable returns the shard of a key, which only m has.
func (m *Map[K, V]) writable(key K) map[K]V {
	i := key.Shard()
	switch {
	case m.shards[i] == nil:
		m.shards[i] = map[K]V{}
	case !m.own[i]:
		m.shards[i] = maps.Clone(m.shards[i])
	}
	m.own[i] = true
	return m.shards[i]
}

// Clone returns a copy. Both may be changed from then on.
func (m *Map[K, V]) Clone() Map[K, V] {
	m.own = [Shards]bool{}
	return *m
}

// All iterates over the entries, in no order.
func (m *Map[K, V]) All() iter.Seq2[K, V] { return m.Without(new(Map[K, V])) }

// Without iterates over the entries whose keys another map does not have, in no order. It
// skips the shards that both share.
func (m *Map[K, V]) Without(other *Map[K, V]) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for i := range m.shards {
			shard := m.shards[i]
			if reflect.ValueOf(shard).Pointer() == reflect.ValueOf(other.shards[i]).Pointer() {
				continue
			}
			for key, value := range shard {
				if _, ok := other.shards[i][key]; !ok && !yield(key, value) {
					return
				}
			}
		}
	}
}

// Add adds n to the count of a key. A key without an entry has the count 0, and the other way
// round. It reports whether the key came or went.
func Add[K Key](m *Map[K, int], key K, n int) bool {
	before, _ := m.Get(key)
	if before+n == 0 {
		m.Delete(key)
		return before != 0
	}
	m.Set(key, before+n)
	return before == 0
}
