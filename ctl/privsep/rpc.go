package privsep

import (
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// The sockets of the unprivileged process to the privileged one.
const (
	requestFD = 3 // a stream with net/rpc
	fileFD    = 4 // SOCK_SEQPACKET: one descriptor in each message
)

// serviceName is the name of the service in net/rpc.
const serviceName = "Privileged"

// pair makes two connected sockets.
func pair(kind int) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs"), nil
}

// files are a socket that carries descriptors.
type files struct {
	mu     sync.Mutex
	socket *os.File
}

// send sends descriptors, one in each message. They stay open here.
func (f *files) send(fds ...int) error {
	for _, fd := range fds {
		err := unix.Sendmsg(int(f.socket.Fd()), []byte{0}, unix.UnixRights(fd), nil, 0)
		if err != nil {
			return fmt.Errorf("pass descriptor %d: %w", fd, err)
		}
	}
	return nil
}

// receive receives n descriptors, or none.
func (f *files) receive(n int) (fds []int, err error) {
	for range n {
		fd, err := f.receiveOne()
		if err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func (f *files) receiveOne() (fd int, err error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(f.socket.Fd()), make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("receive a descriptor: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("receive a descriptor: %w", cmpErr(err))
	}
	rights, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(rights) != 1 {
		return -1, fmt.Errorf("receive a descriptor: %w", cmpErr(err))
	}
	return rights[0], nil
}

func cmpErr(err error) error {
	if err == nil {
		err = errors.New("there is none in the message")
	}
	return err
}

// remoteError is an error of the other process, with its errno if it had one.
type remoteError struct {
	text  string
	errno unix.Errno
}

func (e *remoteError) Error() string { return e.text }

func (e *remoteError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// encodeError makes an error whose text has the errno in front. net/rpc passes only texts.
func encodeError(err error) error {
	if err == nil {
		return nil
	}
	var errno unix.Errno
	errors.As(err, &errno)
	return fmt.Errorf("%d %w", errno, err)
}

// decodeError is the reverse of encodeError. It leaves net/rpc's own errors alone.
func decodeError(err error) error {
	var server rpc.ServerError
	if !errors.As(err, &server) {
		return err
	}
	number, text, _ := strings.Cut(string(server), " ")
	errno, failed := strconv.ParseUint(number, 10, 16)
	if failed != nil {
		return err
	}
	return &remoteError{text, unix.Errno(errno)}
}

// listenerOf makes a listener of a descriptor, which it closes.
func listenerOf(fd int) (net.Listener, error) {
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	return net.FileListener(file)
}
