package streamtest

import (
	"flag"
	"math/rand/v2"
	"testing"
)

// Runs is how often a test runs with other random numbers, as flags say: how often, the
// seed (0: a random one), and the first run.
type Runs struct {
	name           string
	n, seed, first *uint64
	short          uint64
}

// NewRuns declares the flags name, seed and first. short is the most runs of short tests.
func NewRuns(name string, n, short uint64) Runs {
	return Runs{
		name:  name,
		n:     flag.Uint64(name, n, "how many random ones a test tries"),
		seed:  flag.Uint64("seed", 0, "their seed; 0: a random one"),
		first: flag.Uint64("first", 0, "the first of them"),
		short: short,
	}
}

// Run calls run until it fails. A failure prints the flags that repeat it.
func (r Runs) Run(t *testing.T, run func(t *testing.T, rng *rand.Rand)) {
	seed, n := *r.seed, *r.n
	if seed == 0 {
		seed = rand.Uint64()
	}
	if testing.Short() {
		n = min(n, r.short)
	}
	i := *r.first
	defer func() {
		if t.Failed() {
			t.Logf("-seed %d -first %d -%s 1", seed, i, r.name)
		}
	}()
	for ; i < *r.first+n; i++ {
		if run(t, rand.New(rand.NewPCG(seed, i))); t.Failed() {
			return
		}
	}
}
