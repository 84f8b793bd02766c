package api

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/go-json-experiment/json"

	"uvs/ctl/config"
	"uvs/fwd/tunnel"
)

// fill gives all fields that can have one a value that is not zero.
func fill(v reflect.Value, n *uint64) {
	for i := range v.NumField() {
		*n++
		switch f := v.Field(i); {
		case !f.CanSet():
		case f.Type() == reflect.TypeFor[netip.Addr]():
			f.Set(reflect.ValueOf(netip.AddrFrom4([4]byte{10, 0, 0, byte(*n)})))
		case f.Type() == reflect.TypeFor[config.Tunnel]():
			f.Set(reflect.ValueOf(config.Tunnel{Type: tunnel.GUE, Port: 6080, Checksum: 1}))
		case f.Kind() == reflect.Struct:
			fill(f, n)
		case f.Kind() == reflect.String:
			f.SetString(`eth0 "x" <é>`)
		case f.CanInt():
			f.SetInt(int64(*n))
		case f.Type() == reflect.TypeFor[config.Method](), f.Type() == reflect.TypeFor[config.Admin]():
			f.SetUint(2)
		case f.CanUint():
			f.SetUint(*n)
		}
	}
}

// A list is the same JSON as by reflection, with all fields and with as few as can be.
func TestServiceListJSON(t *testing.T) {
	var full ServerStatus
	n := uint64(1000)
	fill(reflect.ValueOf(&full).Elem(), &n)
	full.Sorry = false
	empty := ServerStatus{Server: config.Server{ServerKey: config.ServerKey{Addr: netip.IPv6Loopback()}}}
	list := []ServiceStatus{
		{Service: config.Service{Scheduler: "wlc"}, ServerStatuses: []ServerStatus{full, empty}, Sorry: &full},
		{Service: config.Service{Scheduler: "rr", Settings: config.Values{"slow_start": 30}}},
	}
	for _, list := range [][]ServiceStatus{list, {}, nil} {
		want, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := (&ServiceList{Services: list}).AppendJSON(nil); err != nil || string(got) != string(want) {
			t.Errorf("%s\n%v\nwant\n%s", got, err, want)
		}
	}
}
