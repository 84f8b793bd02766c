package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// roleVariable says what a copy of the test binary is to do, and in which directory.
const roleVariable = "UVS_STORE_TEST"

func TestMain(m *testing.M) {
	role, dir, _ := strings.Cut(os.Getenv(roleVariable), " ")
	switch role {
	case "writer":
		writer(dir)
	case "opener":
		s, _, err := Open(dir)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		s.Close()
	default:
		os.Exit(m.Run())
	}
}

// process returns a copy of the test binary with a role.
func process(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), roleVariable+"="+role+" "+dir)
	return cmd
}

// writer adds changes for ever. It prints "+N" before it appends N, "-N" before it takes N
// back, and "." when that is done.
func writer(dir string) {
	s, kept, err := Open(dir)
	check := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	check(err)
	list := strings.Fields(string(kept.Document))
	for _, r := range kept.Records {
		list = append(list, strconv.FormatUint(r.Revision, 10))
	}
	for n := kept.Revision + 1; ; n++ {
		fmt.Printf("+%d\n", n)
		check(s.Append(n, []byte(record(n))))
		fmt.Println(".")
		list = append(list, strconv.FormatUint(n, 10))
		switch {
		case n%5 == 0:
			fmt.Printf("-%d\n", n)
			check(s.TakeBack())
			fmt.Println(".")
			list = list[:len(list)-1]
		case n%7 == 0:
			list = list[max(len(list)-50, 0):] // a document of bounded size
			check(s.Snapshot(n, []byte(strings.Join(list, " "))))
		}
	}
}

// A writer is killed at random moments. All that it was told is kept, and at most one change more.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	var acknowledged []uint64
	for round := range rounds {
		cmd := process(t, "writer", dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		begun := acknowledged
		kill := rand.IntN(120)
		for n := 0; lines.Scan(); n++ {
			if n == kill {
				must(t, cmd.Process.Kill())
			}
			line := lines.Text()
			revision, err := strconv.ParseUint(line[1:], 10, 64)
			switch {
			case line == ".":
				acknowledged = begun
				continue
			case line[0] == '-':
				begun = acknowledged[:len(acknowledged)-1]
			default:
				begun = append(slices.Clone(acknowledged), revision)
			}
			must(t, err)
		}
		_ = cmd.Wait()
		s, kept, err := Open(dir)
		must(t, err)
		list := strings.Fields(string(kept.Document))
		for _, r := range kept.Records {
			list = append(list, fmt.Sprint(r.Revision))
		}
		must(t, s.Close())
		switch got := strings.Join(list, " "); {
		case strings.HasSuffix(" "+document(acknowledged), " "+got) && len(list) >= min(len(acknowledged), 50):
		case strings.HasSuffix(" "+document(begun), " "+got) && len(list) >= min(len(begun), 50):
			acknowledged = begun
		default:
			t.Fatalf("round %d: kept %s, want the end of %d or of %d", round, got, acknowledged, begun)
		}
	}
}

// A second process is refused while the first has the directory, and only then.
func TestTwoProcesses(t *testing.T) {
	s, _ := mustOpen(t, t.TempDir())
	out, err := process(t, "opener", s.dir.name).Output()
	if err == nil {
		t.Error("a second process opened the directory")
	}
	want := "state directory " + s.dir.name + ": another director uses it\n"
	if string(out) != want {
		t.Errorf("it said %q, want %q", out, want)
	}
	must(t, s.Close())
	if out, err := process(t, "opener", s.dir.name).CombinedOutput(); err != nil {
		t.Errorf("after Close: %v: %s", err, out)
	}
}

// inMountNamespace runs the rest of the test in a process with mounts of its own, and
// returns false in this one.
func inMountNamespace(t *testing.T) bool {
	t.Helper()
	if strings.HasPrefix(os.Getenv(roleVariable), "mounts") {
		must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		return true
	}
	cmd := process(t, "mounts", "")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("needs mount namespaces: ", err)
	}
	if err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// smallDisk mounts a file system of 256 KiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// A full disk refuses changes, in one line, and loses none. When there is room again, changes
// are accepted again.
func TestFullDisk(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	dir := smallDisk(t)
	s, _ := mustOpen(t, filepath.Join(dir, "state"))
	must(t, s.Append(1, []byte("a")))
	must(t, s.Snapshot(1, []byte("1")))
	must(t, s.AddVersion(Version{Revision: 1}, []byte("1")))
	must(t, s.Append(2, []byte("b")))

	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	before := tree(t, s.dir.name)
	big := bytes.Repeat([]byte("x"), 10_000) // its first part fits into the last page
	wantError(t, s.Append(3, big), s.dir.path("journal")+": no space left on device")
	wantError(t, s.Snapshot(2, big), s.dir.path(newFile)+": no space left on device")
	wantError(t, s.AddVersion(Version{Revision: 2}, big), s.dir.path(newFile)+": no space left on device")
	if after := tree(t, s.dir.name); after != before {
		t.Errorf("%s became %s", before, after)
	}
	must(t, s.Append(3, []byte("c"))) // fits into the last page
	must(t, s.TakeBack())

	must(t, os.Remove(ballast))
	must(t, s.Append(3, big))
	s, kept := reopen(t, s)
	wantKept(t, kept, fmt.Sprintf(`"1" 2=b 3=%s at 3`, big))
	must(t, s.Snapshot(3, big))
}

// A limit on the size of files is as a full disk is.
func TestFileSizeLimit(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	signal.Ignore(unix.SIGXFSZ)
	s, _ := mustOpen(t, t.TempDir())
	must(t, s.Append(1, []byte("a")))
	before := tree(t, s.dir.name)
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	for size := s.end.offset; size < s.end.offset+20; size++ {
		must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(size), Max: old.Max}))
		wantError(t, s.Append(2, []byte("bb")), s.dir.path("journal")+": file too large")
		wantError(t, s.Snapshot(1, make([]byte, 200)), newFile+": file too large")
		if after := tree(t, s.dir.name); after != before {
			t.Fatalf("%s became %s", before, after)
		}
	}
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old))
	must(t, s.Append(2, []byte("bb")))
	_, kept := reopen(t, s)
	wantKept(t, kept, `"" 1=a 2=bb at 2`)
}

// A directory that cannot be written is refused when it is opened.
func TestReadOnly(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	dir := smallDisk(t)
	s, _ := mustOpen(t, filepath.Join(dir, "state"))
	must(t, s.Close())
	must(t, os.Mkdir(filepath.Join(dir, "empty"), 0o700))
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	for _, name := range []string{"state", "empty", "missing"} {
		_, _, err := Open(filepath.Join(dir, name))
		wantError(t, err, filepath.Join(dir, name), "read-only file system")
	}
}
