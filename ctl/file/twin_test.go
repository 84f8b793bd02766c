package file

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"

	"github.com/goccy/go-yaml"
)

const twinSeed = `a:
  - b: 1
    c: [x, {d: 2}]
  - - e
    - f g
  -
    h: |
      text
      more
    i: "q\n"
    j: 'it''s' # it is
k: {l: [], m: {}, o: &p 0x10, p: *p}
q: &r
  - s: >-
      t
      u
v: *r
`

// TestTwin: what goccy/go-yaml reads from a file that both read is the same.
func TestTwin(t *testing.T) {
	both := 0
	for seed := range uint64(4000) {
		text := mutate(rand.New(rand.NewPCG(3, seed)), []byte(twinSeed))
		in, err := newSource("x", text)
		// goccy/go-yaml takes long for the long ones, and lets what is merged replace names before it.
		if len(text) > 2*len(twinSeed) || err != nil || bytes.Contains(text, []byte("<<")) {
			continue
		}
		root, err := parseYAML(in)
		if err != nil || root == nil || !root.hasPlainNames() {
			continue
		}
		var e encoder
		var mine, theirs any
		if e.append(root, false) != nil || yaml.Unmarshal(in.text, &theirs) != nil {
			continue
		}
		if err := json.Unmarshal(e.text, &mine); err != nil {
			t.Fatal(err)
		}
		both++
		got, _ := json.Marshal(mine)
		if want, err := json.Marshal(theirs); err != nil || !bytes.Equal(got, want) {
			t.Errorf("seed %d: %s\nis read as %s\nwant %s", seed, text, got, want)
		}
	}
	if both < 500 {
		t.Errorf("both read only %d files", both)
	}
}

// hasPlainNames reports whether all names are texts; goccy/go-yaml writes numbers its own way.
func (n *node) hasPlainNames() bool {
	for _, item := range n.items {
		if !item.hasPlainNames() {
			return false
		}
	}
	for _, m := range n.members {
		if !isPlain(m.name) || !m.value.hasPlainNames() {
			return false
		}
	}
	return true
}
