package ipvsadm

import (
	"fmt"
	"strings"

	"uvs/fwd/tunnel"
)

// Version is the version of uvs, which -h and -v print.
var Version = "dev"

// versionLine starts like ipvsadm's, for scripts that look for its version.
func versionLine() string {
	return "ipvsadm v1.31 (uvs " + Version + ", IPVS v" + kernelVersion + ")\n"
}

// helpText is the text of -h after the version, a format for tunnelHelp.
const helpText = `Usage:
  ipvsadm -A|-E SERVICE [-s SCHEDULER] [-p [SECONDS]] [-M NETMASK] [--pe ENGINE] [-o] [-b FLAGS]
  ipvsadm -D SERVICE
  ipvsadm -a|-e SERVICE -r SERVER [-g|-i|-m] [-w WEIGHT] [-x UPPER] [-y LOWER] [TUNNEL OPTIONS]
  ipvsadm -d SERVICE -r SERVER
  ipvsadm [-L|-l [SERVICE] [LISTING OPTIONS]]
  ipvsadm -Z [SERVICE]
  ipvsadm -C
  ipvsadm -S [-n]
  ipvsadm -R
  ipvsadm --set TCP TCPFIN UDP
  ipvsadm -h | -v

The command comes first; letters can be bundled (-Ln).

Commands:
  --add-service     -A      add a virtual service
  --edit-service    -E      give a virtual service new settings; those not named get their defaults
  --delete-service  -D      remove a virtual service
  --add-server      -a      add a real server to a service
  --edit-server     -e      give a real server new settings; those not named get their defaults
  --delete-server   -d      remove a real server
  --list            -L, -l  list the table (the default)
  --zero            -Z      set the counters of a service, or all, to zero
  --clear           -C      remove all services
  --save            -S      print the table as commands that restore it
  --restore         -R      do the commands on standard input, one a line
  --set                     set idle times in seconds; 0 leaves one as it is
  --start-daemon            refused, as --stop-daemon: there is no sync daemon
  --help            -h      print this
  --version         -v      print the version

SERVICE is one of:
  --tcp-service     -t HOST[:PORT]
  --udp-service     -u HOST[:PORT]
  --sctp-service       HOST[:PORT]
  --fwmark-service  -f MARK     packets with this firewall mark, 1 to 4294967295
  --ipv6            -6          after -f: the IPv6 packets with it
An IPv6 address with a port is written [ADDRESS]:PORT. Port 0, or none, means
all ports and needs -p.

Service options:
  --scheduler       -s NAME     rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos none (wlc)
  --persistent      -p [SECONDS]  keep a client on its server (360)
  --netmask         -M NETMASK  clients that the mask makes equal share a server; IPv6: a prefix length
  --pe                 ENGINE   persistence engine: sip
  --ops             -o          schedule every UDP packet on its own
  --sched-flags     -b FLAGS    with commas: sh-fallback sh-port mh-fallback mh-port
                                flag-1 flag-2 flag-3

Server options:
  --real-server     -r HOST[:PORT]
  --gatewaying      -g          direct routing (the default)
  --ipip            -i          tunnel
  --masquerading    -m          NAT
  --weight          -w WEIGHT   share of new connections; 0: none (1)
  --u-threshold     -x UPPER    no new connections from this many on; 0: never (0)
  --l-threshold     -y LOWER    until there are fewer than this many again (0)

%s
Listing options:
  --connection      -c          list connections
  --timeout                     list idle times
  --daemon                      list sync daemons: none
  --stats                       show counters
  --rate                        show counters per second
  --thresholds                  show thresholds
  --persistent-conn             show persistence; with -c, persistence engines
  --tun-info                    show tunnels
  --numeric         -n          addresses and ports as numbers
  --exact           -X          counters in full
  --nosort                      services and servers as the director keeps them
  --sort                        accepted and ignored

Read, but without use: --syncid --sync-maxlen --mcast-interface --mcast-group
--mcast-port --mcast-ttl
`

// tunnelHelp returns the options of tunnels and the types that take them.
func tunnelHelp() string {
	names := func(separator string, holds func(*tunnel.Encapsulation) bool) string {
		return strings.Join(tunnel.Names(holds), separator)
	}
	return fmt.Sprintf(`Tunnel options, with -i:
  --tun-type           TYPE     %s (%s)
  --tun-port           PORT     %s: destination port
  --tun-nocsum                  %[4]s: no checksum (the default)
  --tun-csum                    %[4]s: checksum
  --tun-remcsum                 %s: as --tun-csum
`, names(" ", tunnel.Every), tunnel.IPIP, names(", ", tunnel.HasPort),
		names(", ", tunnel.HasFlag(tunnel.Csum)), names(", ", tunnel.HasFlag(tunnel.RemCsum)))
}
