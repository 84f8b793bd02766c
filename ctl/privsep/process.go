package privsep

import (
	"errors"
	"fmt"
	"net/rpc"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"uvs/ctl/guard"
)

// Name is the name by which the unprivileged process calls its binary.
const Name = "uvs-director"

// Process is the unprivileged process.
type Process struct {
	cmd     *exec.Cmd
	signals chan os.Signal
}

// Start starts the unprivileged process, which asks part. The process keeps the locks open.
func Start(part Part, locks []*os.File) (*Process, error) {
	requests, theirRequests, err := pair(unix.SOCK_STREAM | unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, err
	}
	defer theirRequests.Close()
	carrier, theirCarrier, err := pair(unix.SOCK_SEQPACKET)
	if err != nil {
		requests.Close()
		return nil, err
	}
	defer theirCarrier.Close()
	p := &Process{signals: make(chan os.Signal, 8)}
	// Not os.Executable: another binary may have taken its place.
	p.cmd = exec.Command("/proc/self/exe")
	p.cmd.Args = []string{Name}
	p.cmd.Stdout, p.cmd.Stderr = os.Stdout, os.Stderr
	p.cmd.ExtraFiles = append([]*os.File{theirRequests, theirCarrier}, locks...)
	// A terminal's signals come to this process only, which passes them on.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		requests.Close()
		carrier.Close()
		return nil, fmt.Errorf("start the unprivileged process: %w", err)
	}
	server := newServer(part, carrier, p.signals)
	go func() {
		server.ServeConn(requests) // it ends with the other process
		carrier.Close()
	}()
	return p, nil
}

func newServer(part Part, carrier *os.File, signals chan os.Signal) *rpc.Server {
	server := rpc.NewServer()
	_ = server.RegisterName(serviceName, &service{ // only a method of a wrong shape is an error
		part: part, carrier: carrier, signals: signals,
		guard: guardServer{services: map[uint64]*guard.ServiceRules{}},
	})
	return server
}

// Signal passes a signal on. One that does not fit any more is lost.
func (p *Process) Signal(s os.Signal) {
	select {
	case p.signals <- s:
	default:
	}
}

// Wait waits until the process ends. The error says how it ended, unless it exited by itself.
func (p *Process) Wait() (status int, err error) {
	err = p.cmd.Wait()
	state := p.cmd.ProcessState
	if state == nil {
		return 1, fmt.Errorf("wait for the unprivileged process: %w", err)
	}
	switch signal := state.Sys().(syscall.WaitStatus).Signal(); signal {
	case -1:
		return state.ExitCode(), nil
	case unix.SIGSYS:
		return 1, errors.New("the unprivileged process used a system call that it may not; " +
			"it was ended, and the kernel's log names the call. uvs run --sandbox=false does without the list")
	default:
		return 1, fmt.Errorf("the unprivileged process was ended: %s", signal)
	}
}
