package privsep

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// setCapabilities is capset(2) for all threads.
func setCapabilities(header *unix.CapUserHeader, data *[2]unix.CapUserData) syscall.Errno {
	_, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(data)), 0)
	return errno
}
