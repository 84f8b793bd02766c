package privsep

import (
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The sockets of the unprivileged process to the privileged one.
const (
	requestFD = 3 // a stream with net/rpc
	fileFD    = 4 // SOCK_SEQPACKET, for descriptors
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

// maxFiles is the most descriptors in a message (SCM_MAX_FD, include/net/scm.h).
const maxFiles = 253

// sendFiles sends descriptors, with as few messages as it takes: the kernel queues some ten for
// a reader, who begins only after the reply. They stay open here.
func sendFiles(socket *os.File, fds []int) error {
	for chunk := range slices.Chunk(fds, maxFiles) {
		if err := unix.Sendmsg(int(socket.Fd()), []byte{0}, unix.UnixRights(chunk...), nil, 0); err != nil {
			return fmt.Errorf("pass %d descriptors: %w", len(chunk), err)
		}
	}
	return nil
}

// receiveFiles receives n descriptors, or none.
func receiveFiles(socket *os.File, n int) (fds []int, err error) {
	for len(fds) < n && err == nil {
		var some []int
		some, err = receiveMessage(socket)
		fds = append(fds, some...)
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("receive %d descriptors: %w", n, err)
	}
	return fds, nil
}

// receiveMessage receives the descriptors of a message.
func receiveMessage(socket *os.File) ([]int, error) {
	control := make([]byte, unix.CmsgSpace(4*maxFiles))
	_, n, _, _, err := unix.Recvmsg(int(socket.Fd()), make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, errors.New("there is none in the message")
	}
	return unix.ParseUnixRights(&messages[0])
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
