package rest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// many adds services of some servers each.
func (f *fixture) many(t testing.TB, services, servers int) {
	t.Helper()
	var ops []config.Op
	for i := range services {
		vip := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i / 250), byte(i%250 + 1)}), 80).String()
		ops = append(ops, add80(vip))
		for j := range servers {
			ops = append(ops, withServer(vip, fmt.Sprintf("10.2.0.%d:%d", j+1, 1000+i)))
		}
	}
	for _, err := range f.Manager.ApplyAll(ops) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A list has what is there when its turn comes, in JSON and as gobs.
func TestListForms(t *testing.T) {
	f := newFixture(t)
	client := f.listen(t)
	if got := f.ask(t, "GET", "/v1/services", ""); got.text != "[]" {
		t.Errorf("without services: %s", got.text)
	}
	f.many(t, 3, 40)
	want := f.Manager.Services()
	var fromJSON []api.ServiceStatus
	got := f.ask(t, "GET", "/v1/services", "", "Accept: text/html, application/json")
	if err := json.Unmarshal([]byte(got.text), &fromJSON); err != nil || !reflect.DeepEqual(fromJSON, want) {
		t.Errorf("%v: %s\nwant\n%+v", err, got.text, want)
	}
	if list, err := client.Services(); err != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("%v: %+v\nwant\n%+v", err, list, want)
	}
	if got := f.ask(t, "GET", "/v1/services?limit=x", "", "Accept: "+api.Gob); got.StatusCode != 422 {
		t.Errorf("a refusal: %s, %s", got.Status, got.text)
	}
	keys, _, _ := f.Manager.Find(api.ServiceFilter{})
	f.must(t, config.Op{Kind: config.DeleteService, Service: &config.Service{ServiceKey: keys[0]}})
	var b strings.Builder
	w := bufio.NewWriter(&b)
	if err := (serviceList{f.Manager, keys[:2], false}).writeJSON(w); err != nil || w.Flush() != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(b.String()), &fromJSON); err != nil || !reflect.DeepEqual(fromJSON, want[1:2]) {
		t.Errorf("after the first was deleted: %v: %s", err, b.String())
	}
}

// BenchmarkServices lists 1,024 services of 40 servers each: JSON that is not decoded, and with
// the client. cpu-ms is the least processor time of a run, which other programs disturb less.
func BenchmarkServices(b *testing.B) {
	f := newFixture(b)
	client := f.listen(b)
	f.many(b, 1024, 40)
	for name, list := range map[string]func() (int64, error){
		"json": func() (int64, error) {
			resp, err := unixHTTP(f.socket).Get("http://uvs/v1/services")
			if err != nil {
				return 0, err
			}
			defer resp.Body.Close()
			return io.Copy(io.Discard, resp.Body)
		},
		"client": func() (n int64, err error) {
			err = client.EachService(api.ServiceFilter{}, func(*api.ServiceStatus) error { n++; return nil })
			return n, err
		},
	} {
		b.Run(name, func(b *testing.B) {
			least := time.Duration(math.MaxInt64)
			for b.Loop() {
				begin := processorTime()
				if n, err := list(); err != nil || n < 1024 {
					b.Fatal(n, err)
				}
				least = min(least, processorTime()-begin)
			}
			b.ReportMetric(least.Seconds()*1000, "cpu-ms")
		})
	}
}

func processorTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
