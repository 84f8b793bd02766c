package main

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"

	"uvs/bench/realserver"
	"uvs/fwd/tunnel"
)

// rsMain is `uvs rs`: a real server for tests, until SIGINT or SIGTERM.
func rsMain(args []string) int {
	var config realserver.Config
	host, _ := os.Hostname()
	fs := newFlags("rs")
	fs.StringVar(&config.Name, "name", host, "`name` to reply with")
	fs.Func("listen", "`address` to serve (repeatable; default every address)",
		repeatable(&config.Listen, netip.ParseAddr))
	fs.Func("port", fmt.Sprintf("HTTP `port` (repeatable; default %d)", realserver.HTTPPort),
		repeatable(&config.HTTPPorts, func(s string) (uint16, error) {
			port, err := strconv.ParseUint(s, 10, 16)
			return uint16(port), err
		}))
	ports := map[string]*uint{"info-port": fs.Uint("info-port", realserver.InfoPort, "lvs-info `port`, TCP and UDP")}
	fs.Func("vip", "virtual `address` to hold silently (repeatable)", repeatable(&config.VIPs, netip.ParseAddr))
	fs.BoolVar(&config.Decap, "decap", false, "decapsulate packets for the VIPs from tunnels: "+tunnel.OneOf())
	for t, e := range tunnel.All() {
		if e.Port != 0 {
			ports[t.String()+"-port"] = fs.Uint(t.String()+"-port", uint(e.Port),
				"UDP `port` of "+t.String()+" tunnels")
		}
	}
	if code, ok := parse(fs, args); !ok {
		return code
	}
	config.TunnelPorts = map[tunnel.Type]uint16{}
	for name, port := range ports {
		if *port < 1 || *port > 65535 {
			return usageError("rs", fmt.Errorf("%s is %d; want 1 to 65535", name, *port))
		}
		if t, err := tunnel.ParseType(strings.TrimSuffix(name, "-port")); err == nil {
			config.TunnelPorts[t] = uint16(*port)
		}
	}
	config.InfoPort = uint16(*ports["info-port"])

	ctx, stop := signalContext()
	defer stop()
	server, err := realserver.Start(config)
	if err != nil {
		return failed(fmt.Errorf("rs: %w", err))
	}
	daemon.SdNotify(false, daemon.SdNotifyReady) // without NOTIFY_SOCKET it does nothing
	fmt.Printf("uvs rs: %s is ready\n", config.Name)
	<-ctx.Done()
	if taken, refused := server.Tunnelled(); config.Decap {
		fmt.Printf("uvs rs: %s took %d packets out of tunnels, refused %d\n", config.Name, taken, refused)
	}
	if err := server.Close(); err != nil {
		return failed(fmt.Errorf("rs: %w", err))
	}
	return 0
}
