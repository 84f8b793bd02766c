package main

import (
	"io"
	"net/netip"
	"testing"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// BenchmarkListing prints 1024 services of 40 servers.
func BenchmarkListing(b *testing.B) {
	var list []api.ServiceStatus
	for i := range 1024 {
		s := api.ServiceStatus{Service: config.Service{Scheduler: "wlc", ServiceKey: config.ServiceKey{
			Proto: 6, Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), Port: 80,
		}}}
		for j := range 40 {
			s.ServerStatuses = append(s.ServerStatuses, api.ServerStatus{
				Server: config.Server{Method: config.MethodNAT, Weight: 1, ServerKey: config.ServerKey{
					Addr: netip.AddrFrom4([4]byte{10, 2, byte(j), byte(i)}), Port: 80,
				}}, State: "up", NextHop: "eth1 02:00:00:00:00:01",
			})
		}
		list = append(list, s)
	}
	l := listing{columns: serverColumns, list: func(_ []string, add addRow) error {
		for i := range list {
			if err := addServers(&list[i], add); err != nil {
				return err
			}
		}
		return nil
	}}
	for _, format := range []string{"table", "tsv", "json", "yaml"} {
		b.Run(format, func(b *testing.B) {
			for b.Loop() {
				if err := l.printer(format, io.Discard).print(nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
