package lab

import (
	"bytes"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxFeatures is how many offloads a kernel can have: netdev_features_t has 64
// bits (linux/netdev_features.h).
const maxFeatures = 64

// From linux/ethtool.h: the string set with the features' names, and the
// longest name with its final zero.
const (
	featureNames  = 4  // ETH_SS_FEATURES
	featureLength = 32 // ETH_GSTRING_LEN
)

// ethtoolStrings is struct ethtool_gstrings (linux/ethtool.h) with room for the
// names of all features.
type ethtoolStrings struct {
	cmd, set, len uint32
	names         [maxFeatures][featureLength]byte
}

// ethtoolFeatures is struct ethtool_sfeatures: for every 32 features, which to
// set, and their values.
type ethtoolFeatures struct {
	cmd, size uint32
	blocks    [maxFeatures / 32]struct{ valid, requested uint32 }
}

// ethtoolIfreq is struct ifreq (linux/if.h) holding a pointer.
type ethtoolIfreq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte // the union's other members are longer
}

// setFeatures turns offloads of a device in the namespace of the calling thread
// on or off, by the names that `ethtool -k` prints. It skips features that the
// kernel or the device does not have or cannot change.
func setFeatures(name string, features map[string]bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	known := &ethtoolStrings{cmd: unix.ETHTOOL_GSTRINGS, set: featureNames}
	if err := ethtool(fd, name, unsafe.Pointer(known)); err != nil {
		return fmt.Errorf("list features of %s: %w", name, err)
	}
	want := &ethtoolFeatures{cmd: unix.ETHTOOL_SFEATURES, size: (known.len + 31) / 32}
	for i, text := range known.names[:min(known.len, maxFeatures)] {
		feature, _, _ := bytes.Cut(text[:], []byte{0})
		on, given := features[string(feature)]
		if !given {
			continue
		}
		block := &want.blocks[i/32]
		block.valid |= 1 << (i % 32)
		if on {
			block.requested |= 1 << (i % 32)
		}
	}
	if err := ethtool(fd, name, unsafe.Pointer(want)); err != nil {
		return fmt.Errorf("set features of %s: %w", name, err)
	}
	return nil
}

// ethtool makes one ETHTOOL_… request for a device.
func ethtool(fd int, name string, request unsafe.Pointer) error {
	req := &ethtoolIfreq{data: request}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(req)))
	runtime.KeepAlive(request)
	if errno != 0 {
		return errno
	}
	return nil
}
