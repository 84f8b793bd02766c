package lab

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value (linux/ethtool.h).
type ethtoolValue struct {
	cmd  uint32
	data uint32
}

// ethtoolIfreq is struct ifreq (linux/if.h) holding a pointer.
type ethtoolIfreq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte // the union's other members are longer
}

// setOffload sends one of the ETHTOOL_S* commands that take a number, for a
// device in the namespace of the calling thread. A kernel or device that does
// not know the offload has none to set.
func setOffload(name string, cmd, value uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	arg := &ethtoolValue{cmd: cmd, data: value}
	req := &ethtoolIfreq{data: unsafe.Pointer(arg)}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(req)))
	runtime.KeepAlive(arg)
	if errno != 0 && !errors.Is(errno, unix.EOPNOTSUPP) {
		return fmt.Errorf("ethtool command %#x on %s: %w", cmd, name, errno)
	}
	return nil
}
