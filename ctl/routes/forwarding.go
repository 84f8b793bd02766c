package routes

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netconf reads which interfaces forward (net.ipv4.conf.IF.forwarding and IPv6's): the
// kernel's RTM_GETNETCONF, of which the netlink package knows nothing.
type netconf struct{ sockets map[int]*nl.SocketHandle }

// forwardingKey is a family and the index of an interface.
type forwardingKey struct{ family, index int }

// The kernel's include/uapi/linux/netconf.h.
const (
	netconfIfindex    = 1
	netconfForwarding = 2
	netconfHeader     = 4  // struct netconfmsg, padded
	allLinks          = -1 // NETCONFA_IFINDEX_ALL: net.ipv6.conf.all
)

func openNetconf() (*netconf, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &netconf{map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}, nil
}

func (c *netconf) close() { c.sockets[unix.NETLINK_ROUTE].Close() }

// family is a struct netconfmsg as a request.
type family byte

func (f family) Len() int { return netconfHeader }

func (f family) Serialize() []byte { return []byte{byte(f), 0, 0, 0} }

// read returns the interfaces that forward. Interfaces without IPv6 are not in the answer.
func (c *netconf) read() (map[forwardingKey]bool, error) {
	forwarding := map[forwardingKey]bool{}
	for _, f := range []family{unix.AF_INET, unix.AF_INET6} {
		req := nl.NewNetlinkRequest(unix.RTM_GETNETCONF, unix.NLM_F_DUMP)
		req.Sockets = c.sockets
		req.AddData(f)
		messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNETCONF)
		if err != nil {
			return nil, fmt.Errorf("list forwarding: %w", err)
		}
		for _, m := range messages {
			if key, on, ok := parseNetconf(m); ok && on {
				forwarding[key] = true
			}
		}
	}
	return forwarding, nil
}

// parseNetconf parses an RTM_NEWNETCONF without its header.
func parseNetconf(m []byte) (key forwardingKey, on, ok bool) {
	if len(m) < netconfHeader {
		return key, false, false
	}
	attrs, err := nl.ParseRouteAttr(m[netconfHeader:])
	if err != nil {
		return key, false, false
	}
	key.family = int(m[0])
	for _, a := range attrs {
		if len(a.Value) < 4 {
			continue
		}
		switch v := int32(binary.NativeEndian.Uint32(a.Value)); a.Attr.Type {
		case netconfIfindex:
			key.index = int(v)
		case netconfForwarding:
			on, ok = v != 0, true
		}
	}
	return key, on, ok && key.index != 0
}
