package rest

import (
	"fmt"
	"io"
	"testing"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// large is a director with 1,024 services of 40 servers each.
func large(b *testing.B) (*fixture, *api.Client) {
	f := newFixture(b)
	c := f.listen(b)
	var d config.Document
	for i := range 1024 {
		svc := config.Service{ServiceKey: key(fmt.Sprintf("tcp:10.9.%d.%d:80", i/250, i%250+1)), Scheduler: "wlc"}
		for j := range 40 {
			server := withServer(vip, fmt.Sprintf("10.2.%d.%d:80", i/250, (i+j)%250+1)).Server
			svc.Servers = append(svc.Servers, *server)
		}
		d.Services = append(d.Services, svc)
	}
	if _, err := c.ApplyDocument(&d, api.ApplyOptions{How: "apply"}); err != nil {
		b.Fatal(err)
	}
	return f, c
}

// BenchmarkRequests measures requests as a client sees them, beside 1,024 services of 40
// servers each.
func BenchmarkRequests(b *testing.B) {
	f, c := large(b)
	http := unixHTTP(f.socket)
	one := key("tcp:10.9.1.7:80")
	change := config.Op{Kind: config.EditServer, Service: &config.Service{ServiceKey: one}}
	for _, row := range []struct {
		name string
		do   func(n int) error
	}{
		{"listing", func(int) error { _, err := c.Services(); return err }},
		{"brief-listing", func(int) error { _, err := c.ServicesOf(api.ServiceFilter{Brief: true}); return err }},
		{"text-of-listing", func(int) error {
			resp, err := http.Get("http://uvs/v1/services")
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			return err
		}},
		{"service", func(int) error { _, err := c.Service(one); return err }},
		{"settings", func(int) error { _, err := c.Settings(&one); return err }},
		{"change", func(n int) error {
			s, _ := c.Service(one)
			server := s.ServerStatuses[0].Server
			server.Weight = int32(n % 100)
			change.Server = &server
			return c.Apply(change)
		}},
	} {
		b.Run(row.name, func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				if err := row.do(n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
