package guard

import (
	"errors"
	"net"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"uvs/dataplane/ring"
)

// LockInterface takes an interface of the network namespace for the caller, until all copies of the
// file are closed. The error is EADDRINUSE while another has it. The lock is an nft table
// with an owner, which only those with CAP_NET_ADMIN can make. A kernel without table owners
// has an abstract unix socket instead, whose name any user can take.
func LockInterface(name string) (*os.File, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	switch err = createTable(conn, "uvs_interface_"+name, tableOwner); {
	case err == nil:
		fd, err := ring.CopyFD(conn)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), "lock"), nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EEXIST): // another's
		return nil, unix.EADDRINUSE
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		l, err := net.Listen("unix", "@uvs/interface/"+name)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		return l.(*net.UnixListener).File()
	}
	return nil, err
}
