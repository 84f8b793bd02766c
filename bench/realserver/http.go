package realserver

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// pages returns the HTTP handler of a server:
//
//	GET /            the server's name, the client's address and the server's address
//	GET /bytes?n=N   N bytes of Pattern
//	PUT, POST /discard  "NAME N": the number of bytes received
//	PUT, POST /…        "NAME N SHA256": and their hash
//
// Every response has the server's name in X-Server.
func pages(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s\nclient %s\nserver %s\n", name, r.RemoteAddr, r.Context().Value(http.LocalAddrContextKey))
	})
	mux.HandleFunc("GET /bytes", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, fmt.Sprintf("n is %q; want a number of bytes", r.FormValue("n")), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		w.Header().Set("Content-Type", "application/octet-stream")
		(&Pattern{}).send(w, n) // an error means that the client left
	})
	discard := func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			fmt.Fprintf(w, "%s %d\n", name, n)
		}
	}
	hash := func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if err == nil {
			fmt.Fprintf(w, "%s %d %x\n", name, n, sum.Sum(nil))
		}
	}
	for _, method := range []string{"PUT", "POST"} {
		mux.HandleFunc(method+" /discard", discard)
		mux.HandleFunc(method+" /", hash)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Server", name)
		mux.ServeHTTP(w, r)
	})
}

// Pattern is an endless reader of bytes that look random and are the same every
// time. It repeats after patternLen bytes. That is an odd number, so a lost,
// doubled or swapped packet of any even size changes the sequence.
type Pattern struct {
	pos int // next byte, below patternLen
}

const patternLen = 256<<10 + 13

// patternBytes holds two periods, so that any run of up to patternLen bytes is
// contiguous.
var patternBytes = func() []byte {
	b := make([]byte, 2*patternLen)
	x := uint32(2463534242) // Marsaglia, Xorshift RNGs, 2003: xorshift32 and its seed
	for i := range patternLen {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i], b[i+patternLen] = byte(x), byte(x)
	}
	return b
}()

// Read fills p; it never fails.
func (r *Pattern) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], r.next(len(p)-n))
	}
	return n, nil
}

// next returns up to n further bytes of the pattern, which the caller must not
// change.
func (r *Pattern) next(n int) []byte {
	n = min(n, patternLen)
	b := patternBytes[r.pos : r.pos+n]
	r.pos = (r.pos + n) % patternLen
	return b
}

// send writes n bytes of the pattern from its table, so that a throughput
// measurement does not include the time to make them.
func (r *Pattern) send(w io.Writer, n int64) error {
	for n > 0 {
		sent, err := w.Write(r.next(int(min(n, patternLen))))
		if err != nil {
			return err
		}
		n -= int64(sent)
	}
	return nil
}

// Checker is a writer that compares what is written to it with Pattern.
type Checker struct {
	want Pattern
	n    int64 // correct bytes so far
}

// Write fails at the first byte that differs. The error has its position.
func (c *Checker) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		want := c.want.next(len(p) - done)
		got := p[done : done+len(want)]
		if !bytes.Equal(got, want) {
			i := 0
			for got[i] == want[i] {
				i++
			}
			return done + i, fmt.Errorf("byte %d is %#02x, want %#02x", c.n+int64(i), got[i], want[i])
		}
		done += len(want)
		c.n += int64(len(want))
	}
	return len(p), nil
}

// Len returns the number of correct bytes.
func (c *Checker) Len() int64 { return c.n }
