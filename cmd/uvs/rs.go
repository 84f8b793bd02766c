package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"uvs/bench/realserver"
)

// rsMain is `uvs rs`: a real server with a built-in test service, until SIGINT
// or SIGTERM.
func rsMain(args []string) int {
	var config realserver.Config
	var info, gue uint
	host, _ := os.Hostname()
	fs := newFlags("rs")
	fs.StringVar(&config.Name, "name", host, "`name` to answer with")
	fs.Func("listen", "`address` to serve (repeatable; default every address)", appendAddr(&config.Listen))
	fs.Func("port", fmt.Sprintf("HTTP `port` (repeatable; default %d)", realserver.HTTPPort), func(s string) error {
		port, err := strconv.ParseUint(s, 10, 16)
		config.HTTPPorts = append(config.HTTPPorts, uint16(port))
		return err
	})
	fs.UintVar(&info, "info-port", realserver.InfoPort, "lvs-info `port`, TCP and UDP")
	fs.Func("vip", "virtual `address` to hold silently (repeatable)", appendAddr(&config.VIPs))
	fs.BoolVar(&config.Decap, "decap", false, "take packets for the VIPs out of IPIP, GRE and GUE tunnels")
	fs.UintVar(&gue, "gue-port", realserver.GUEPort, "UDP `port` of GUE tunnels")
	if code, ok := parse(fs, args); !ok {
		return code
	}
	for name, port := range map[string]uint{"info-port": info, "gue-port": gue} {
		if port < 1 || port > 65535 {
			return usageError("rs", fmt.Errorf("%s is %d; want 1 to 65535", name, port))
		}
	}
	config.InfoPort, config.GUEPort = uint16(info), uint16(gue)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	server, err := realserver.Start(config)
	if err != nil {
		return failed(fmt.Errorf("rs: %w", err))
	}
	daemon.SdNotify(false, daemon.SdNotifyReady) // without NOTIFY_SOCKET nobody listens
	fmt.Printf("uvs rs: %s is ready\n", config.Name)
	<-stop
	if taken, refused := server.Tunnelled(); config.Decap {
		fmt.Printf("uvs rs: %s took %d packets out of tunnels, refused %d\n", config.Name, taken, refused)
	}
	if err := server.Close(); err != nil {
		return failed(fmt.Errorf("rs: %w", err))
	}
	return 0
}

// appendAddr makes a repeatable address option.
func appendAddr(list *[]netip.Addr) func(string) error {
	return func(s string) error {
		addr, err := netip.ParseAddr(s)
		*list = append(*list, addr)
		return err
	}
}
