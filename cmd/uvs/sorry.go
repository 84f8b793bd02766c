package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/fwd/tunnel"
)

// sorryNoun is also the verb of earlier versions: uvs sorry --service S SERVER|--clear.
func sorryNoun() *cobra.Command {
	sorry := newSorryLine()
	cmd := noun("sorry", "set the server for connections that no other can take", sorrySet(), sorryClear())
	cmd.Long = "The options here are those of earlier versions, for scripts."
	cmd.Example = "uvs sorry --service tcp:192.0.2.10:80 10.0.0.9 -m"
	cmd.Flags().AddFlagSet(sorry.Flags())
	cmd.RunE = func(_ *cobra.Command, words []string) error {
		if cmd.Flags().NFlag() == 0 {
			return wantVerb(cmd, words)
		}
		return sorry.RunE(cmd, words)
	}
	return cmd
}

func sorrySet() *cobra.Command {
	given := members{}
	cmd := &cobra.Command{
		Use: "set SERVICE SERVER", Short: "give a service a sorry server",
		Long:    "Its port is the service's and its method nat unless others are given.",
		Example: "uvs sorry set tcp:192.0.2.10:80 10.0.0.9:8080\nuvs sorry set tcp:192.0.2.10:80 10.0.0.9 --method dr",
	}
	given.options(cmd, serverFields[:1], tunnelFields)
	return newChange(cmd, (*api.Client).Apply, func(words []string) (op config.Op, err error) {
		key, server, err := serverWords(cmd, words)
		if err != nil {
			return op, err
		}
		op = config.Op{Kind: config.SetSorry, Service: &config.Service{ServiceKey: key}, Server: new(config.Server)}
		return op, given.over(config.Server{ServerKey: server}, op.Server)
	}).Command
}

func sorryClear() *cobra.Command {
	cmd := &cobra.Command{
		Use: "clear SERVICE", Short: "take the sorry server of a service away",
		Example: "uvs sorry clear tcp:192.0.2.10:80",
	}
	return newChange(cmd, (*api.Client).Apply, func(words []string) (op config.Op, err error) {
		if err := countWords(cmd, words); err != nil {
			return op, err
		}
		key, err := parseService(words[0])
		return config.Op{Kind: config.SetSorry, Service: &config.Service{ServiceKey: key}}, err
	}).Command
}

// newSorryLine makes the verb of `uvs save`: sorry --service S ADDR[:PORT] [-g|-m|-i [TUNNEL OPTIONS]].
func newSorryLine() change {
	cmd := &cobra.Command{Use: "sorry SERVER"}
	fs := cmd.Flags()
	join := func(holds func(*tunnel.Encapsulation) bool) string { return strings.Join(tunnel.Names(holds), ", ") }
	service := fs.String("service", "", "of this `SERVICE`, e.g. tcp:192.0.2.1:80")
	clear := fs.Bool("clear", false, "take the sorry server away")
	direct := fs.BoolP("g", "g", false, "reach it by direct routing (default)")
	tunnelled := fs.BoolP("i", "i", false, "reach it by a tunnel")
	nat := fs.BoolP("m", "m", false, "reach it by NAT")
	tunType := fs.String("tun-type", tunnel.IPIP.String(), "`TYPE` of the tunnel: "+tunnel.OneOf())
	tunPort := fs.Uint("tun-port", 0, join(tunnel.HasPort)+": destination `PORT`")
	tunCsum := fs.Bool("tun-csum", false, join(tunnel.HasFlag(tunnel.Csum))+": with a checksum")
	tunRemCsum := fs.Bool("tun-remcsum", false, join(tunnel.HasFlag(tunnel.RemCsum))+": with remote checksum offload")
	return newChange(cmd, (*api.Client).Apply, func(words []string) (op config.Op, err error) {
		if *service == "" {
			return op, fmt.Errorf("name a service with --service, e.g. tcp:192.0.2.1:80")
		}
		key, err := parseService(*service)
		if err != nil {
			return op, err
		}
		op = config.Op{Kind: config.SetSorry, Service: &config.Service{ServiceKey: key}}
		switch {
		case *clear && len(words) == 0:
			return op, nil
		case *clear || len(words) != 1:
			return op, fmt.Errorf("name one server, e.g. 10.0.0.9 or 10.0.0.9:8080, or --clear")
		}
		at, err := parseServer(words[0], key)
		if err != nil {
			return op, err
		}
		// The director checks which options go together.
		server := &config.Server{ServerKey: at, Tunnel: config.Tunnel{Port: uint16(*tunPort)}}
		op.Server = server
		if server.Method, err = sorryMethod(*direct, *tunnelled, *nat); err != nil {
			return op, err
		}
		if *tunPort > 65535 {
			return op, fmt.Errorf("tun-port is %d; want 1 to 65535", *tunPort)
		}
		switch {
		case *tunCsum && *tunRemCsum:
			return op, fmt.Errorf("--tun-csum and --tun-remcsum exclude each other")
		case *tunCsum:
			server.Tunnel.Checksum = tunnel.Csum
		case *tunRemCsum:
			server.Tunnel.Checksum = tunnel.RemCsum
		}
		server.Tunnel.Type, err = tunnel.ParseType(*tunType)
		return op, err
	})
}

func sorryMethod(direct, tunnelled, nat bool) (config.Method, error) {
	switch {
	case !tunnelled && !nat:
		return config.MethodDR, nil
	case tunnelled && !nat && !direct:
		return config.MethodTunnel, nil
	case nat && !tunnelled && !direct:
		return config.MethodNAT, nil
	}
	return 0, fmt.Errorf("-g, -i and -m exclude each other")
}
