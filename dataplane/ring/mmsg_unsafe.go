package ring

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of sendmmsg(2): a message, and the number of bytes sent.
// Go pads it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// sendmmsg sends msgs without waiting, and returns how many the socket took. errno is
// set only if that is none.
func sendmmsg(fd int, msgs []mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
