package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/go-json-experiment/json"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/ctl/localnode"
	"uvs/ctl/privsep"
	"uvs/ctl/rest"
	"uvs/ctl/routes"
	"uvs/ctl/store"
	"uvs/dataplane/ring"
)

// privileged is the part of the director that needs the rights of who started it.
type privileged struct {
	routes.ThisProcess
	*guard.Guard

	opts  *options
	cfg   *runConfig
	log   zerolog.Logger
	begin privsep.Begin
	rings ring.Config
	locks interfaceLocks
	close []func()
}

// newPrivileged opens what the director needs before it starts.
func newPrivileged(opts *options, cfg *runConfig, log zerolog.Logger) (_ *privileged, err error) {
	p := &privileged{opts: opts, cfg: cfg, log: log}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.begin.User, p.begin.Group, err = unprivilegedUser(cfg); err != nil {
		return nil, err
	}
	if p.locks, err = lockInterfaces(cfg.Interfaces); err != nil { // first: it waits for the end of a director
		return nil, err
	}
	p.onClose(p.locks.Close)
	access := rest.Access{Group: cfg.Group, Readers: cfg.Readers}
	if p.begin.Listener, err = rest.Listen(cfg.Socket, access); err != nil {
		return nil, err
	}
	p.onClose(func() { p.begin.Listener.Close() })
	if cfg.TLS != nil {
		if p.begin.Remote, err = rest.ListenTLS(*cfg.TLS); err != nil {
			return nil, err
		}
		p.onClose(func() { p.begin.Remote.Close() })
	}
	if cfg.State != "" {
		if p.begin.State, err = store.Prepare(cfg.State, p.begin.User); err != nil {
			return nil, err
		}
	}
	if p.Guard, err = guard.New(log); err != nil {
		return nil, err
	}
	p.onClose(func() { p.Guard.Close() })
	if err := p.openLocalNode(); err != nil {
		return nil, err
	}
	p.rings = ringConfig(cfg, p.begin.LocalNode)
	p.begin.PID = os.Getpid()
	p.begin.HasRemote, p.begin.HasState = p.begin.Remote != nil, p.begin.State != nil
	p.begin.Config, err = encodeConfig(cfg)
	return p, err
}

func (p *privileged) onClose(f func()) { p.close = append(p.close, f) }

// Close closes everything in the reverse order of opening.
func (p *privileged) Close() {
	for len(p.close) > 0 {
		last := len(p.close) - 1
		p.close[last]()
		p.close = p.close[:last]
	}
}

// openLocalNode makes the device to the host's stack, if the options ask for it.
func (p *privileged) openLocalNode() (err error) {
	if !p.cfg.LocalNode {
		return nil
	}
	if p.begin.LocalNode, err = localnode.New(); err != nil {
		return err
	}
	p.onClose(p.begin.LocalNode.Close)
	return p.RedirectReplies(p.begin.LocalNode.HostIndex, p.begin.LocalNode.DirectorMAC)
}

// Begin returns what was opened.
func (p *privileged) Begin() (*privsep.Begin, error) { return &p.begin, nil }

// Config reads the configuration again.
func (p *privileged) Config() ([]byte, error) {
	cfg, err := p.opts.load()
	if err != nil {
		return nil, err
	}
	return encodeConfig(cfg)
}

// Certificates reads the files of the API's certificates.
func (p *privileged) Certificates() ([3][]byte, error) {
	if p.cfg.TLS == nil {
		return [3][]byte{}, fmt.Errorf("there is no API for other hosts: %w", unix.ENOENT)
	}
	return rest.CertificateFiles(*p.cfg.TLS)()
}

// Sockets opens the sockets of an interface.
func (p *privileged) Sockets(i int) ([]ring.Sockets, error) {
	if i < 0 || i >= len(p.rings.Interfaces) {
		return nil, fmt.Errorf("interface number %d: there are %d", i, len(p.rings.Interfaces))
	}
	return ring.OpenSockets(p.rings, p.cfg.Workers, i)
}

// Notify tells the service manager a state; without one it does nothing.
func (p *privileged) Notify(state string) error {
	_, err := daemon.SdNotify(false, state)
	return err
}

// supervise starts the unprivileged process, passes signals on to it and waits for its end.
func (p *privileged) supervise(signals <-chan os.Signal) error {
	process, err := privsep.Start(p, p.locks)
	if err != nil {
		return err
	}
	go func() {
		for s := range signals {
			if process.Signal(s); s != syscall.SIGHUP {
				signal.Reset(syscall.SIGINT, syscall.SIGTERM) // a second one ends the process at once
			}
		}
	}()
	capabilities := []int{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_DAC_READ_SEARCH}
	if p.cfg.LocalNode {
		capabilities = append(capabilities, unix.CAP_SYS_ADMIN) // setns(2)
	}
	if err := privsep.DropPrivileged(capabilities...); err != nil {
		return err
	}
	status, err := process.Wait()
	if err != nil {
		return err
	}
	return exited(status)
}

// defaultUser is the user without an account that the unprivileged process becomes. Debian and
// systemd leave the number to administrators (Debian policy 9.2.2; systemd, UIDS-GIDS).
const defaultUser = 64738

// unprivilegedUser returns user and group of the unprivileged process: those of the options'
// account, of the account uvs, or defaultUser. They are -1 if this process cannot become another.
func unprivilegedUser(cfg *runConfig) (uid, gid int, err error) {
	if !cfg.Sandbox {
		return -1, -1, nil
	}
	uid, gid = defaultUser, defaultUser
	account, none := user.Lookup(cmp.Or(cfg.User, "uvs"))
	switch {
	case none == nil:
		var err1, err2 error
		uid, err1 = strconv.Atoi(account.Uid)
		gid, err2 = strconv.Atoi(account.Gid)
		err = errors.Join(err1, err2)
	case cfg.User != "":
		err = fmt.Errorf("there is no user %q; see /etc/passwd", cfg.User)
	}
	if err == nil && (os.Geteuid() != 0 || !mapped("uid", uid) || !mapped("gid", gid)) {
		uid, gid = -1, -1
	}
	return uid, gid, err
}

// mapped reports whether the user namespace of this process has a uid or gid (user_namespaces(7)).
func mapped(kind string, id int) bool {
	text, err := os.ReadFile("/proc/self/" + kind + "_map")
	for line := range strings.Lines(string(text)) {
		var inside, outside, n int
		if _, err := fmt.Sscan(line, &inside, &outside, &n); err == nil && id >= inside && id-inside < n {
			return true
		}
	}
	return err != nil
}

// encodedConfig is a runConfig for another process.
type encodedConfig struct {
	Path     string           `json:"path"`
	Run      config.Run       `json:"run"`
	Document *config.Document `json:"document"`
	Digest   string           `json:"digest"`
}

func encodeConfig(cfg *runConfig) ([]byte, error) {
	return json.Marshal(encodedConfig{Path: cfg.path, Run: cfg.Run, Document: cfg.document, Digest: cfg.digest})
}

// decodeConfig is the reverse. It passes an error on.
func decodeConfig(text []byte, err error) (*runConfig, error) {
	if err != nil {
		return nil, err
	}
	var e encodedConfig
	if err := config.Decode(text, &e); err != nil {
		return nil, err
	}
	cfg := &runConfig{Run: e.Run, path: e.Path, document: e.Document, digest: e.Digest}
	return cfg, cfg.check()
}

// directorMain is the unprivileged process.
func directorMain() int {
	signal.Ignore(syscall.SIGPIPE)
	client, err := privsep.Connect()
	if err != nil {
		return report(nil, err)
	}
	signals := client.Signals()
	begin, err := client.Begin()
	if err != nil {
		return report(nil, err)
	}
	sandbox, err := privsep.Drop(begin.User, begin.Group, begin.State)
	if err != nil {
		return report(nil, err)
	}
	return report(nil, runDirector(client, begin, signals, sandbox.String()))
}

// remoteListener returns the listener for other hosts; nil: there is none.
func remoteListener(part privsep.Part, begin *privsep.Begin) (net.Listener, error) {
	if begin.Remote == nil {
		return nil, nil
	}
	return rest.Secure(begin.Remote, part.Certificates)
}
