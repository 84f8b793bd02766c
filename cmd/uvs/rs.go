package main

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"uvs/bench/realserver"
	"uvs/fwd/tunnel"
)

// rsVerb runs a real server for tests, until SIGINT or SIGTERM.
func rsVerb() *cobra.Command {
	var config realserver.Config
	host, _ := os.Hostname()
	cmd := &cobra.Command{
		Use: "rs", Short: "run a real server for tests: reply, hold the VIP, decapsulate",
		Example: "uvs rs --name s1 --port 8080",
	}
	fs := cmd.Flags()
	fs.StringVar(&config.Name, "name", host, "`NAME` to reply with")
	fs.Func("listen", "`ADDRESS` to serve (repeatable; default every address)",
		repeatable(&config.Listen, netip.ParseAddr))
	fs.Func("port", fmt.Sprintf("HTTP `PORT` (repeatable; default %d)", realserver.HTTPPort),
		repeatable(&config.HTTPPorts, func(s string) (uint16, error) {
			port, err := strconv.ParseUint(s, 10, 16)
			return uint16(port), err
		}))
	ports := map[string]*uint{"info-port": fs.Uint("info-port", realserver.InfoPort, "lvs-info `PORT`, TCP and UDP")}
	fs.Func("vip", "virtual `ADDRESS` to hold silently (repeatable)", repeatable(&config.VIPs, netip.ParseAddr))
	fs.BoolVar(&config.Decap, "decap", false, "decapsulate packets for the VIPs from tunnels: "+tunnel.OneOf())
	for t, e := range tunnel.All() {
		if e.Port != 0 {
			ports[t.String()+"-port"] = fs.Uint(t.String()+"-port", uint(e.Port),
				"UDP `PORT` of "+t.String()+" tunnels")
		}
	}
	cmd.RunE = func(*cobra.Command, []string) error {
		config.TunnelPorts = map[tunnel.Type]uint16{}
		for name, port := range ports {
			if *port < 1 || *port > 65535 {
				return misused("%s is %d; want 1 to 65535", name, *port)
			}
			if t, err := tunnel.ParseType(strings.TrimSuffix(name, "-port")); err == nil {
				config.TunnelPorts[t] = uint16(*port)
			}
		}
		config.InfoPort = uint16(*ports["info-port"])

		return serveReal(config)
	}
	return cmd
}

// serveReal runs a real server until a signal.
func serveReal(config realserver.Config) error {
	ctx, stop := signalContext()
	defer stop()
	server, err := realserver.Start(config)
	if err != nil {
		return fmt.Errorf("rs: %w", err)
	}
	daemon.SdNotify(false, daemon.SdNotifyReady) // without NOTIFY_SOCKET it does nothing
	fmt.Printf("uvs rs: %s is ready\n", config.Name)
	<-ctx.Done()
	if taken, refused := server.Tunnelled(); config.Decap {
		fmt.Printf("uvs rs: %s took %d packets out of tunnels, refused %d\n", config.Name, taken, refused)
	}
	if err := server.Close(); err != nil {
		return fmt.Errorf("rs: %w", err)
	}
	return nil
}
