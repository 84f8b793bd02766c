package guard

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	rtnetlink "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tablePrefix starts the name of the table of every Guard.
const tablePrefix = "uvs-"

// tableOwner is NFT_TABLE_F_OWNER (linux/netfilter/nf_tables.h, since Linux
// 5.12). The socket that created the table owns it: no other process can change
// it, and the kernel deletes it with the socket, even after a kill.
const tableOwner = 2

// socketBuffer is the size in bytes of the netlink socket's send and receive
// buffers. A transaction is sent whole and has to fit. At 36 bytes for an
// element with an IPv6 address, some 200,000 elements do.
const socketBuffer = 8 << 20

// open connects, removes the tables of killed processes, and creates the table.
func (g *Guard) open() error {
	var socket *netlink.Conn
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		socket = c
		return errors.Join(c.SetWriteBuffer(socketBuffer), c.SetReadBuffer(socketBuffer))
	}))
	if err != nil {
		return fmt.Errorf("open nftables: %w", explainErrno(err))
	}
	g.conn, g.socket = conn, socket
	if err = g.removeStale(); err == nil {
		err = g.newTable(socket)
	}
	if err == nil {
		g.links, err = rtnetlink.NewHandle(unix.NETLINK_ROUTE)
	}
	if err != nil {
		conn.CloseLasting()
		return explainErrno(err)
	}
	return nil
}

// newTable creates the table under a new name. On a kernel without table
// owners, nameLock shows that the table is in use.
func (g *Guard) newTable(socket *netlink.Conn) error {
	var id [4]byte
	rand.Read(id[:])
	g.table = &nftables.Table{Name: tablePrefix + hex.EncodeToString(id[:]), Family: nftables.TableFamilyNetdev}
	lock, err := lockName(g.table.Name)
	if err != nil {
		return err
	}
	g.nameLock = lock
	err = createTable(socket, g.table.Name, tableOwner)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		if err = createTable(socket, g.table.Name, 0); err == nil {
			g.log.Info().Msg("guard: the kernel has no table owners (before Linux 5.12): " +
				"after a kill the rules stay until the next start")
		}
	}
	if err != nil {
		lock.Close()
		return fmt.Errorf("create nft table: %w", err)
	}
	return nil
}

// lockName takes the table's name in the abstract unix socket space. That space
// belongs to the network namespace, as the table does, and the kernel frees the
// name when the process ends in any way.
func lockName(name string) (net.Listener, error) {
	l, err := net.Listen("unix", "@uvs/guard/"+name)
	if err != nil {
		return nil, fmt.Errorf("lock name of nft table %s: %w", name, err)
	}
	return l, nil
}

// removeStale deletes tables of Guards that were killed on a kernel without
// table owners. A table whose name is locked is in use.
func (g *Guard) removeStale() error {
	tables, err := g.conn.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return fmt.Errorf("list nft tables: %w", err)
	}
	for _, t := range tables {
		if !strings.HasPrefix(t.Name, tablePrefix) || t.Flags&tableOwner != 0 {
			continue
		}
		l, err := lockName(t.Name)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		} else if err != nil {
			return err
		}
		g.conn.DelTable(t)
		err = g.conn.Flush()
		l.Close()
		if err != nil {
			return fmt.Errorf("remove stale nft table %s: %w", t.Name, err)
		}
		g.log.Info().Str("table", t.Name).Msg("guard: removed the table of a director that is gone")
	}
	return nil
}

// createTable sends a message that package nftables cannot make: a new table
// with flags. Layout: linux/netfilter/nfnetlink.h, nf_tables.h.
func createTable(socket *netlink.Conn, name string, flags uint32) error {
	enc := netlink.NewAttributeEncoder()
	enc.String(unix.NFTA_TABLE_NAME, name)
	enc.ByteOrder = binary.BigEndian
	enc.Uint32(unix.NFTA_TABLE_FLAGS, flags)
	return send(socket, unix.NFT_MSG_NEWTABLE, netlink.Excl, enc)
}

// send sends one message as a transaction.
func send(socket *netlink.Conn, kind uint16, flag netlink.HeaderFlags, enc *netlink.AttributeEncoder) error {
	attrs, err := enc.Encode()
	if err != nil {
		return err
	}
	// struct nfgenmsg: family, version 0, resource id in network order.
	batch := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
	message := func(kind uint16, flags netlink.HeaderFlags, data []byte) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags},
			Data:   data,
		}
	}
	_, err = socket.SendMessages([]netlink.Message{
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, batch),
		message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, netlink.Acknowledge|netlink.Create|flag,
			append([]byte{unix.NFPROTO_NETDEV, unix.NFNETLINK_V0, 0, 0}, attrs...)),
		message(unix.NFNL_MSG_BATCH_END, 0, batch),
	})
	if err == nil {
		_, err = socket.Receive()
	}
	return err
}

// explainErrno explains the errors of a kernel that lacks a feature or forbids
// it. nfnetlink returns EINVAL for a subsystem it does not have.
func explainErrno(err error) error {
	for _, missing := range []error{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.EINVAL} {
		if errors.Is(err, missing) {
			return fmt.Errorf("the kernel cannot keep the host's stack off guarded frames: it needs nf_tables "+
				"with netdev ingress (CONFIG_NF_TABLES, CONFIG_NF_TABLES_NETDEV, CONFIG_NETFILTER_INGRESS): %w", err)
		}
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("not permitted to change nftables, CAP_NET_ADMIN is missing: %w", err)
	}
	return err
}
