package privsep

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// Sandbox is what a process has given up. It is what `uvs status` shows.
type Sandbox struct {
	User     int  // the user now
	Seccomp  bool // system calls are limited to a list
	Landlock bool // so are files
}

func (s Sandbox) String() string {
	text := fmt.Sprintf("user %d", s.User)
	for _, limit := range []struct {
		name string
		on   bool
	}{{"landlock", s.Landlock}, {"seccomp", s.Seccomp}} {
		if text += ", "; !limit.on {
			text += "no "
		}
		text += limit.name
	}
	return text
}

// Drop makes this process the unprivileged one: of another user and
// group unless the user is -1, without any
// capability, with few files and system calls. The state directory stays writable.
func Drop(user, group int, state *os.File) (Sandbox, error) {
	if err := limitBounding(); err != nil { // another user may not
		return Sandbox{}, err
	}
	if user >= 0 {
		if err := become(user, group); err != nil {
			return Sandbox{}, fmt.Errorf("become user %d: %w", user, err)
		}
	}
	if err := keepCapabilities(); err != nil {
		return Sandbox{}, err
	}
	s := Sandbox{User: os.Getuid()}
	var err error
	if s.Landlock, err = limitFiles(state); err != nil {
		return s, err
	}
	s.Seccomp, err = limitCalls(unprivilegedCalls)
	return s, err
}

// DropPrivileged leaves the privileged process what it needs while the other runs: its files,
// and these capabilities.
func DropPrivileged(capabilities ...int) error {
	if err := limitBounding(capabilities...); err != nil {
		return err
	}
	if err := keepCapabilities(capabilities...); err != nil {
		return err
	}
	_, err := limitCalls(privilegedCalls)
	return err
}

// become changes user and group of all threads. The kernel takes all capabilities away.
func become(user, group int) error {
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setresgid(group, group, group); err != nil {
		return err
	}
	if err := syscall.Setresuid(user, user, user); err != nil {
		return err
	}
	// /proc/self belongs to root after a change of the user, unless the process may be dumped.
	return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
}

// limitBounding takes all other capabilities from the bounding set of all threads: no program
// that they start can get them. That needs CAP_SETPCAP; who does not have it is not root.
func limitBounding(list ...int) error {
	for c := range unix.CAP_LAST_CAP + 1 {
		if slices.Contains(list, c) {
			continue
		}
		_, _, errno := psx.Syscall3(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0)
		if errno != 0 && errno != unix.EPERM && errno != unix.EINVAL {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, errno)
		}
	}
	return nil
}

// keepCapabilities takes all other capabilities from all threads, for ever.
func keepCapabilities(list ...int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	var keep [2]uint32
	for _, c := range list {
		keep[c/32] |= 1 << (c % 32)
	}
	for i := range data {
		data[i].Permitted &= keep[i]
		data[i].Effective, data[i].Inheritable = data[i].Permitted, 0
	}
	if errno := setCapabilities(&header, &data); errno != 0 {
		return fmt.Errorf("drop capabilities: %w", errno)
	}
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("set no_new_privs: %w", errno)
	}
	return nil
}

// limitFiles leaves the process what it reads of the host, and the state directory.
func limitFiles(state *os.File) (limited bool, err error) {
	if version, err := landlockVersion(); err != nil || version < 1 {
		return false, nil
	}
	rules := []landlock.Rule{landlock.RODirs("/proc", "/etc").IgnoreIfMissing()}
	if state != nil {
		rules = append(rules, landlock.RWDirs(fmt.Sprintf("/proc/self/fd/%d", state.Fd())))
	}
	if err := landlock.V5.BestEffort().RestrictPaths(rules...); err != nil {
		return false, fmt.Errorf("limit files by landlock: %w", err)
	}
	return true, nil
}

// landlockVersion returns the version of the kernel's landlock (LANDLOCK_CREATE_RULESET_VERSION).
func landlockVersion() (int, error) {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1)
	if errno != 0 {
		return 0, errno
	}
	return int(v), nil
}

// limitCalls ends the process at any system call that is not of the list. On machines whose
// calls the filter does not know there is no limit.
func limitCalls(list []string) (limited bool, err error) {
	info, err := arch.GetInfo(runtime.GOARCH)
	if err != nil || !seccomp.Supported() {
		return false, nil // an error is that the package does not know the machine
	}
	var names []string
	for _, name := range list {
		if _, ok := info.SyscallNames[name]; ok {
			names = append(names, name)
		}
	}
	err = seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true, Flag: seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionKillProcess,
			Syscalls:      []seccomp.SyscallGroup{{Action: seccomp.ActionAllow, Names: names}},
		},
	})
	if err != nil {
		return false, fmt.Errorf("limit system calls: %w", err)
	}
	return true, nil
}
