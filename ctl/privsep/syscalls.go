package privsep

// Each list is what strace saw in the tests, and what Go's runtime and standard library may
// use besides.

// runtimeCalls are those of Go's runtime (runtime/sys_linux_*.s) and of package os.
var runtimeCalls = []string{
	"arch_prctl", "brk", "clock_gettime", "clock_gettime64", "clock_nanosleep", "clone", "clone3", "close",
	"epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd2", "exit",
	"exit_group", "fcntl", "fcntl64", "futex", "futex_time64", "getcpu", "getpid", "getrandom", "getrlimit",
	"gettid", "gettimeofday", "madvise", "membarrier", "mincore", "mmap", "mmap2", "mprotect", "mremap",
	"munmap", "nanosleep", "pipe2", "prctl", "prlimit64", "read", "restart_syscall", "rseq", "rt_sigaction",
	"rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_yield", "set_robust_list", "setitimer",
	"sigaltstack", "sigreturn", "tgkill", "timer_create", "timer_delete", "timer_settime", "tkill",
	"ugetrlimit", "uname", "write",
}

// fileCalls are for files and directories.
var fileCalls = []string{
	"_llseek", "copy_file_range", "faccessat", "faccessat2", "fchmod", "fchmodat", "fdatasync", "flock",
	"fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "getcwd",
	"getdents64", "ioctl", "lseek", "mkdirat", "newfstatat", "openat", "openat2", "pread64", "pwrite64",
	"readlinkat", "readv", "renameat", "renameat2", "sendfile", "sendfile64", "splice", "statx", "unlinkat",
	"writev",
}

// socketCalls are for sockets. On 386 some are socketcall.
var socketCalls = []string{
	"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "poll",
	"ppoll", "ppoll_time64", "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto",
	"setsockopt", "shutdown", "socket", "socketcall", "socketpair",
}

// unprivilegedCalls are those of the unprivileged process. It starts no program, traces none,
// mounts nothing and enters no namespace.
var unprivilegedCalls = join(runtimeCalls, fileCalls, socketCalls, []string{
	"dup", "dup2", "dup3", "getegid", "geteuid", "geteuid32", "getgid", "getppid", "getrusage", "getuid",
	"getuid32", "kill", "mlock", "munlock", "process_mrelease", "sched_setaffinity", "sysinfo",
})

// privilegedCalls are those of the privileged process.
var privilegedCalls = join(runtimeCalls, fileCalls, socketCalls, []string{
	"dup", "dup2", "dup3", "getegid", "geteuid", "getgid", "getppid", "getrusage", "getuid", "kill",
	"pidfd_open", "pidfd_send_signal", "setns", "wait4", "waitid",
})

func join(lists ...[]string) (all []string) {
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}
