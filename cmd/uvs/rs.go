package main

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"uvs/bench/realserver"
)

// rsMain is `uvs rs`: a real server with a built-in test service, until SIGINT
// or SIGTERM.
func rsMain(args []string) int {
	config, err := rsConfig(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2 // the flag package has said why
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	server, err := realserver.Start(config)
	if err != nil {
		fmt.Fprintf(os.Stderr, "uvs rs: %v\n", err)
		return 1
	}
	daemon.SdNotify(false, daemon.SdNotifyReady) // without NOTIFY_SOCKET nobody listens
	fmt.Printf("uvs rs: %s is ready\n", config.Name)
	<-stop
	if taken, refused := server.Tunnelled(); config.Decap {
		fmt.Printf("uvs rs: %s took %d packets out of tunnels, refused %d\n", config.Name, taken, refused)
	}
	if err := server.Close(); err != nil {
		fmt.Fprintf(os.Stderr, "uvs rs: %v\n", err)
		return 1
	}
	return 0
}

// rsConfig reads the options of `uvs rs`.
func rsConfig(args []string) (realserver.Config, error) {
	var c realserver.Config
	var info uint
	host, _ := os.Hostname()
	f := flag.NewFlagSet("uvs rs", flag.ContinueOnError)
	f.StringVar(&c.Name, "name", host, "`name` to answer with")
	f.Func("listen", "`address` to serve (repeatable; default every address)", appendAddr(&c.Listen))
	f.Func("port", fmt.Sprintf("HTTP `port` (repeatable; default %d)", realserver.HTTPPort), func(s string) error {
		port, err := strconv.ParseUint(s, 10, 16)
		c.HTTPPorts = append(c.HTTPPorts, uint16(port))
		return err
	})
	f.UintVar(&info, "info-port", realserver.InfoPort, "lvs-info `port`, TCP and UDP")
	f.Func("vip", "virtual `address` to hold silently (repeatable)", appendAddr(&c.VIPs))
	f.BoolVar(&c.Decap, "decap", false, "take packets for the VIPs out of IPIP tunnels")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	var err error
	switch {
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", strings.Join(f.Args(), " "))
	case info < 1 || info > 65535:
		err = fmt.Errorf("info-port is %d; want 1 to 65535", info)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "uvs rs: %v\n", err)
	}
	c.InfoPort = uint16(info)
	return c, err
}

// appendAddr makes a repeatable address option.
func appendAddr(list *[]netip.Addr) func(string) error {
	return func(s string) error {
		addr, err := netip.ParseAddr(s)
		*list = append(*list, addr)
		return err
	}
}
